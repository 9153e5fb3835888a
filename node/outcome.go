package node

import (
	"errors"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/node/notice"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// This file is the one place where what happened to a delivery becomes a
// transition of the spool, with its notices and its events in the same atomic
// batch (design.md 2). The scheduler hears of it when it is durable.

// ending builds one transition, recipient by recipient.
type ending struct {
	n     *Node
	d     *message.Delivery
	m     *message.Message
	now   time.Time
	t     spool.Transition
	event message.Event
	buf   *[]byte
	left  []message.Recipient
	last  *message.Reply        // of the first recipient that stays
	host  string                // who was tried
	at    time.Time             // when; zero when nobody was
	tell  [4][]notice.Recipient // by notice.Kind
}

func (n *Node) begin(d *message.Delivery, m *message.Message) *ending {
	e := &ending{n: n, d: d, m: m, now: n.now(), buf: eventBuffers.Get().(*[]byte)}
	*e.buf = (*e.buf)[:0]
	e.t.Delivery = d
	e.event = n.eventOf("", m, e.now)
	e.event.ID, e.event.Destination, e.event.Attempt = d.ID, d.Queue.Destination, d.Attempts
	e.event.Stages.Total = e.now.Sub(d.Accepted)
	return e
}

// emit adds one event for recipient i.
func (e *ending) emit(typ message.EventType, i int, reply message.Reply) {
	e.event.Type, e.event.Reply = typ, reply
	e.event.Recipient, e.event.RcptMeta = e.d.Recipients[i].Address, e.d.Recipients[i].Metadata
	*e.buf = e.event.AppendJSON(*e.buf)
}

var eventOfState = [...]message.EventType{
	message.Delivered: message.EventDelivered, message.Bounced: message.EventBounced,
	message.Expired: message.EventExpired, message.Cancelled: message.EventCancelled,
}

// final ends recipient i.
func (e *ending) final(i int, state message.State, reply message.Reply) {
	e.t.Final = append(e.t.Final, spool.Final{Recipient: e.d.Recipients[i].Address, State: state, Reply: reply, At: e.now, Attempts: e.event.Attempt})
	e.emit(eventOfState[state], i, reply)
	e.n.count.final(state)
	switch state {
	case message.Bounced, message.Expired:
		e.wants(notice.Failed, i, reply)
	}
}

// stays keeps recipient i in the queue.
func (e *ending) stays(i int, reply *message.Reply) {
	e.left = append(e.left, e.d.Recipients[i])
	if e.last == nil && reply != nil {
		e.last = reply
	}
}

// commit hands the transition to the spool. after runs once it is durable, on
// the goroutine that acknowledges: it must be quick.
func (e *ending) commit(after func(err error)) {
	e.t.Submit = e.notices()
	e.t.Events = *e.buf
	submits, next, d, n := e.t.Submit, e.t.Next, e.d, e.n
	buf := e.buf
	n.commits.Add(1)
	n.spool.Commit(&e.t, func(err error) {
		defer n.commits.Done()
		switch {
		case err == nil:
			n.dispatch.done(d, next)
			for _, s := range submits {
				n.handOver(s.Message, s.Deliveries)
			}
			if next == nil && e.m.Deliveries == 1 {
				n.content.drop(d.ID.Message)
			}
		case errors.Is(err, spool.ErrGone):
			// Somebody else moved it first: a cancel met an attempt. What the
			// spool says counts.
			n.dispatch.forget(d)
		default:
			n.log.Error("commit outcome", "id", d.ID.String(), "error", err)
			n.dispatch.forget(d)
		}
		if after != nil {
			after(err)
		}
	})
	putEventBuffer(buf)
}

// finish turns the result of an attempt into a transition.
func (n *Node) finish(a *attempt, r *delivery.Result) {
	d := a.delivery
	if r.NotAttempted {
		n.dispatch.putBack(d)
		return
	}
	e := n.begin(d, a.content.msg)
	e.event.Attempt = d.Attempts + 1
	e.event.Carrier, e.event.Source, e.event.SourceAddr = a.carrier, a.source, r.SourceAddr
	e.event.Host, e.event.HostAddr, e.event.TLS = r.Host, r.HostAddr, r.TLS
	e.host, e.at = hostLabel(r), e.now
	total := e.event.Stages.Total
	e.event.Stages = r.Stages
	e.event.Stages.Total, e.event.Stages.Queued = total, a.dispatched.Sub(d.Due)
	deferred := e.sort(r)
	n.countAttempt(a.carrier, &e.event.Stages, r.Replies, e.now)
	if len(e.left) > 0 {
		e.reschedule(a.carrier, a.source, deferred)
	}
	e.commit(nil)
}

// deferDelivery reschedules a delivery that could not be attempted as such: no
// host took a connection, or the name could not be looked up.
func (n *Node) deferDelivery(d *message.Delivery, carrier, source, host string, reply message.Reply) {
	m, err := n.metaOf(d)
	if err != nil {
		n.log.Warn("message of a deferred delivery cannot be read", "id", d.ID.String(), "error", err)
	}
	e := n.begin(d, m)
	e.event.Attempt = d.Attempts + 1
	e.event.Carrier, e.event.Source, e.event.Host = carrier, source, host
	e.host, e.at = host, e.now
	deferred := make([]delivery.RecipientReply, len(d.Recipients))
	for i := range d.Recipients {
		deferred[i] = delivery.RecipientReply{Index: i, Reply: reply}
		e.stays(i, &reply)
	}
	n.countAttempt(carrier, nil, deferred, e.now)
	e.reschedule(carrier, source, deferred)
	e.commit(nil)
}

// sort gives each recipient its outcome and reports whether some were
// deferred. Deferred events wait for the next due time, so they come last.
func (e *ending) sort(r *delivery.Result) (deferred []delivery.RecipientReply) {
	next := 0
	for _, rr := range r.Replies {
		for ; next < rr.Index; next++ {
			e.stays(next, nil)
		}
		next = rr.Index + 1
		switch rr.Reply.Class() {
		case message.Success:
			e.final(rr.Index, message.Delivered, rr.Reply)
			if !r.DSNRelayed {
				e.wants(notice.Relayed, rr.Index, rr.Reply)
			}
		case message.Permanent:
			e.final(rr.Index, message.Bounced, rr.Reply)
		default:
			deferred = append(deferred, rr)
			e.stays(rr.Index, &rr.Reply)
		}
	}
	for ; next < len(e.d.Recipients); next++ {
		e.stays(next, nil)
	}
	return deferred
}

// reschedule writes when those that stay are due again. If none of them was
// deferred (a peer that took some and had no room for the rest) they are due
// at once; else all wait together for the retry.
func (e *ending) reschedule(carrier, source string, deferred []delivery.RecipientReply) {
	next := e.d.Clone()
	next.Recipients = e.left
	next.Due = e.now
	if len(deferred) > 0 {
		next.Attempts++
		next.Due = e.now.Add(e.n.retryAfter(&e.d.Queue, carrier, int(next.Attempts))).Truncate(time.Microsecond)
		next.Last = &message.LastAttempt{At: e.now, Source: source, Host: e.host, Reply: *e.last}
	}
	// Nothing is due after its expiry: it ends then, not at the retry after.
	if next.Due.After(next.Expires) {
		next.Due = next.Expires
	}
	if !next.Due.After(e.d.Due) {
		next.Due = e.d.Due.Add(time.Microsecond)
	}
	e.t.Next = next
	e.event.NextDue = next.Due
	for _, rr := range deferred {
		e.emit(message.EventDeferred, rr.Index, rr.Reply)
		e.n.count.deferred.Add(1)
		e.delayed(rr)
	}
}

// countAttempt keeps the counters behind metrics and overview.
func (n *Node) countAttempt(carrier string, st *message.Stages, rs []delivery.RecipientReply, now time.Time) {
	var few [8]countedReply
	replies := few[:0]
	for i := range rs {
		r := &rs[i].Reply
		c := countedReply{r.Phase, r.Fault, r.Class(), r.Code}
		replies = append(replies, c)
		if c.class != message.Success {
			n.count.noteError(carrier, r, now)
		}
	}
	n.count.attempted(carrier, st, replies)
}

func hostLabel(r *delivery.Result) string {
	if r.Host == "" || r.HostAddr == "" {
		return r.Host + r.HostAddr
	}
	return r.Host + " " + r.HostAddr
}

// end ends all recipients of a delivery alike: expired, cancelled, or bounced
// without an attempt (no such domain).
func (n *Node) end(d *message.Delivery, state message.State, reply message.Reply, after func(error)) {
	m, err := n.metaOf(d)
	if err != nil {
		n.log.Warn("message of an ending delivery cannot be read; its events lack what only the message knows", "id", d.ID.String(), "error", err)
	}
	e := n.begin(d, m)
	if d.Last != nil {
		e.event.Source = d.Last.Source
		e.host, e.at = d.Last.Host, d.Last.At
	}
	for i := range d.Recipients {
		e.final(i, state, reply)
	}
	e.commit(after)
}

// metaOf is the message of a delivery without its content. When it cannot be
// read, what the delivery itself knows stands in, so that an unreadable record
// never keeps a delivery from ending.
func (n *Node) metaOf(d *message.Delivery) (*message.Message, error) {
	if c := n.content.peek(d.ID.Message); c != nil {
		return c.msg, nil
	}
	m, err := n.spool.MessageMeta(d.ID.Message)
	if err != nil {
		q := &d.Queue
		return &message.Message{ID: d.ID.Message, Tenant: q.Tenant, Stream: q.Stream, Pool: q.Pool, Job: q.Job, Priority: q.Priority, Accepted: d.Accepted}, err
	}
	return m, nil
}
