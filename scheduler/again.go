package scheduler

import (
	"time"

	"hikyaku/spool/message"
)

// A budget counts what the peer counts: transactions and connections, and not
// the deliveries and sessions that need them. Next and Open pay for the first
// of each; who needs a further one asks here.

// Again reports whether the lane may begin a further transaction for a
// delivery that Next gave it, and spends for it what Next spends. Whatever
// would keep Next from giving the delivery out does so here too. After false
// the caller ends its work on the delivery: what is left of it stands first in
// its queue again (Done), and Next gives it out when it may go.
//
// The last that a budget has is left to Next while other mail is ready at the
// site, since it may be somebody else's turn. As long as a budget has more, that
// mail waits for a session and not for this, as it does where there is no budget.
func (s *Scheduler) Again(now time.Time, key Lane, id message.DeliveryID) bool {
	t, l, it := at(now), s.lanes[key], s.items[id]
	if l == nil || it == nil || !it.flight || it.lane != l || l.over() || !s.mayGoOn(it, t) {
		return false
	}
	q := it.q
	others := s.limits.makeOthers(t, l, &q.key)
	ready := l.site.ready()
	spare := func(c *scope) bool {
		return c.ready(t) <= t && !c.awaited(min(q.key.Priority, message.Low)) && (!ready || c.available(t) > 1)
	}
	if l.own.stopped() > t || !spare(&l.own.scope) || !spare(&l.all.scope) {
		return false
	}
	for _, c := range others {
		if c != nil && !spare(c) {
			return false
		}
	}
	for _, p := range l.pools {
		if !spare(&p.scope) {
			return false
		}
	}
	s.limits.spend(t, l, &q.key, others)
	if f := q.flow; f != nil { // else it has no other mail, and nobody to be fair to
		s.charge(f, t)
	}
	for _, g := range l.site.groups {
		if g.pool == q.key.Pool {
			g.charge(l)
		}
	}
	return true
}

// mayGoOn reports whether a delivery in flight could still be given to its
// lane, budgets aside.
func (s *Scheduler) mayGoOn(it *item, now instant) bool {
	q, l := it.q, it.lane
	if l.away || q.dest.site != l.site || at(it.d.Expires) <= now || s.sourceHeld(l) != nil || s.heldHere(q, l) {
		return false
	}
	if _, blocked := s.blocked(q, now); blocked {
		return false
	}
	for _, m := range s.pools[q.key.Pool] {
		if m.name == l.key.Source {
			return true
		}
	}
	return false
}

// ready reports whether the site has mail that waits for nothing but a session
// and its budget.
func (st *site) ready() bool {
	if st.backlog == 0 {
		return false
	}
	for _, g := range st.groups {
		if g.ready() {
			return true
		}
	}
	return false
}

// Reconnect reports whether a session that Open asked for may make one more
// connection, after one that did not get as far as SessionOpened and is closed,
// and spends for it what Open spent for the first. After false the session ends.
func (s *Scheduler) Reconnect(now time.Time, key Lane) bool {
	l, t := s.lanes[key], at(now)
	if l == nil || l.away || l.over() || l.own.stopped() > t || s.sourceHeld(l) != nil || l.mayConnect(t) > t {
		return false
	}
	l.connect(t)
	return true
}
