package node

import (
	"time"

	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// A cancel, or an order to expire, may meet deliveries that are in flight.
// Their attempt cannot be called back, but nothing may follow it: what the
// attempt leaves queued ends in the same transition as its outcome. So the
// decision is kept where the outcome passes by, and not in somebody's loop who
// would have to be faster than the next dispatch.

// verdict is what shall become of deliveries that are in flight.
type verdict struct {
	state  message.State // Cancelled or Expired
	reason string
}

func (v *verdict) reply(d *message.Delivery) message.Reply {
	if v.state == message.Expired {
		return expiredReply(d)
	}
	return cancelReply(v.reason)
}

// order is a verdict over one delivery in flight. landed is called once, when
// it is off: what became of it is durable. The error says that it is not.
type order struct {
	verdict
	landed func(error)
}

// rule is a verdict over all of a scope, in force while its sweep runs.
type rule struct {
	verdict
	scope   message.Scope
	created time.Time
}

func (r *rule) matches(d *message.Delivery, carrier string) bool {
	return r.scope.MatchesQueue(&d.Queue) && (r.scope.Carrier == "" || r.scope.Carrier == carrier) && !d.Accepted.After(r.created)
}

// claim takes a delivery for something other than an attempt. false means that
// it is in flight: the order, if there is one, waits for its outcome.
func (d *dispatcher) claim(del *message.Delivery, o *order) (taken bool) {
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		taken = s.Take(now, del)
		if !taken && o != nil {
			d.mu.orders[del.ID] = append(d.mu.orders[del.ID], o)
		}
	})
	return taken
}

// setRule puts a rule in force; clearRule ends it.
func (d *dispatcher) setRule(r *rule) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.rules[r] = struct{}{}
}

func (d *dispatcher) clearRule(r *rule) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mu.rules, r)
}

// verdictOn is what was decided about a delivery in flight; nil is nothing.
func (d *dispatcher) verdictOn(del *message.Delivery, carrier string) *verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.verdictLocked(del, carrier)
}

func (d *dispatcher) verdictLocked(del *message.Delivery, carrier string) *verdict {
	if os := d.mu.orders[del.ID]; len(os) > 0 {
		return &os[0].verdict
	}
	for r := range d.mu.rules {
		if r.matches(del, carrier) {
			return &r.verdict
		}
	}
	return nil
}

// leaves gives a delivery that was given out back to the scheduler as it stands
// now, with the orders that waited for it. A verdict is what an order says of
// what is left; it is the caller's to carry out.
func (d *dispatcher) leaves(del, next *message.Delivery, carrier string) (v *verdict, orders []*order) {
	now := d.n.now()
	d.mu.Lock()
	defer d.unlock(now)
	s := d.mu.sched
	if next != nil {
		v = d.verdictLocked(next, carrier)
	}
	orders = d.mu.orders[del.ID]
	delete(d.mu.orders, del.ID)
	s.Done(now, del, next)
	if v != nil && !s.Take(now, next) {
		v = nil // not reached: nobody can have had it in between
	}
	return v, orders
}

// done tells the scheduler of a durable transition. An order that came when
// the outcome was on its way already takes effect now, before anybody else can
// have the delivery.
func (d *dispatcher) done(del, next *message.Delivery, carrier string) {
	v, orders := d.leaves(del, next, carrier)
	if v == nil {
		for _, o := range orders {
			o.landed(nil)
		}
		return
	}
	landed := func(err error) {
		for _, o := range orders {
			o.landed(err)
		}
	}
	// Not here: this may be the goroutine that answers commits.
	if !d.n.tasks.start(func() { d.n.end(next, v.state, v.reply(next), landed) }) {
		landed(errEnding)
	}
}

// putBack returns a delivery that was not attempted to its queue, or says what
// was decided about it meanwhile: then it is the caller's to end.
func (d *dispatcher) putBack(del *message.Delivery, carrier string) (v *verdict) {
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		if v = d.verdictLocked(del, carrier); v == nil {
			s.PutBack(now, del)
		}
	})
	return v
}

// gone drops a delivery that the spool says has moved: if it still stands on
// disk it is found there again.
func (d *dispatcher) gone(del *message.Delivery) {
	var orders []*order
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		orders = d.mu.orders[del.ID]
		delete(d.mu.orders, del.ID)
		s.Done(now, del, nil)
		s.AddQueue(now, del.Queue, del.Due)
	})
	for _, o := range orders {
		o.landed(nil)
	}
}

// stuck leaves a delivery whose outcome could not be stored in flight. It must
// not be tried again, or a peer that has it would get it over and over; the
// next start finds it on disk.
func (d *dispatcher) stuck(del *message.Delivery, err error) {
	d.mu.Lock()
	orders := d.mu.orders[del.ID]
	delete(d.mu.orders, del.ID)
	d.mu.Unlock()
	for _, o := range orders {
		o.landed(err)
	}
}
