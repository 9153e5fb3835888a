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
	own, all *links // carrier × source, and the carrier over all sources
	opening  int
	open     int // established
	idle     int
	fails    int
	rest     instant // back-off: no new session before
	reply    message.Reply
	proven   bool // a session has been established since the last failure
}

func (s *Scheduler) laneFor(st *site, source string, now instant) *lane {
	key := Lane{source, st.name}
	l := s.lanes[key]
	if l == nil {
		l = &lane{key: key, site: st}
		s.limits.bind(now, l)
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

// Shares of the lower classes under contention: of every 16 dispatches at a
// site one is offered to Low first and one to Normal first, so that High
// cannot starve them, nor Normal Low.
const (
	shareTurns = 16
	turnLow    = 7
	turnNormal = 15
)

var classOrders = [3][message.Priorities]message.Priority{
	{message.High, message.Normal, message.Low},
	{message.Normal, message.High, message.Low},
	{message.Low, message.High, message.Normal},
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
	if len(s.holds) > 0 && s.sourceHeld(key.Source, l.site.carrier) != nil {
		return d, retry, false
	}
	if when := max(l.own.ready(t), l.all.ready(t)); when > t {
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
	st.turn++
	order := &classOrders[0]
	switch st.turn % shareTurns {
	case turnLow:
		order = &classOrders[2]
	case turnNormal:
		order = &classOrders[1]
	}
	for _, p := range order {
		for i := range st.groups {
			g := st.groups[(st.pick+i)%len(st.groups)]
			if len(g.classes[p].ring.members) == 0 || !s.mayServe(g, l, now) {
				continue
			}
			if q := s.pickIn(&g.classes[p], now); q != nil {
				st.pick++
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
		s.spend(l, f, now)
		s.charge(l, q.key.Pool)
	}
	tt := f.tenant
	tt.flows.spend(f)
	tt.class.ring.spend(tt)
	if q.loaded() == 0 {
		s.recent.remove(q)
	} else {
		s.recent.touch(q)
	}
	s.place(q, now)
	s.beHungry(l.site)
	if l.site.backlog > 0 {
		s.wakeSite(l.site)
	}
	return d
}

func (s *Scheduler) spend(l *lane, f *flow, now instant) {
	l.own.take(now)
	l.all.take(now)
	f.tenant.limits.take(now)
	f.stream.take(now)
	if f.key.job != "" {
		if j := s.limits.job(jobKey{f.tenant.name, f.key.job}); j != nil {
			j.take(now)
		}
	}
}

func (s *Scheduler) carrierOf(name string) *policy.Carrier {
	if c := s.set.Carriers[name]; c != nil {
		return c
	}
	return s.set.Carriers[policy.DefaultName]
}

// strideOne is one message of a source with weight 1.
const (
	strideOne   = 1 << 20
	strideSlack = 32 * strideOne
)

// mayServe is the pool's weighted choice: a source that is ahead lets one go
// first that could go at once. One that is behind because it is slow, or out
// of budget, holds nobody up, and does not catch up later either.
func (s *Scheduler) mayServe(g *group, l *lane, now instant) bool {
	me := g.member(l.key.Source)
	if me == nil {
		return false
	}
	if len(g.members) == 1 {
		return true
	}
	for i := range g.members {
		m := &g.members[i]
		if m == me {
			continue
		}
		behind := me.pass - strideSlack/int64(min(m.weight, me.weight))
		if m.pass >= behind {
			continue
		}
		o := s.lanes[Lane{m.name, l.key.Site}]
		if o != nil && o.idle > 0 && max(o.own.ready(now), o.all.ready(now)) <= now {
			return false
		}
		m.pass = behind
	}
	return true
}

func (g *group) member(source string) *poolMember {
	for i := range g.members {
		if g.members[i].name == source {
			return &g.members[i]
		}
	}
	return nil
}

func (s *Scheduler) charge(l *lane, pool string) {
	g := l.site.groupOf(s.set, pool)
	if me := g.member(l.key.Source); me != nil && len(g.members) > 1 {
		me.pass += strideOne / int64(me.weight)
	}
}

// Idle notes that n sessions of the lane began (+1) or ended (-1) to wait for
// work.
func (s *Scheduler) Idle(key Lane, n int) {
	if l := s.lanes[key]; l != nil {
		l.idle += n
		l.site.idle += n
	}
}

// feedSessions opens connections where ready mail wants them.
func (s *Scheduler) feedSessions(now instant) {
	for i := s.hungry.len(); i > 0 && s.count.Sessions < s.cfg.MaxSessions; i-- {
		st, _ := s.hungry.pop()
		st.hungryFlag = false
		s.feedSite(st, now)
	}
}

// perSession is how many ready deliveries a further connection must be good
// for: with one round trip a message, a connection is worth its greeting only
// if it carries some.
const perSession = 4

func (s *Scheduler) feedSite(st *site, now instant) {
	wait := never
	for st.wants() && s.count.Sessions < s.cfg.MaxSessions && !st.idleCan(now) {
		l, at := s.chooseLane(st, now)
		wait = min(wait, at)
		if l == nil {
			st.full = wait == never
			break
		}
		l.opening++
		st.open++
		s.count.Sessions++
		l.own.conns++
		l.all.conns++
		l.own.connRate.take(now)
		l.all.connRate.take(now)
		s.out = append(s.out, Action{Kind: Open, Lane: l.key, Carrier: st.carrier, Destination: s.anyDest(st)})
	}
	if wait != never && wait > now && st.dests > 0 {
		s.setTimer(&st.timer, st, wait)
	}
}

// wants reports whether the backlog is worth another connection.
func (st *site) wants() bool {
	return st.backlog > 0 && (st.open == 0 || st.backlog >= perSession*st.open)
}

// idleCan reports whether a waiting session could take the work: one whose
// source is out of budget cannot, and must not keep others from connecting.
func (st *site) idleCan(now instant) bool {
	if st.idle == 0 {
		return false
	}
	for _, l := range st.lanes {
		if l.idle > 0 && max(l.own.ready(now), l.all.ready(now)) <= now {
			return true
		}
	}
	return false
}

// anyDest names a destination of the site with ready mail: the session
// connects to its hosts.
func (s *Scheduler) anyDest(st *site) string {
	for _, g := range st.groups {
		for i := range g.classes {
			for _, tt := range g.classes[i].byName {
				for _, f := range tt.byKey {
					if len(f.queues) > 0 {
						return f.queues[0].dest.name
					}
				}
			}
		}
	}
	return ""
}

// chooseLane picks the source with the fewest connections for its weight among
// those that can take one now, and says when another could.
func (s *Scheduler) chooseLane(st *site, now instant) (best *lane, wait instant) {
	wait = never
	bestLoad := 0
	for _, g := range st.groups {
		if !g.anyReady() {
			continue
		}
		for i := range g.members {
			m := &g.members[i]
			l := s.laneFor(st, m.name, now)
			at, can := s.canOpen(l, now)
			if !can {
				wait = min(wait, at)
				continue
			}
			load := (l.open + l.opening) * 1000 / m.weight
			if best == nil || load < bestLoad {
				best, bestLoad = l, load
			}
		}
	}
	return best, wait
}

func (g *group) anyReady() bool {
	for i := range g.classes {
		if len(g.classes[i].ring.members) > 0 {
			return true
		}
	}
	return false
}

// canOpen says whether the lane can take one more connection now, else when.
// A lane that has not answered yet opens one connection at a time; one that
// has doubles.
func (s *Scheduler) canOpen(l *lane, now instant) (when instant, can bool) {
	if s.sourceHeld(l.key.Source, l.site.carrier) != nil {
		return never, false
	}
	when = max(l.rest, l.own.connRate.ready(now), l.all.connRate.ready(now), l.own.ready(now), l.all.ready(now))
	if when > now {
		return when, false
	}
	if l.own.maxConns > 0 && l.own.conns >= l.own.maxConns || l.all.maxConns > 0 && l.all.conns >= l.all.maxConns {
		return never, false // a closing session asks again
	}
	if l.opening >= max(1, l.open) || l.opening > 0 && !l.proven {
		return never, false // an opened one asks again
	}
	return now, true
}

// SessionOpened tells that a session has been greeted and can carry mail.
func (s *Scheduler) SessionOpened(now time.Time, key Lane) {
	l := s.lanes[key]
	if l == nil {
		return
	}
	l.opening--
	l.open++
	l.fails, l.rest, l.proven = 0, 0, true
	l.reply = message.Reply{}
	l.site.full = false
	s.beHungry(l.site)
}

// SessionClosed tells that a session is over. opened says whether
// SessionOpened was called; failed, if not nil, is why no host took it: the
// lane rests then, twice as long each time.
func (s *Scheduler) SessionClosed(now time.Time, key Lane, opened bool, failed *message.Reply) {
	l := s.lanes[key]
	if l == nil {
		return
	}
	t := at(now)
	if opened {
		l.open--
	} else {
		l.opening--
	}
	l.site.open--
	s.count.Sessions--
	l.own.conns--
	l.all.conns--
	if failed != nil {
		l.rest = t + instant(s.backoff(l))
		l.fails++
		l.reply = *failed
		l.proven = false
	}
	l.site.full = false
	s.beHungry(l.site)
	s.beHungryCarrier(l.site.carrier)
}

func (s *Scheduler) backoff(l *lane) time.Duration {
	c := s.carrierOf(l.site.carrier)
	d := c.Backoff.Or(policy.DefaultBackoff)
	for range l.fails {
		if d *= 2; d >= policy.MaxBackoff {
			return policy.MaxBackoff
		}
	}
	return d
}

// beHungryCarrier asks again for the other sites of a carrier whose
// connections were all taken.
func (s *Scheduler) beHungryCarrier(carrier string) {
	if carrier == policy.DefaultName {
		return
	}
	for _, st := range s.sites {
		if st.carrier == carrier && st.full {
			st.full = false
			s.beHungry(st)
		}
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
