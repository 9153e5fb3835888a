package scheduler

import (
	"cmp"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
)

// claim is the budgets that a queue's mail needs. What a queue has waiting is
// counted at each of them, so that telling the leader costs as much as there
// are budgets, and not queues. Nobody counts on a node that has no others.
type claim struct {
	scopes [6]*scope
	pool   *int64 // Scheduler.waiting
}

func (c *claim) add(n int64) {
	for _, sc := range c.scopes {
		if sc != nil {
			sc.backlog += n
		}
	}
	*c.pool += n
}

// claimFor finds the budgets of a queue at its destination's site.
func (s *Scheduler) claimFor(q *queue, now instant) *claim {
	k, st := &q.key, q.dest.site
	c := &claim{pool: s.waiting[k.Pool]}
	if c.pool == nil {
		c.pool = new(int64)
		s.waiting[k.Pool] = c.pool
	}
	c.scopes = [...]*scope{&st.all.scope, s.limits.tenant(now, k.Tenant), s.limits.stream(now, streamKey{k.Tenant, k.Stream}),
		s.limits.at(now, tenantKey{k.Tenant, st.carrier}), nil, nil}
	if k.Job != "" {
		c.scopes[4] = s.limits.jobFor(now, jobKey{k.Tenant, k.Job})
	}
	if l := s.limits.links[poolKeyOf(st, k.Pool)]; l != nil {
		c.scopes[5] = &l.scope
	}
	return c
}

// claims counts a queue's mail at the budgets of c; nil is nowhere.
func (s *Scheduler) claims(q *queue, c *claim, now instant) {
	if q.claim != nil && q.claim != c {
		q.claim.add(-int64(q.claimed))
		q.claimed = 0
	}
	q.claim = c
	if c == nil {
		return
	}
	n := int32(q.loaded())
	if q.more && q.next <= now {
		n += int32(s.cfg.Page) // nobody knows how many are on disk
	}
	if n != q.claimed {
		c.add(int64(n - q.claimed))
		q.claimed = n
	}
}

// claimAll begins or ends to count, when the node gets others or loses them.
func (s *Scheduler) claimAll(now instant) {
	s.inLine.each(func(q *queue) bool {
		s.claims(q, nil, now)
		if q.flow != nil {
			q.flow.claim = nil
		}
		return true
	})
	if s.limits.grants.Spanning {
		s.inLine.each(func(q *queue) bool { s.place(q, now); return true })
	}
}

// Demands tells the leader of the budgets that this node shares with others, as
// far as there is mail for them or anything of them in use or in hand; of more
// than max, the busiest. Used is what was taken since the call that told of the
// same scope before.
func (s *Scheduler) Demands(now time.Time, max int) []exchange.Demand {
	t, lt := at(now), &s.limits
	if !lt.grants.Spanning {
		return nil
	}
	s.fire(t)
	var out []exchange.Demand
	lt.eachShared(func(x exchange.Scope, c *scope, l *links) {
		if d, ok := lt.demand(t, x, c, l); ok {
			out = append(out, d)
		}
	})
	slices.SortFunc(out, func(a, b exchange.Demand) int {
		return cmp.Or(cmp.Compare(b.Backlog+b.Used+b.Open, a.Backlog+a.Used+a.Open), compareScopes(a.Scope, b.Scope))
	})
	out = out[:min(len(out), max)]
	for i := range out {
		if c, _ := lt.find(&out[i].Scope); c != nil {
			c.used = 0
		}
	}
	return out
}

func (t *limitTable) demand(now instant, x exchange.Scope, c *scope, l *links) (d exchange.Demand, ok bool) {
	d.Scope = x
	switch {
	case x.Kind == exchange.CarrierSource:
		if src := t.set.Sources[x.Source]; c.perDay == 0 || src == nil || !src.Movable() {
			return d, false
		}
		// What waits at the carrier might go from this source. Nobody else asks
		// for it, so more than it is does no harm.
		// Under light load none waits, since others take each at once: then it is
		// what went a moment ago, or a source that warms up would never have a permit
		// in hand when its turn comes.
		if all := t.links[linkKey{carrier: x.Carrier, site: x.Site}]; all != nil {
			d.Backlog = all.backlog + all.lately.count(now)
		}
	case l != nil && !l.limited(), l == nil && !c.limited():
		return d, false
	default:
		d.Backlog = c.backlog
	}
	d.Holding = t.holding(now, &x, c, l)
	d.Used = max(0, c.used)
	if l != nil {
		d.Open = int64(l.conns)
	}
	if c.perDay > 0 {
		d.Kept = c.day.count(now)
		if p := c.permits; p != nil {
			d.Spent, d.Returned = p.spent, p.returned
		}
	}
	return d, d.Backlog+d.Used+d.Open+d.Kept+d.Issued > 0 || t.grants.by[x] != nil
}

// lately counts what went in the last minutes: in the span that runs, and the one
// before.
type lately struct {
	span      int64 // number of the one that runs
	n, before int64
}

const latelySpan = instant(2 * time.Minute)

func (f *lately) turn(now instant) {
	switch span := int64(now / latelySpan); {
	case span == f.span:
	case span == f.span+1:
		f.span, f.before, f.n = span, f.n, 0
	default:
		f.span, f.before, f.n = span, 0, 0
	}
}

func (f *lately) add(now instant) {
	f.turn(now)
	f.n++
}

func (f *lately) count(now instant) int64 {
	f.turn(now)
	return f.n + f.before
}

// holding is what is in force of a scope.
func (t *limitTable) holding(now instant, x *exchange.Scope, c *scope, l *links) (h exchange.Holding) {
	if t.grants.spans(x) {
		h.Share = t.grants.Floor
		if g := t.grants.of(now, x); g != nil {
			h.Share = g.Share
		}
		h.Burst = c.rate.partOfBurst(now)
		if l != nil {
			h.LinkBurst = l.connRate.partOfBurst(now)
			if l.limit > 0 {
				h.Connections = int64(l.maxConns)
			}
		}
	}
	if p := c.permits; p != nil {
		p.left(now)
		h.Issued, h.Void = p.issued, p.void
	}
	return h
}
