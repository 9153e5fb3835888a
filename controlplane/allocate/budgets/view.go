package budgets

import (
	"cmp"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
)

// ScopeView is a budget as it stands, for people.
type ScopeView struct {
	exchange.Scope
	Limit Limit
	// Of a daily budget: what the record in etcd counts, what of it is in the
	// leader's hand, and what members keep as their floors.
	DayGiven, DayInHand, DayFloors int64
	Nodes                          []NodeView
}

// NodeView is one node's part in it.
type NodeView struct {
	Node string
	// Granted by the last answer, floor included, and the most that the node
	// may believe it has.
	Granted, Held exchange.Holding
	PerSecond     float64 // used, smoothed
	Backlog, Open int64
	// Waits: the budget is too small for all, and it is another one's turn.
	Waits bool
	// Permits that are out, and those that were used under its lease.
	PermitsOut, PermitsSpent int64
	Silent                   bool // its grants have run out
}

// View lists all budgets that somebody uses, in order.
func (l *Ledger) View(now time.Time) []ScopeView {
	l.Tick(now)
	out := make([]ScopeView, 0, len(l.list))
	for _, s := range l.list {
		if s.limit.IsZero() {
			continue
		}
		v := ScopeView{Scope: s.id, Limit: s.limit, DayGiven: given(s.slots, l.wall(now)), DayInHand: s.stock, DayFloors: s.dayFloors}
		for _, k := range s.stakes {
			v.Nodes = append(v.Nodes, NodeView{
				Node: k.m.Name, Granted: k.cur.holding(k), Held: k.out.holding(k), PerSecond: k.used, Backlog: k.backlog, Open: k.open,
				Waits: k.turn == queued, PermitsOut: k.unspent(), PermitsSpent: k.spent, Silent: k.m.fallen,
			})
		}
		slices.SortFunc(v.Nodes, func(x, y NodeView) int { return cmp.Compare(x.Node, y.Node) })
		out = append(out, v)
	}
	slices.SortFunc(out, func(x, y ScopeView) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Carrier, y.Carrier), cmp.Compare(x.Site, y.Site), cmp.Compare(x.Pool, y.Pool),
			cmp.Compare(x.Source, y.Source), cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.Job, y.Job))
	})
	return out
}

func (p part) holding(k *stake) exchange.Holding {
	p = p.max(k.floor)
	return exchange.Holding{Share: p.share, Burst: p.burst, LinkBurst: p.link, Connections: p.conns, Issued: k.issued, Void: k.void}
}
