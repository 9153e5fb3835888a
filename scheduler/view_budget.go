package scheduler

import (
	"fmt"
	"strconv"
	"time"

	"hikyaku/controlplane/exchange"
)

// BudgetView is one limit and how much of it is used.
type BudgetView struct {
	Scope     string // "carrier gmail", "carrier gmail, source ip1", "tenant shop" …
	Kind      string // rate, per_day, connections or connection_rate
	Limit     string
	Used      int64 // of a day's count: what went without permits
	Available int64
	Until     time.Time // when some of it comes back; zero when some is there

	// Of a limit that this node shares with others:
	Shared  bool
	Granted bool  // false: all that it has is its floor
	Share   int64 // of a rate, in exchange.FullShare parts
	Part    int64 // what is this node's of the burst, of the connections, of the day's count
	Permits int64 // on top of its part of the day's count
}

// Budgets lists every limit that is set, in no order.
func (s *Scheduler) Budgets(now time.Time) []BudgetView {
	t, lt := at(now), &s.limits
	var out []BudgetView
	lt.each(func(x exchange.Scope, c *scope, l *links) {
		b := BudgetView{Scope: nameOf(&x)}
		if b.Shared = lt.grants.spans(&x); b.Shared {
			b.Granted, b.Share = lt.grants.of(t, &x) != nil, lt.holding(t, &x, c, l).Share
		}
		out = c.rate.view(out, b, "rate", t)
		if c.perDay > 0 {
			out = append(out, c.dayView(b, t))
		}
		if l == nil {
			return
		}
		if l.limit > 0 {
			v := b
			v.Kind, v.Limit, v.Used, v.Available, v.Share = "connections", strconv.Itoa(l.limit), int64(l.conns), int64(max(0, l.maxConns-l.conns)), 0
			if v.Shared {
				v.Part = int64(l.maxConns)
			}
			out = append(out, v)
		}
		out = l.connRate.view(out, b, "connection_rate", t)
	})
	return out
}

// nameOf names a scope for people.
func nameOf(x *exchange.Scope) string {
	switch x.Kind {
	case exchange.Tenant:
		return "tenant " + x.Tenant
	case exchange.Stream:
		return "stream " + x.Stream + " of tenant " + x.Tenant
	case exchange.Job:
		return "job " + x.Job + " of tenant " + x.Tenant
	case exchange.TenantCarrier:
		return "tenant " + x.Tenant + ", carrier " + x.Carrier
	}
	return linkKey{x.Carrier, x.Site, x.Source, x.Pool}.String()
}

// String names the scope for people.
func (k linkKey) String() string {
	name := "carrier " + k.carrier
	if k.site != "" {
		name += ", site " + k.site
	}
	if k.pool != "" {
		name += ", pool " + k.pool
	}
	if k.source != "" {
		name += ", source " + k.source
	}
	return name
}

func (c *scope) dayView(v BudgetView, now instant) BudgetView {
	v.Kind, v.Limit, v.Share = "per_day", strconv.FormatInt(c.perDay, 10), 0
	v.Used, v.Available = c.day.count(now), c.dayAvailable(now)
	if c.permits != nil {
		v.Permits = c.permits.left(now)
	}
	if v.Shared = v.Shared || c.keeps != c.perDay; v.Shared {
		v.Part = c.keeps
	}
	if at := c.dayReady(now); at > now && at != never {
		v.Until = at.time()
	}
	return v
}

func (b *bucket) view(out []BudgetView, v BudgetView, kind string, now instant) []BudgetView {
	if !b.limited() {
		return out
	}
	v.Kind, v.Limit, v.Available = kind, b.limit(), b.available(now)
	if v.Shared {
		v.Part = b.have.burst
	}
	if at := b.ready(now); at > now && at != never {
		v.Until = at.time()
	}
	return append(out, v)
}

// portionText says what of a shared limit is this node's, for people; "" where
// it is all of it.
func (t *limitTable) portionText(now instant, x *exchange.Scope) string {
	if !t.grants.spans(x) {
		return ""
	}
	g, share := t.grants.of(now, x), t.grants.Floor
	if g != nil {
		share = g.Share
	}
	percent := fmt.Sprintf("%.3g %%", float64(share)*100/exchange.FullShare)
	switch {
	case g != nil && share >= exchange.FullShare:
		return ""
	case g != nil:
		return ", of which this node is granted " + percent
	case t.grants.by[*x] != nil:
		return ", of which this node has its floor of " + percent + ": its grant ran out at " + clock(t.grants.until)
	case share >= exchange.FullShare:
		return ""
	}
	return ", of which this node has its floor of " + percent + ": nothing is granted on top"
}
