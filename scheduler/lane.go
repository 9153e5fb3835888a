package scheduler

import (
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Lane is source × site: where connections live.
type Lane struct {
	Source string `json:"source"`
	Site   string `json:"site"`
}

type lane struct {
	key      Lane
	site     *site
	own, all *links      // carrier × source, and the carrier over all sources
	pools    []poolLinks // the source's pools at the carrier, where policy bounds them
	away     bool        // this node may not use the source
	opening  int
	doubtful int // of those, begun after a failure
	open     int // established
	idle     int
	leaving  int // told to end
	fails    int
	rest     instant // back-off: no new session before
	failed   instant // when a session failed that counted
	reply    message.Reply
	proven   bool // a session has been established since the last failure
	crowd    crowd
	strays   int // sessions in a row that were let in and carried nothing, while others did
}

func (s *Scheduler) laneFor(st *site, source string, now instant) *lane {
	key := Lane{source, st.name}
	l := s.lanes[key]
	if l == nil {
		l = &lane{key: key, site: st, away: !s.usable(source)}
		s.limits.bind(now, l, s.poolsOf[source])
		s.lanes[key] = l
		st.lanes = append(st.lanes, l)
	}
	return l
}

// Dispatch is one delivery on its way.
type Dispatch struct {
	Delivery *message.Delivery
	Carrier  string
	// MaxRecipients bounds the recipients of one transaction.
	MaxRecipients int
}

// Next gives the lane's next delivery, spending the budgets in its way. When
// there is none, retry is the time at which the lane's own budgets allow one
// again (zero when it is not they that stand in the way).
func (s *Scheduler) Next(now time.Time, key Lane) (d Dispatch, retry time.Time, ok bool) {
	l := s.lanes[key]
	if l == nil {
		return d, retry, false
	}
	t := at(now)
	if l.away || s.sourceHeld(l) != nil || l.over() {
		return d, retry, false
	}
	if when := l.ready(t); when > t {
		if when == never {
			return d, retry, false
		}
		return d, when.time(), false
	}
	q := s.pick(l, t)
	if q == nil {
		return d, retry, false
	}
	return s.dispatch(l, q, t, true), retry, true
}

// pick finds the queue whose turn it is among the groups that the lane's
// source may serve.
func (s *Scheduler) pick(l *lane, now instant) *queue {
	st := l.site
	for _, p := range orderOf(st.turn) {
		for i := range st.groups {
			g := st.groups[(st.pick+i)%len(st.groups)]
			if g.classes[p].line.first() == nil || !s.mayServe(g, l, now) {
				continue
			}
			q := s.pickIn(&g.classes[p], now)
			if q != nil && s.heldHere(q, l) {
				q = s.pickAround(&g.classes[p], l, now)
			}
			if q != nil {
				st.pick++
				st.turn++ // only now: looking in vain is nobody's turn
				return q
			}
		}
	}
	return nil
}

func (s *Scheduler) dispatch(l *lane, q *queue, now instant, spend bool) Dispatch {
	f := q.flow
	it := q.popFront()
	it.flight, it.lane, it.taken = true, nil, now
	q.flying++
	s.count.Loaded--
	s.count.InFlight++
	s.count.Dispatched++
	carrier := s.carrierOf(l.site.carrier)
	d := Dispatch{Delivery: it.d, Carrier: l.site.carrier, MaxRecipients: carrier.RecipientsPerTransaction}
	if spend {
		it.lane = l
		it.days = s.limits.spend(now, l, &q.key, [...]*scope{f.tenant.limits, f.tenant.atOne, f.stream, f.job})
		f.tenant.group.charge(l)
	}
	g := f.tenant.group
	g.lastWent, g.impatient = now, false
	s.went(q, now)
	s.moved(q, now)
	s.place(q, now)
	s.watch(g)
	s.beHungry(l.site)
	if l.site.backlog > 0 {
		s.wakeSite(l.site)
	}
	return d
}

func (s *Scheduler) carrierOf(name string) *policy.Carrier {
	if c := s.set.Carriers[name]; c != nil {
		return c
	}
	return s.set.Carriers[policy.DefaultName]
}

// strideSlack is how far one source of a pool, with weight 1, may get ahead of
// the others.
const strideSlack = 32 * strideOne

// mayServe is the pool's weighted choice: a source that is ahead lets one go
// first that could go at once, and has a connection opened for one that has too
// few. One that is behind because it is slow, out of budget or not reached
// holds nobody up, and does not catch up later either.
func (s *Scheduler) mayServe(g *group, l *lane, now instant) bool {
	me := g.member(l.key.Source)
	if me == nil {
		return false
	}
	for i := range g.members {
		m := &g.members[i]
		slack := strideSlack / int64(min(m.weight, me.weight))
		switch {
		case m == me || m.pass >= me.pass-slack:
			continue
		case m.lane == nil || m.lane.idle == 0 || !s.canPull(m.lane, now):
			s.grow(g, m, now)
			if m.lane.opening == 0 && g.grows != m {
				m.pass = me.pass - slack
			}
			m.pass = max(m.pass, me.pass-4*slack)
		default:
			return false
		}
	}
	return true
}

// grow asks for one more connection from a source that is behind.
func (s *Scheduler) grow(g *group, m *poolMember, now instant) {
	if m.lane == nil {
		m.lane = s.laneFor(g.site, m.name, now)
	}
	if _, can := s.canOpen(m.lane, now); can && g.grows == nil {
		g.grows = m
		s.beHungry(g.site)
	}
}

// ready is when all budgets of the lane can spend; now or earlier means now.
func (l *lane) ready(now instant) instant {
	when := max(l.own.ready(now), l.all.ready(now))
	for _, p := range l.pools {
		when = max(when, p.ready(now))
	}
	return when
}

// over reports whether there are more connections than there may be, so that
// the next session that asks shall end.
func (l *lane) over() bool {
	if l.own.excess() > 0 || l.all.excess() > 0 {
		return true
	}
	for _, p := range l.pools {
		if p.excess() > 0 {
			return true
		}
	}
	return false
}

// canPull reports whether nothing of the lane's own keeps it from taking mail.
func (s *Scheduler) canPull(l *lane, now instant) bool {
	return !l.away && l.ready(now) <= now && s.sourceHeld(l) == nil
}

func (g *group) member(source string) *poolMember {
	for i := range g.members {
		if g.members[i].name == source {
			return &g.members[i]
		}
	}
	return nil
}

func (g *group) charge(l *lane) {
	if len(g.members) == 1 {
		return
	}
	if me := g.member(l.key.Source); me != nil {
		me.pass += strideOne / int64(me.weight)
	}
}

// Idle notes that n sessions of the lane began (+1) or ended (-1) to wait for
// work.
func (s *Scheduler) Idle(key Lane, n int) {
	if l := s.lanes[key]; l != nil {
		l.idle += n
		l.site.idle += n
		if st := l.site; st.idle > 0 {
			s.resting.add(&st.rest, st)
		} else {
			s.resting.remove(&st.rest)
		}
		s.beHungry(l.site) // it may wait for a budget that other sources have
	}
}

// Victim gives one ready delivery of the lane out although the lane cannot
// carry it, so that a failed connection shows as an attempt of something:
// otherwise a site that is down would leave no trace in the event log.
func (s *Scheduler) Victim(now time.Time, key Lane) (Dispatch, bool) {
	l := s.lanes[key]
	if l == nil {
		return Dispatch{}, false
	}
	t := at(now)
	if q := s.pick(l, t); q != nil {
		return s.dispatch(l, q, t, false), true
	}
	return Dispatch{}, false
}
