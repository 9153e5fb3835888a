package scheduler

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Grants are what this node may use of the limits that it shares with others.
// The zero value is that of a node without others: every limit is whole.
type Grants struct {
	// Spanning: there are other nodes, or there may be.
	Spanning bool
	// Floor is the share of everything that is this node's for good, and Rank
	// its number among the nodes (exchange.FloorOf).
	Floor, Rank int64
	// Until is when Grants end, and only the floor is left.
	Until time.Time
	// Revision is that of the policy by which they were reckoned; 0: unknown.
	Revision int64
	// Lease tells whose permits are counted: those of another lease begin at 0.
	Lease int64
	// Grants replace all those before. A scope that is not among them is at its
	// floor. Those of one source (exchange.CarrierSource) say of its daily count
	// only: the rest is for the one node that holds it.
	Grants []exchange.Grant
}

// grantTable is the grants in force.
type grantTable struct {
	Grants          // but for their list
	until   instant // Grants.Until
	by      map[exchange.Scope]*grant
	inOrder []exchange.Scope // the keys of by, as they came
	permits map[exchange.Scope]*permits
}

// grant is one scope's, with the wholes of which its counted things are parts.
type grant struct {
	exchange.Holding
	of wholes
}

// wholes are what policy had of a scope when it was granted. What policy lowers
// afterwards makes the parts smaller at once, so that they never sum to more
// than the new whole; what it raises comes with the next grant.
type wholes struct{ burst, linkBurst, connections int64 }

// maxPermitScopes bounds the scopes whose permits are counted. They must be
// remembered for as long as the lease lasts, since the leader tells their sum.
const maxPermitScopes = 4 * exchange.MaxScopes

func (g *grantTable) init() {
	g.by, g.permits = map[exchange.Scope]*grant{}, map[exchange.Scope]*permits{}
}

// of is what has been granted of a scope and still holds; else nil.
func (g *grantTable) of(now instant, x *exchange.Scope) *grant {
	if now >= g.until {
		return nil
	}
	return g.by[*x]
}

// spans reports whether nodes share the scope's rates and connections.
func (g *grantTable) spans(x *exchange.Scope) bool {
	return g.Spanning && x.Kind != exchange.CarrierSource
}

// burstPart is the part of a burst that a grant gives.
type burstPart func(*grant) (part, whole int64)

func messageBurst(g *grant) (part, whole int64) { return g.Burst, g.of.burst }
func linkBurst(g *grant) (part, whole int64)    { return g.LinkBurst, g.of.linkBurst }

// setRate gives a bucket this node's portion of a rate.
func (g *grantTable) setRate(now instant, x *exchange.Scope, b *bucket, r *policy.Rate, burst burstPart) {
	if r == nil || !g.spans(x) {
		b.set(now, r)
		return
	}
	whole := burstOf(r)
	floor := portion{g.Floor, exchange.FloorOf(whole, g.Floor, g.Rank)}
	gr := g.of(now, x)
	if gr == nil {
		b.setPart(now, r, floor, never, portion{})
		return
	}
	part, was := burst(gr)
	b.setPart(now, r, portion{gr.Share, partOf(part, was, whole)}, g.until, floor)
}

// connectionsOf is this node's part of a limit of connections.
func (g *grantTable) connectionsOf(now instant, x *exchange.Scope, limit int) int {
	if !g.spans(x) {
		return limit
	}
	if gr := g.of(now, x); gr != nil {
		return int(partOf(gr.Connections, gr.of.connections, int64(limit)))
	}
	return int(exchange.FloorOf(int64(limit), g.Floor, g.Rank))
}

// partOf is what a part of a whole is worth when the whole is another one since.
// Of a smaller whole the parts get one half, until the leader grants anew: the
// other is for the floors of those whose grants end before, which may now be
// above what they were granted.
func partOf(part, was, whole int64) int64 {
	part = max(0, min(part, was))
	if was <= whole {
		return part
	}
	hi, lo := bits.Mul64(uint64(part), uint64(whole-whole/2))
	q, _ := bits.Div64(hi, lo, uint64(was)) // below 2^63: part is at most was
	return int64(q)
}

func wholesOf(p policy.Limits) wholes {
	return wholes{burstOf(p.Rate), burstOf(p.ConnectionRate), int64(p.Connections)}
}

// SetGrants puts grants in force, in place of those before. Buckets keep their
// debt; what a smaller part of a burst does not hold is gone.
func (s *Scheduler) SetGrants(now time.Time, g Grants) {
	t, lt := at(now), &s.limits
	old := lt.grants
	g.Floor, g.Rank = max(0, min(g.Floor, exchange.FullShare)), max(0, g.Rank)
	nt := &lt.grants
	*nt = grantTable{Grants: g, until: at(g.Until), by: make(map[exchange.Scope]*grant, len(g.Grants)), permits: old.permits}
	if g.Lease != old.Lease {
		nt.permits = map[exchange.Scope]*permits{}
	}
	nt.Grants.Grants = nil
	moved := map[exchange.Scope]bool{} // permits have come where there were none
	for i := range g.Grants {
		gr := &g.Grants[i]
		is := &grant{Holding: gr.Holding, of: wholesOf(lt.limitsOf(t, &gr.Scope))}
		if was := old.by[gr.Scope]; was != nil && g.Revision > 0 && g.Revision < s.set.Revision {
			is.of = was.of // reckoned by a policy that is not in force here any more
		}
		if nt.by[gr.Scope] == nil {
			nt.inOrder = append(nt.inOrder, gr.Scope)
		}
		nt.by[gr.Scope] = is
		if nt.tell(t, gr) {
			moved[gr.Scope] = true
		}
	}
	gone := slices.DeleteFunc(old.inOrder, func(x exchange.Scope) bool { return nt.by[x] != nil })
	lapsed := func(x *exchange.Scope) bool { return moved[*x] || t >= old.until && old.by[*x] != nil }
	if old.Spanning != g.Spanning || old.Floor != g.Floor || old.Rank != g.Rank || old.Lease != g.Lease {
		s.regrantAll(t, lapsed)
	} else {
		s.regrant(t, slices.Concat(nt.inOrder, gone), lapsed)
	}
	s.setTimer(&s.lapse, lapseTimer{}, never)
	if g.Spanning && len(nt.by) > 0 && nt.until > t {
		s.setTimer(&s.lapse, lapseTimer{}, nt.until)
	}
	if old.Spanning != g.Spanning {
		s.claimAll(t)
	}
}

// lapseTimer fires when the grants end.
type lapseTimer struct{}

func (lapseTimer) fire(s *Scheduler, now instant) {
	s.regrant(now, s.limits.grants.inOrder, func(*exchange.Scope) bool { return true })
}

// regrant brings budgets to what holds now. Of those that have lapsed meanwhile
// nobody knows any more how they stood before: a grant can be less than the
// floor, and then more is there than those who wait were told.
func (s *Scheduler) regrant(now instant, xs []exchange.Scope, lapsed func(*exchange.Scope) bool) {
	var eased []*links
	for i := range xs {
		if l := s.bring(now, &xs[i], lapsed(&xs[i])); l != nil {
			eased = append(eased, l)
		}
	}
	if len(eased) > 0 {
		s.lookAround(eased)
	}
}

// regrantAll brings every budget to what holds now.
func (s *Scheduler) regrantAll(now instant, lapsed func(*exchange.Scope) bool) {
	var all []exchange.Scope
	s.limits.each(func(x exchange.Scope, _ *scope, _ *links) { all = append(all, x) })
	slices.SortFunc(all, compareScopes)
	s.regrant(now, all, lapsed)
}

// bring brings one budget to what holds now, and returns it if its sites need
// look.
func (s *Scheduler) bring(now instant, x *exchange.Scope, lapsed bool) *links {
	c, l := s.limits.find(x)
	switch {
	case c == nil:
		return nil
	case l == nil:
		before := c.ready(now)
		if lapsed {
			before = never
		}
		s.limits.setScope(now, *x, c)
		s.rearm(c, before, now)
		return nil
	}
	before, room := max(l.ready(now), l.connRate.ready(now)), l.maxConns-l.conns
	if lapsed {
		before = never
	}
	s.limits.setLinks(now, *x, l)
	if l.eased = max(l.ready(now), l.connRate.ready(now)) < before || l.maxConns-l.conns > room || l.excess() > 0; !l.eased {
		return nil
	}
	return l
}

// rearm moves those who wait for a budget to when it has something now.
func (s *Scheduler) rearm(c *scope, before, now instant) {
	when := c.ready(now)
	if c.list == nil || when == before {
		return
	}
	if c.awaited(message.Low) {
		s.setTimer(&c.list.timer, c, when)
	}
	if when <= now+pageAhead && before > now+pageAhead {
		c.list.unread.each(func(q *queue) bool { s.place(q, now); return true })
	}
}

// lookAround lets the sites look whose carriers have more than they had, or
// more connections than they may.
func (s *Scheduler) lookAround(eased []*links) {
	s.around.each(func(st *site) bool {
		look := st.all.eased
		for _, l := range st.lanes {
			look = look || l.own.eased
			for _, p := range l.pools {
				look = look || p.eased
			}
		}
		if look {
			s.lookAgain(st)
			s.wakeSite(st)
		}
		return true
	})
	for _, l := range eased {
		l.eased = false
	}
}

func compareScopes(a, b exchange.Scope) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Pool, b.Pool),
		cmp.Compare(a.Source, b.Source), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Job, b.Job))
}
