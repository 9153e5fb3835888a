package node

import (
	"errors"
	"fmt"
	"time"

	"hikyaku/node/api"
	"hikyaku/node/transfer"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// transferHost is transfer.Host: what happens here when deliveries leave and
// come.
type transferHost struct{ n *Node }

// Ready is transfer.Host.
func (h transferHost) Ready() error {
	switch n := h.n; {
	case n.draining.Load(), n.Drained():
		return errors.New("the node drains")
	case !n.recovered.Load():
		return errors.New("the node is starting")
	}
	return nil
}

// arrival is a parcel between its check and its end.
type arrival struct {
	n      *Node
	p      *spool.Parcel
	doomed []doomed
}

// doomed is a delivery that was ordered to end before it came.
type doomed struct {
	d *message.Delivery
	v *verdict
}

// Arriving is transfer.Host. Orders that are known when it looks are carried
// out on what arrives; an order that comes later waits until what arrives is
// durable, and finds it (scopeSweep.run, cancelJob).
func (h transferHost) Arriving(p *spool.Parcel) (events []byte, end func(error), err error) {
	n := h.n
	if err := n.covers(p.Holds); err != nil {
		return nil, nil, err
	}
	n.mover.past.arriving.RLock()
	n.jobs.accepting.RLock()
	a := &arrival{n: n, p: p}
	a.find()
	// Before they are durable, so that nobody else can have them in between.
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		for i := range a.doomed {
			s.Take(now, a.doomed[i].d)
		}
	})
	now := n.now()
	for i := range p.Items {
		it := &p.Items[i]
		events = n.transferEvents(events, message.EventReceived, p.From.Name, it.Message, it.Deliveries, now)
	}
	return events, func(err error) {
		a.end(err)
		n.jobs.accepting.RUnlock()
		n.mover.past.arriving.RUnlock()
	}, nil
}

// covers refuses mail that is held where it comes from, and would not be here.
func (n *Node) covers(scopes []message.Scope) error {
	if len(scopes) == 0 {
		return nil
	}
	as, err := n.spool.Actions()
	if err != nil {
		return err
	}
next:
	for i := range scopes {
		for j := range as {
			if as[j].Kind == api.VerbHold && wider(&as[j].Scope, &scopes[i]) {
				continue next
			}
		}
		return fmt.Errorf("some of it is held at the sender and would not be here: %+v", scopes[i])
	}
	return nil
}

// wider reports whether a holds all that b holds.
func wider(a, b *message.Scope) bool {
	for _, f := range [...][2]string{{a.Destination, b.Destination}, {a.Tenant, b.Tenant}, {a.Stream, b.Stream}, {a.Pool, b.Pool},
		{a.Job, b.Job}, {a.Carrier, b.Carrier}, {a.Source, b.Source}} {
		if f[0] != "" && f[0] != f[1] {
			return false
		}
	}
	return true
}

// find looks for orders about what arrives.
func (a *arrival) find() {
	n := a.n
	cancelled := map[jobName]bool{}
	for _, j := range a.p.Jobs {
		cancelled[jobName{j.Tenant, j.Job}] = j.State == spool.JobCancelled
	}
	carriers := carrierMemo{n: n}
	orders := n.mover.past.snapshot()
	for i := range a.p.Items {
		for _, d := range a.p.Items[i].Deliveries {
			v := orders.verdict(n.root, d, &carriers)
			name := jobName{d.Queue.Tenant, d.Queue.Job}
			if v == nil && name.job != "" && (cancelled[name] || n.jobCancelled(name)) {
				v = &verdict{message.Cancelled, "the job was cancelled"}
			}
			if v != nil {
				a.doomed = append(a.doomed, doomed{d, v})
			}
		}
	}
}

// end hands what came to the scheduler, and ends what was ordered to.
func (a *arrival) end(err error) {
	n := a.n
	if err != nil {
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for i := range a.doomed {
				s.Done(now, a.doomed[i].d, nil)
			}
		})
		return
	}
	for i := range a.p.Jobs {
		j := &a.p.Jobs[i]
		if r, err := n.spool.Job(j.Tenant, j.Job); err == nil {
			n.orderJob(&r)
		} else {
			n.log.Error("read the order of a job that came from another node", "job", j.Job, "error", err)
		}
	}
	first := map[message.QueueKey]time.Time{}
	for i := range a.p.Items {
		n.mover.came.note(a.p.Items[i].Deliveries, n.now())
		for _, d := range a.p.Items[i].Deliveries {
			if due, ok := first[d.Queue]; !ok || d.Due.Before(due) {
				first[d.Queue] = d.Due
			}
		}
	}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		for q, due := range first {
			s.AddQueue(now, q, due)
		}
	})
	for i := range a.doomed {
		c := &a.doomed[i]
		if !n.tasks.start(func() { n.end(c.d, c.v.state, c.v.reply(c.d), nil) }) {
			return // the next start finds them, and the orders
		}
	}
}

// transferEvents appends the events of deliveries that leave or come.
func (n *Node) transferEvents(b []byte, typ message.EventType, other string, m *message.Message, ds []*message.Delivery, now time.Time) []byte {
	e := n.eventOf(typ, m, now)
	e.Host = other
	for _, d := range ds {
		e.ID, e.Destination, e.Attempt, e.Size = d.ID, d.Queue.Destination, d.Attempts, d.Size
		for i := range d.Recipients {
			e.Recipient, e.RcptMeta = d.Recipients[i].Address, d.Recipients[i].Metadata
			b = e.AppendJSON(b)
		}
	}
	return b
}

// Holding is transfer.Host.
func (h transferHost) Holding(ds []*message.Delivery) (scopes []message.Scope) {
	n := h.n
	as, err := n.spool.Actions()
	if err != nil {
		n.log.Error("read holds", "error", err)
		return []message.Scope{{Tenant: "\x00"}} // nobody covers it
	}
	carriers := carrierMemo{n: n}
	for i := range as {
		a := &as[i]
		if a.Kind != api.VerbHold {
			continue
		}
		for _, d := range ds {
			if a.Scope.MatchesQueue(&d.Queue) && (a.Scope.Carrier == "" || a.Scope.Carrier == carriers.of(n.root, d.Queue.Destination)) {
				scopes = append(scopes, a.Scope)
				break
			}
		}
	}
	return scopes
}

// Leaving is transfer.Host.
func (h transferHost) Leaving(to spool.Peer, ds []*message.Delivery) (events []byte) {
	var m *message.Message
	now := h.n.now()
	for i, d := range ds {
		if m == nil || m.ID != d.ID.Message {
			m = h.n.metaForEnd(d)
		}
		events = h.n.transferEvents(events, message.EventTransferred, to.Name, m, ds[i:i+1], now)
	}
	return events
}

// Left is transfer.Host. An order that came meanwhile goes after its delivery.
func (h transferHost) Left(to spool.Peer, ds []*message.Delivery) {
	n := h.n
	for _, d := range ds {
		for _, o := range n.dispatch.left(d) {
			n.follow(to, d.ID, o.verdict, o.landed)
		}
	}
}

// left tells the scheduler that a delivery is another node's.
func (d *dispatcher) left(del *message.Delivery) (orders []*order) {
	d.parted.set(del.ID, 0)
	d.n.content.drop(del.ID.Message)
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		orders = d.mu.orders[del.ID]
		delete(d.mu.orders, del.ID)
		s.Done(now, del, nil)
	})
	return orders
}

// Returned is transfer.Host: they are read from disk again when their turn
// comes, unless something was decided about them.
func (h transferHost) Returned(ds []*message.Delivery) {
	for _, d := range ds {
		carrier := ""
		h.n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { carrier = carrierOf(s, now, d) })
		h.n.dispatch.done(d, d, carrier)
	}
}

// Unfit is transfer.Host.
func (h transferHost) Unfit(ds []*message.Delivery) {
	for _, d := range ds {
		h.n.log.Error("a delivery cannot be handed over: what is on disk of it is unreadable, or no node would take it", "id", d.ID.String())
	}
	h.n.mover.noteUnfit(ds)
	h.Returned(ds)
}

// Order is transfer.Host: an order that came after its delivery had left
// another node.
func (h transferHost) Order(o *transfer.Order) error {
	n := h.n
	id, err := message.ParseDeliveryID(o.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", spool.ErrInvalid, err)
	}
	a := spool.Action{Kind: api.VerbCancel, Message: o.ID, Reason: o.Reason, Author: o.Author, Created: o.At}
	if o.Verb == transfer.VerbExpire {
		a.Kind = api.VerbExpire
	}
	_, err = n.cancelOnMessage(n.root, a, id.Message, &id.Index)
	return err
}

// follow sends an order after a delivery that has gone to another node, until
// that node has it or this one ends.
func (n *Node) follow(to spool.Peer, id message.DeliveryID, v verdict, landed func(error)) {
	o := transfer.Order{ID: id.String(), Verb: transfer.VerbCancel, Reason: v.reason, At: n.now()}
	if v.state == message.Expired {
		o.Verb = transfer.VerbExpire
	}
	started := n.mover.t != nil && n.tasks.start(func() {
		for {
			err := n.mover.t.SendOrder(n.root, to, o)
			if err == nil || n.root.Err() != nil {
				landed(err)
				return
			}
			n.log.Warn("an order about a delivery that was handed over has not reached its node; it is tried again", "id", o.ID, "node", to.Name, "error", err)
			pause(n.root, moveRest)
		}
	})
	if !started {
		landed(errEnding)
	}
}

// restoreTransfers takes what was offered before the start out of everybody's
// hands, until it is known who has it.
func (n *Node) restoreTransfers() error {
	for _, t := range n.spool.Transfers() {
		ds, err := n.spool.TransferDeliveries(t.Number)
		if err != nil {
			return fmt.Errorf("read transfers: %w", err)
		}
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for _, d := range ds {
				s.Take(now, d)
			}
		})
	}
	return nil
}
