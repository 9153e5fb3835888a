package scheduler

import (
	"slices"
	"time"

	"hikyaku/spool/message"
)

// dest is a destination and what its name resolved to.
type dest struct {
	name    string
	queues  []*queue
	site    *site
	carrier string
	until   instant // the resolution holds to here

	asking bool             // wanted, or being resolved
	asked  bool             // being resolved
	stale  bool             // what comes back is under the old policy
	class  message.Priority // in which it is wanted
	rest   instant          // after a failure: not before
	reply  message.Reply
	final  bool // the failure was permanent
	timer
}

// failing reports whether the destination is known not to exist.
func (d *dest) failing(now instant) bool { return d.final && d.rest > now }

func (s *Scheduler) destFor(name string) *dest {
	d := s.dests[name]
	if d == nil {
		d = &dest{name: name}
		d.timer.at = never
		s.dests[name] = d
	}
	s.setTimer(&d.timer, d, never)
	return d
}

// maxDests bounds how many destinations are remembered for their resolution
// alone; those with queues are as many as there are.
const maxDests = 200_000

// idleDest keeps what is known of a destination without queues until it would
// have to be asked again anyway.
func (s *Scheduler) idleDest(d *dest) {
	if d.asking {
		return // the answer decides
	}
	keep := max(d.until, d.rest, 1)
	if len(s.dests) > maxDests {
		keep = 1 // now
	}
	s.setTimer(&d.timer, d, keep)
}

// fire is timed: the destination has been idle for long enough.
func (d *dest) fire(s *Scheduler, now instant) {
	if len(d.queues) > 0 || d.asking {
		return
	}
	delete(s.dests, d.name)
	if d.site != nil {
		d.site.dests--
		s.idleSite(d.site, now)
	}
}

func (s *Scheduler) resolved(d *dest, now instant) bool {
	return d.site != nil && d.until > now || d.failing(now)
}

// wantResolve puts a destination in line for the sake of one of its queues.
func (s *Scheduler) wantResolve(d *dest, q *queue) {
	switch class := min(q.key.Priority, message.Low); {
	case !d.asking:
		d.asking, d.class = true, class
		s.unasked++
		s.resolve.push(class, q.key.Tenant, d)
	case !d.asked && class < d.class:
		d.class = class
		s.resolve.push(class, q.key.Tenant, d)
	}
}

func (s *Scheduler) askResolve(d *dest) {
	s.unasked--
	if len(d.queues) == 0 {
		d.asking = false
		s.idleDest(d)
		return
	}
	d.asked = true
	s.asking++
	s.out = append(s.out, Action{Kind: Resolve, Destination: d.name})
}

// Resolution is what a destination resolved to.
type Resolution struct {
	Site  string   // stable name of the ordered MX host set, or of a route's hosts
	Hosts []string // MX host names, for finding the carrier
	// Carrier, if set by a route, overrules the look-up by domain and hosts.
	Carrier string
	Until   time.Time
}

// leastAnswer is how long an answer holds at least, whatever its TTL, so that
// names are not looked up in a circle.
const leastAnswer = instant(time.Second)

// Resolved answers a Resolve action.
func (s *Scheduler) Resolved(now time.Time, destination string, r Resolution) {
	d, t := s.endResolve(destination), at(now)
	if d == nil {
		return
	}
	d.until = max(at(r.Until), t+leastAnswer)
	d.rest, d.final, d.reply = 0, false, message.Reply{}
	carrier := r.Carrier
	if carrier == "" {
		carrier = s.set.CarrierOf(d.name, r.Hosts)
	}
	st := s.siteFor(r.Site, carrier, t)
	if d.site != st || d.carrier != carrier {
		for _, q := range d.queues {
			s.unready(q)
		}
		if d.site != nil {
			d.site.dests--
			s.idleSite(d.site, t)
		}
		d.site = st
		st.dests++
	}
	d.carrier = carrier
	s.placeAll(d, t)
}

// ResolveFailed answers a Resolve action: with a permanent reply all
// deliveries of the destination are given out to be bounced until retryAt;
// with a temporary one those in memory are deferred and the rest waits.
func (s *Scheduler) ResolveFailed(now time.Time, destination string, reply message.Reply, retryAt time.Time) {
	d, t := s.endResolve(destination), at(now)
	if d == nil {
		return
	}
	d.reply, d.rest, d.final = reply, max(at(retryAt), t+leastAnswer), reply.Class() == message.Permanent
	if d.site != nil {
		for _, q := range d.queues {
			s.unready(q)
		}
		d.site.dests--
		s.idleSite(d.site, t)
		d.site, d.until = nil, 0
	}
	if !d.final {
		for _, q := range d.queues {
			s.giveOut(q, Defer, reply)
		}
	}
	s.placeAll(d, t)
}

func (s *Scheduler) endResolve(destination string) *dest {
	d := s.dests[destination]
	if d == nil || !d.asked {
		return nil
	}
	d.asking, d.asked = false, false
	s.asking--
	if d.stale {
		d.stale = false
		if len(d.queues) == 0 {
			s.idleDest(d)
		} else {
			for _, q := range d.queues {
				s.wantResolve(d, q)
			}
		}
		return nil
	}
	return d
}

func (s *Scheduler) placeAll(d *dest, now instant) {
	for i := len(d.queues) - 1; i >= 0; i-- { // place may forget the queue
		s.place(d.queues[i], now)
	}
	if len(d.queues) == 0 {
		s.idleDest(d)
	}
}

// site is an MX host set, or a route's hosts.
type site struct {
	name    string
	carrier string
	all     *links // the carrier over all sources
	dests   int
	groups  []*group // by pool
	lanes   []*lane
	backlog int // loaded deliveries in its rings
	turn    int // for the shares of lower classes
	pick    int // for groups in turn
	fed     int // for groups in turn
	open    int // sessions, opening ones included
	idle    int // sessions waiting for work

	class                 message.Priority // in which it is hungry
	hungryFlag, wokenFlag bool
	queuedFull            bool // in all.full
	line                  place[*site]
	rest                  place[*site] // in resting
	crowded               instant      // when its idle sessions were last asked to make way
	timer
}

// siteFor finds or makes a site. One host set under two carriers (a route says
// so, or a recipient domain) is two sites: limits hang on the carrier.
func (s *Scheduler) siteFor(name, carrier string, now instant) *site {
	st := s.sites[name]
	if st != nil && st.carrier != carrier {
		name += " " + carrier
		st = s.sites[name]
	}
	if st == nil {
		st = &site{name: name, carrier: carrier}
		st.timer.at = never
		st.all = s.limits.link(now, keyOf(st, ""))
		s.sites[name] = st
		s.around.add(&st.line, st)
	}
	return st
}

// siteIdle is how long a site without destinations is remembered, so that
// back-off and debts outlast a pause.
const siteIdle = 10 * time.Minute

func (s *Scheduler) idleSite(st *site, now instant) {
	if st.dests == 0 {
		s.setTimer(&st.timer, st, now+instant(siteIdle))
	}
}

// fire is timed: the site may want a connection again, or is to be forgotten.
func (st *site) fire(s *Scheduler, now instant) {
	if st.dests > 0 {
		s.lookAgain(st)
		s.wakeSite(st)
		return
	}
	if st.open > 0 || st.hungryFlag || st.wokenFlag || !s.limits.forgettable(st, now) {
		s.idleSite(st, now)
		return
	}
	for _, l := range st.lanes {
		delete(s.lanes, l.key)
	}
	s.limits.forgetSite(st)
	delete(s.sites, st.name)
	s.around.remove(&st.line)
}

// rebuild makes the rings anew after a change of policy: weights, pools and
// sources may differ.
func (st *site) rebuild(s *Scheduler) {
	for _, g := range st.groups {
		for i := range g.classes {
			g.classes[i].each(func(q *queue) { s.unready(q) })
		}
	}
	st.groups = nil
}

// regroup is rebuild for some pools.
func (st *site) regroup(s *Scheduler, pools map[string]bool) {
	st.groups = slices.DeleteFunc(st.groups, func(g *group) bool {
		if !pools[g.pool] {
			return false
		}
		for i := range g.classes {
			g.classes[i].each(func(q *queue) { s.unready(q) })
		}
		return true
	})
}

// groupOf is the rings of one pool's mail at the site.
func (st *site) groupOf(s *Scheduler, pool string) *group {
	for _, g := range st.groups {
		if g.pool == pool {
			return g
		}
	}
	g := &group{pool: pool, site: st}
	g.members = append(g.members, s.pools[pool]...)
	for _, l := range st.lanes {
		if m := g.member(l.key.Source); m != nil {
			m.lane = l
			g.open += l.open + l.opening
		}
	}
	st.groups = append(st.groups, g)
	return g
}

// wakeSite tells the node that waiting sessions of the site may get something.
func (s *Scheduler) wakeSite(st *site) {
	if st.idle > 0 && !st.wokenFlag {
		st.wokenFlag = true
		s.woken = append(s.woken, st)
	}
}
