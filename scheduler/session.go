package scheduler

import (
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// feedSessions opens connections where ready mail wants them, as long as there
// are less than max actions: one that waited to be carried out would come at
// another time than that of its budget.
func (s *Scheduler) feedSessions(now instant, max int) {
	s.most = max
	for {
		st, class, ok := s.hungry.pop(s.mayOpen)
		if !ok {
			s.crowd(now)
			return
		}
		if st.hungryFlag && st.class == class { // else it has been fed for another's sake
			st.hungryFlag = false
			s.hungering--
			s.feedSite(st, now)
		}
	}
}

// crowdEvery is how often the sessions of one site are asked to look again.
const crowdEvery = instant(100 * time.Millisecond)

// crowd lets sessions without work look again, as many as there are sites that
// wait for one, when no more may be opened: Crowded tells them to end.
func (s *Scheduler) crowd(now instant) {
	n := s.hungering - s.leaving
	if n <= 0 || s.resting.n == 0 || !s.starved() {
		return
	}
	for range min(n, s.resting.n) {
		st, _ := s.resting.first()
		s.resting.rotate()
		if now >= st.crowded+crowdEvery {
			st.crowded = now
			s.wakeSite(st)
		}
	}
}

// starved reports whether mail waits for a session that may not be opened.
func (s *Scheduler) starved() bool {
	return s.hungry.any(func(class message.Priority) bool { return !s.haveSession(class) })
}

// soonEnough is how long a session may wait for its budget before it counts as
// one without work.
const soonEnough = instant(time.Second)

// Crowded reports whether a session for which Next has just found nothing
// should end instead of waiting: this node may not use its source any more, or
// has more connections than it may, or all sessions are in use and other sites
// have mail. After true the caller closes it.
func (s *Scheduler) Crowded(now time.Time, key Lane) bool {
	l, t := s.lanes[key], at(now)
	switch {
	case l == nil:
		return false
	case l.away || l.over() || l.own.rests > t:
		s.countLeaving(l, 1)
		s.wakeSite(l.site) // there may be more like it
		return true
	case s.hungering <= s.leaving || !s.starved():
		return false
	}
	if when := l.ready(t); l.site.backlog > 0 && when > t && when <= t+soonEnough {
		return false
	}
	s.countLeaving(l, 1)
	return true
}

// countLeaving keeps every count of sessions that have been told to end.
func (s *Scheduler) countLeaving(l *lane, n int) {
	l.leaving += n
	s.leaving += n
	l.own.count(0, n)
	l.all.count(0, n)
	for _, p := range l.pools {
		p.count(0, n)
	}
}

// haveSession reports whether a class may have one more session. A twentieth
// of all is kept for the highest, since those of others can last.
func (s *Scheduler) haveSession(class message.Priority) bool {
	most := s.cfg.MaxSessions
	if class > message.High {
		most -= most / 20
	}
	return s.count.Sessions < most
}

func (s *Scheduler) mayOpen(class message.Priority) bool {
	return s.haveSession(class) && len(s.out) < s.most
}

// perSession is how many ready deliveries a further connection must be good
// for: with one round trip a message, a connection is worth its greeting only
// if it carries some.
const perSession = 4

// feedSite opens what connections a site wants and may have, for one pool's
// mail after the other.
func (s *Scheduler) feedSite(st *site, now instant) {
	wait := never
	for i := range st.groups {
		g := st.groups[(st.fed+i)%len(st.groups)]
		g.full = false
		// Without ready mail there is nothing to connect for; the next that comes
		// finds the source still behind. Under light load each message is taken
		// before anybody looks here, and a source that was away would never get its
		// share again.
		if m := g.grows; m != nil && s.mayOpen(st.class) && g.ready() {
			g.grows = nil
			if _, can := s.canOpen(m.lane, now); can {
				s.openSession(m.lane, g, now)
			}
		}
		for s.wants(g, now) {
			if !s.mayOpen(st.class) {
				st.fed++ // another pool begins next time
				s.beHungry(st)
				return
			}
			l, at := s.chooseLane(g, now)
			if l == nil {
				wait = min(wait, at)
				s.becomeFull(g)
				break
			}
			s.openSession(l, g, now)
			if g.impatient {
				g.impatient, g.lastWent = false, now
				s.watch(g)
			}
		}
	}
	if wait != never {
		s.setTimer(&st.timer, st, wait)
	}
	if st.all.offers > 0 {
		st.all.offers--
		s.offerConnection(st.all)
	}
}

func (s *Scheduler) openSession(l *lane, g *group, now instant) {
	l.opening++
	if l.fails > 0 {
		l.doubtful++
		s.doubtful++
	}
	s.countSession(l, 1)
	l.connect(now)
	s.out = append(s.out, Action{Kind: Open, Lane: l.key, Carrier: l.site.carrier, Destination: g.anyDest()})
}

// countSession keeps every count of open and opening sessions.
func (s *Scheduler) countSession(l *lane, n int) {
	s.count.Sessions += n
	l.site.open += n
	l.own.count(n, 0)
	l.all.count(n, 0)
	for _, p := range l.pools {
		p.count(n, 0)
	}
	for _, g := range l.site.groups {
		if m := g.member(l.key.Source); m != nil {
			g.open += n
		}
	}
}

// beHungry puts a site in line for a connection. What is cheap to see is
// looked at here, the rest by wants.
func (s *Scheduler) beHungry(st *site) {
	if st.backlog == 0 {
		return
	}
	for _, g := range st.groups {
		if g.grows != nil || !g.full && g.backlog > 0 && (g.backlog >= perSession*g.open || st.idle > 0 || g.impatient) {
			s.lineUp(st)
			return
		}
	}
}

// lineUp puts a site in line, once for the highest class of its ready mail,
// and for the tenant in it whose turn it is.
func (s *Scheduler) lineUp(st *site) {
	class, tenant := message.Low, ""
	for _, g := range st.groups {
		for p := message.High; p <= class; p++ {
			if t := g.classes[p].line.first(); t != nil {
				class, tenant = p, t.owner.(*tenantTurn).name
			}
		}
	}
	switch {
	case !st.hungryFlag:
		st.hungryFlag = true
		s.hungering++
	case class >= st.class:
		return
	}
	st.class = class
	s.hungry.push(class, tenant, st)
}

// usableSoon is how long a session may be out of budget and still count.
const usableSoon = instant(time.Second)

// wants reports whether a pool's ready mail is worth another connection. A
// waiting session that could take it is enough; one whose source is out of
// budget is not, and must not keep others from connecting.
func (s *Scheduler) wants(g *group, now instant) bool {
	if g.backlog == 0 || !g.ready() {
		return false
	}
	usable := 0
	for i := range g.members {
		l := g.members[i].lane
		if l == nil || l.open+l.opening == 0 || s.sourceHeld(l) != nil {
			continue
		}
		when := l.ready(now)
		if when <= now && l.idle > 0 {
			return false
		}
		if when <= now+usableSoon {
			usable += l.open + l.opening
		}
	}
	return usable == 0 || g.backlog >= perSession*usable || g.impatient
}

// patience is how long ready mail waits for the sessions that its site has
// while none of them takes anything. Then they are busy with a peer that is
// slow or hangs, and a single urgent message must not stand behind it until
// there is mail enough for a further connection.
const patience = instant(250 * time.Millisecond)

// watch starts the patience of a group with ready mail, if it is not running.
func (s *Scheduler) watch(g *group) {
	if g.timer.pos == 0 && !g.impatient && g.backlog > 0 && g.ready() {
		s.setTimer(&g.timer, g, g.lastWent+patience)
	}
}

// fire is timed: patience is over if nothing has gone out since.
func (g *group) fire(s *Scheduler, now instant) {
	if g.backlog == 0 || !g.ready() {
		return
	}
	if now < g.lastWent+patience {
		s.watch(g)
		return
	}
	g.impatient = true // until a delivery goes out, or a connection is opened
	s.beHungry(g.site)
}

// anyDest names a destination with ready mail: the session connects to its
// hosts, which are those of the site.
func (g *group) anyDest() string {
	for i := range g.classes {
		if t := g.classes[i].line.first(); t != nil {
			f := t.owner.(*tenantTurn).flows.first().owner.(*flow)
			q, _ := f.queues.first()
			return q.dest.name
		}
	}
	return ""
}

// chooseLane picks the source with the fewest connections for its weight among
// those that can take one now, and says when another could.
func (s *Scheduler) chooseLane(g *group, now instant) (best *lane, wait instant) {
	wait = never
	bestLoad := 0
	for i := range g.members {
		m := &g.members[i]
		if m.lane == nil {
			m.lane = s.laneFor(g.site, m.name, now)
		}
		l := m.lane
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
	return best, wait
}

// canOpen says whether the lane can take one more connection now, else when;
// never when that hangs on another session.
func (s *Scheduler) canOpen(l *lane, now instant) (when instant, can bool) {
	switch {
	case l.away || s.sourceHeld(l) != nil:
		return never, false // its return, or its release, asks again
	case l.atLimit():
		return never, false // a closing session asks again
	case l.rampFull():
		return never, false // an opened one asks again
	}
	if when, full := l.full(now); full {
		return when, false
	}
	when = max(l.rest, l.mayConnect(now), l.ready(now))
	if when <= now && l.fails > 0 && s.doubtful >= max(1, s.cfg.MaxSessions/2) {
		return now + doubtfulWait, false
	}
	return when, when <= now
}

// doubtfulWait is when lanes that failed before look again, after half of all
// sessions were busy with the like. Those that do not answer, and take minutes
// to say so, must leave room for those that do.
const doubtfulWait = instant(time.Second)

func (l *links) atLimit() bool { return l.limit > 0 && l.conns >= l.maxConns }

func (l *lane) atLimit() bool {
	full := l.own.atLimit() || l.all.atLimit()
	for _, p := range l.pools {
		full = full || p.atLimit()
	}
	return full
}

// mayConnect is when the connection rates allow one more.
func (l *lane) mayConnect(now instant) instant {
	when := max(l.own.connRate.ready(now), l.all.connRate.ready(now))
	for _, p := range l.pools {
		when = max(when, p.connRate.ready(now))
	}
	return when
}

// connect spends one connection.
func (l *lane) connect(now instant) {
	l.own.connRate.take(now)
	l.all.connRate.take(now)
	for _, p := range l.pools {
		p.connRate.take(now)
	}
}

// rampFull: a lane that has not answered yet opens one connection at a time;
// one that has doubles.
func (l *lane) rampFull() bool {
	return l.opening >= max(1, l.open) || l.opening > 0 && !l.proven
}

// becomeFull notes that a pool's mail can have no more connections until a
// session of the site or of its carrier ends, the site's timer fires, or other
// mail becomes ready.
func (s *Scheduler) becomeFull(g *group) {
	g.full = true
	// The default carrier is not one provider: its sites share nothing. Without
	// any session at the carrier, none will end.
	if st := g.site; st.carrier != policy.DefaultName && !st.queuedFull && st.all.conns > 0 {
		st.queuedFull = true
		st.all.full.push(st)
	}
}

// offerConnection lets the next site of a carrier look whether a connection
// that has come free is for it.
func (s *Scheduler) offerConnection(all *links) {
	for all.offers > 0 && !all.atLimit() {
		st, ok := all.full.pop()
		if !ok {
			break
		}
		st.queuedFull = false
		if s.sites[st.name] == st {
			if s.lookAgain(st); st.hungryFlag {
				return // it passes the offer on
			}
		}
		all.offers--
	}
	all.offers = 0
}

// SessionOpened tells that a session has been greeted and can carry mail.
func (s *Scheduler) SessionOpened(now time.Time, key Lane) {
	l := s.lanes[key]
	if l == nil || l.opening == 0 {
		return
	}
	s.endOpening(l)
	l.open++
	l.rest, l.proven = 0, true
	l.crowd.grow(l.open, s.backoffOf(l), at(now))
	s.lookAgain(l.site)
}

// SessionClosed tells that a session is over. opened says whether
// SessionOpened was called; failed, if not nil, is why no host took it, or
// none of its mail: the lane rests then, twice as long each time, unless others of
// it go on (crowd.go).
func (s *Scheduler) SessionClosed(now time.Time, key Lane, opened bool, failed *message.Reply) {
	l := s.lanes[key]
	if l == nil {
		return
	}
	t := at(now)
	tooMany := failed != nil && !opened && s.TooMany(key, failed)
	if opened {
		l.open--
	} else {
		s.endOpening(l)
	}
	s.countSession(l, -1)
	if l.leaving > l.open+l.opening || l.leaving > 0 && failed == nil && opened {
		s.countLeaving(l, -1)
	}
	switch {
	case tooMany:
		l.crowd.shrink(l.open, s.backoffOf(l), t)
	case failed != nil && l.stray(opened, failed):
		l.strays++
	case failed != nil:
		s.fail(l, t)
		l.reply = *failed
		l.proven = false
	case opened:
		// Not before: a peer that greets and then takes nothing has failed.
		l.fails, l.strays, l.reply = 0, 0, message.Reply{}
	}
	s.lookAgain(l.site)
	if l.site.carrier != policy.DefaultName {
		l.all.offers = l.all.full.len()
		s.offerConnection(l.all)
	}
}

func (s *Scheduler) endOpening(l *lane) {
	l.opening--
	if l.doubtful > l.opening {
		l.doubtful--
		s.doubtful--
	}
}

// lookAgain lets a site look for connections anew.
func (s *Scheduler) lookAgain(st *site) {
	for _, g := range st.groups {
		g.full = false
	}
	s.beHungry(st)
}

// fail makes a lane rest. Sessions that are refused together are one failure: a
// carrier that turns away all ten of a lane at once would otherwise be left alone
// for half an hour.
func (s *Scheduler) fail(l *lane, now instant) {
	together := l.failed + instant(s.backoffOf(l))
	if l.fails > 0 && now < together {
		l.rest = max(l.rest, together)
		return
	}
	l.failed, l.rest = now, now+instant(s.backoff(l))
	l.fails++
}

// backoffOf is the first rest of a lane.
func (s *Scheduler) backoffOf(l *lane) time.Duration {
	return s.carrierOf(l.site.carrier).Backoff.Or(policy.DefaultBackoff)
}

// backoff is its next rest.
func (s *Scheduler) backoff(l *lane) time.Duration {
	d := s.backoffOf(l)
	for range l.fails {
		if d *= 2; d >= policy.MaxBackoff {
			return policy.MaxBackoff
		}
	}
	return d
}
