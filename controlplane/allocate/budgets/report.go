package budgets

import (
	"time"

	"hikyaku/controlplane/exchange"
)

// Report takes a node's report and writes the answer into a, whose Grants are
// overwritten and their memory used again; Homes are left to the caller. now is
// the time of its arrival, or later. An error leaves everything as it was.
func (l *Ledger) Report(now time.Time, r *exchange.Report, a *exchange.Answer) error {
	m := l.byName[r.Node]
	switch {
	case m == nil:
		l.metrics.Refused++
		return ErrUnknown
	case r.Lease == 0 || r.Lease != m.Lease:
		l.metrics.Refused++
		return ErrLease
	case r.Serial == 0 || r.Serial <= m.serial:
		l.metrics.Refused++
		return ErrOld
	}
	l.metrics.Reports++
	if now.Sub(l.ticked) >= time.Second/4 {
		l.Tick(now)
	} else {
		l.expire(now, m)
	}
	l.confirm(now, m, r)
	l.settle(now)
	l.takeDemands(now, m, r)
	l.answer(now, m, r, a)
	return nil
}

// confirm learns from a report which answer is in force.
func (l *Ledger) confirm(now time.Time, m *member, r *exchange.Report) {
	own := r.Term == l.cfg.Term && r.Applied != 0
	switch {
	case own && r.Applied == m.last:
		m.confirmed, m.told = now, m.toldLast
		for _, k := range m.list {
			k.old, k.prev, k.held = part{}, part{}, part{}
			k.recount()
		}
	case own && r.Applied == m.before:
		for _, k := range m.list {
			k.old, k.held = part{}, part{}
			k.recount()
		}
	}
	if own && m.last != 0 && (r.Applied == m.last || r.Applied == m.before) {
		m.settled = true
	}
	// Grants hold from the sending of the report that they answer. So once the
	// last that gave more than floors has run out, nothing of it is left,
	// whether confirmed or not.
	if !m.rich.IsZero() && !now.Before(m.rich) {
		m.rich = time.Time{}
		for _, k := range m.list {
			k.old, k.prev, k.cur, k.held = part{}, part{}, part{}, part{}
			k.recount()
		}
	}
	m.said, m.hasSaid = max(r.Floor, 0), true
	m.serial = r.Serial
}

// takeDemands learns what a node uses and wants.
func (l *Ledger) takeDemands(now time.Time, m *member, r *exchange.Report) {
	gap := exchange.Interval
	if !m.at.IsZero() && m.adopted {
		gap = min(max(now.Sub(m.at), exchange.Interval/10), 10*exchange.Interval)
	}
	if cap(m.order) < len(r.Demands) {
		m.order = make([]*stake, 0, len(r.Demands))
	}
	known := m.order
	m.order = m.order[:0]
	foreign := r.Applied != 0 && r.Term != l.cfg.Term // the old leader's grants are in force
	for i := range r.Demands[:min(len(r.Demands), exchange.MaxScopes)] {
		d := &r.Demands[i]
		// A node names its scopes in the same order each time, mostly; the look
		// into the map costs more than all the rest.
		var k *stake
		if i < len(known) && known[i] != nil && known[i].id == d.Scope {
			k = known[i]
		} else {
			k = l.stakeOf(now, m, d.Scope)
		}
		m.order = append(m.order, k)
		if k == nil || k.listed == r.Serial {
			continue
		}
		k.listed = r.Serial
		if foreign && !m.adopted && r.Left > 0 {
			k.held = partOf(&d.Holding)
			m.rich = now.Add(exchange.GrantTTL)
		}
		k.hear(l, now, d, gap)
	}
	for _, k := range m.list {
		if k.listed != r.Serial {
			k.hear(l, now, &exchange.Demand{Holding: exchange.Holding{Issued: k.issued, Void: k.void}, Spent: k.spent, Returned: k.returned, Kept: k.kept}, gap)
		}
	}
	m.adopted, m.heard, m.fallen, m.at = true, true, false, now
}

// hear takes one demand.
func (k *stake) hear(l *Ledger, now time.Time, d *exchange.Demand, gap time.Duration) {
	k.open = max(d.Open, 0)
	k.backlog = max(d.Backlog, 0)
	used := max(d.Used, 0)
	rate := float64(used) * float64(time.Second) / float64(gap)
	k.used = (k.used + rate) / 2
	if rate > k.used {
		k.used = rate
	}
	if k.used < 1e-3 {
		k.used = 0
	}
	if used > 0 || k.backlog > 0 || k.open > 0 {
		k.seen, k.scope.seen = now, now
	}
	k.recount()
	if k.limit.PerDay > 0 {
		k.hearPermits(l, now, d)
	}
	k.reconsider(now)
}

// answer grants.
func (l *Ledger) answer(now time.Time, m *member, r *exchange.Report, a *exchange.Answer) {
	*a = exchange.Answer{
		Leader: l.cfg.Leader, Term: l.cfg.Term, Serial: r.Serial, TTL: exchange.GrantTTL,
		Floor: l.floorFor(now, m), Rank: m.Rank, Members: int64(len(l.members)), Revision: l.policy.Revision,
		Drain: m.Drain, Grants: a.Grants[:0],
	}
	// One that does not confirm may not even hear: what it was given must run
	// out before others get it, so it is given no more than its floor meanwhile.
	deaf := m.last != 0 && m.confirmed.Before(now.Add(-exchange.GrantTTL)) && r.Applied != m.before
	if m.last == 0 {
		m.confirmed, deaf = now, false
	}
	rich := false
	for _, k := range m.list {
		g, permits := k.floor, false
		if len(a.Grants) < exchange.MaxScopes { // else the rest stays at its floor
			if !deaf {
				g = l.grant(now, k)
			}
			permits = k.limit.PerDay > 0 && l.givePermits(now, k)
		}
		k.old, k.prev, k.cur = k.old.max(k.prev), k.cur, g
		k.recount()
		own := k.floor // what the node makes of a scope that is missing
		if a.Floor != m.Floor {
			own = k.floorOf(&Member{Floor: a.Floor, Rank: m.Rank})
		}
		if g != own {
			rich = true
		}
		if g != own || permits {
			a.Grants = append(a.Grants, exchange.Grant{Scope: k.id, Holding: exchange.Holding{
				Share: g.share, Burst: g.burst, LinkBurst: g.link, Connections: g.conns,
				Issued: k.issued, Void: k.void,
			}})
		}
	}
	m.before, m.last = m.last, r.Serial
	m.expires = now.Add(exchange.GrantTTL)
	if rich {
		m.rich = m.expires
	}
}
