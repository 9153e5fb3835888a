package node

import (
	"errors"
	"math"
	"sync"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/node/notice"
	"hikyaku/reputation"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// This file is the one place where what happened to a delivery becomes a
// transition of the spool, with its notices and its events in the same atomic
// batch (design.md 2). The scheduler hears of it when it is durable.

// ending builds one transition, recipient by recipient.
type ending struct {
	n        *Node
	d        *message.Delivery
	m        *message.Message
	now      time.Time
	t        spool.Transition
	event    message.Event
	buf      *[]byte
	left     []int                 // recipients that stay, those that were not attempted first
	fresh    int                   // how many that is
	withheld bool                  // they were kept back by a budget
	parts    int                   // how many of them have their part before the others are due; 0 is all
	last     *message.Reply        // of the first of them that was deferred
	host     string                // who was tried
	addr     string                // and where, if that is not in host
	at       time.Time             // when; zero when nobody was
	tell     [4][]notice.Recipient // by notice.Kind
	tally    tally
	beside   bool      // refused at the door while other connections carried mail
	site     string    // of the lane
	marks    []mark    // what the replies meant
	found    []finding // what they say of addresses

	after  func(error) // of commit; may be nil
	stored func(error) // settle, bound once
}

var endings sync.Pool // of *ending

// newEnding is an empty ending; commit gives it back.
func (n *Node) newEnding(d *message.Delivery, now time.Time) *ending {
	e, ok := endings.Get().(*ending)
	if !ok {
		e = new(ending)
		e.stored = e.settle
	}
	e.n, e.d, e.now, e.buf = n, d, now, eventBuffers.Get().(*[]byte)
	*e.buf = (*e.buf)[:0]
	e.t.Delivery = d
	return e
}

func (n *Node) begin(d *message.Delivery, m *message.Message) *ending {
	e := n.newEnding(d, n.now())
	e.m = m
	e.event = n.eventOf("", m, e.now)
	e.event.ID, e.event.Destination, e.event.Attempt = d.ID, d.Queue.Destination, d.Attempts
	e.event.Stages.Total = e.now.Sub(d.Accepted)
	return e
}

// release gives the ending back. It is the owner's last act: of commit until
// the spool has it, then of settle.
func (e *ending) release() {
	const keep = 64 // recipients; more are rare
	final, left, marks := e.t.Final, e.left, e.marks
	clear(final)
	if cap(final) > keep || cap(left) > keep {
		final, left = nil, nil
	}
	*e = ending{t: spool.Transition{Final: final[:0]}, left: left[:0], marks: marks[:0], stored: e.stored}
	endings.Put(e)
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
	e.finalAs(eventOfState[state], i, state, reply)
}

// finalAs is final with an event of another type.
func (e *ending) finalAs(typ message.EventType, i int, state message.State, reply message.Reply) {
	e.t.Final = append(e.t.Final, spool.Final{Recipient: e.d.Recipients[i].Address, State: state, Reply: reply, At: e.now, Attempts: e.event.Attempt})
	e.emit(typ, i, reply)
	e.tally.final(state)
	switch state {
	case message.Bounced, message.Expired:
		e.wants(notice.Failed, i, reply)
	}
}

// stays keeps recipient i in the queue.
func (e *ending) stays(i int, reply *message.Reply) {
	e.left = append(e.left, i)
	if e.last == nil && reply != nil {
		e.last = reply
	}
}

// errEnding is the outcome of a commit that came after the node's end.
var errEnding = errors.New("the node is ending")

// commit hands the transition to the spool. after, which may be nil, runs once
// it is durable, on the goroutine that acknowledges: it must be quick.
func (e *ending) commit(after func(err error)) {
	n := e.n
	buf := e.buf
	defer putEventBuffer(buf)
	e.after = after
	if !n.commits.enter() {
		n.dispatch.stuck(e.d, errEnding) // it stands on disk as it was
		if after != nil {
			after(errEnding)
		}
		e.release()
		return
	}
	e.t.Submit = e.notices()
	e.t.Events = *buf
	n.spool.Commit(&e.t, e.stored)
}

// settle is the spool's answer to commit.
func (e *ending) settle(err error) {
	n := e.n
	defer n.commits.leave()
	e.settled(err, e.t.Submit)
	if e.after != nil {
		e.after(err)
	}
	e.release()
}

// settled runs when the spool has answered.
func (e *ending) settled(err error, submits []*spool.Submission) {
	n, d := e.n, e.d
	switch {
	case err == nil:
		// Counted only now, so that the counters say what the event log says.
		n.count.settled(&e.tally, e.marks, e.event.Carrier, &e.event.Stages)
		e.signal()
		e.countReplies()
		e.feed()
		n.dispatch.parted.set(d.ID, e.parts) // before anybody else can have it
		n.dispatch.done(d, e.t.Next, e.event.Carrier)
		for _, s := range submits {
			n.count.accepted(s.Message.Tenant, len(s.Deliveries[0].Recipients), s.Message.Size())
			n.handOver(s.Message, s.Deliveries)
		}
		if e.t.Next == nil {
			n.again.forget(d.ID)
			if e.m.Deliveries == 1 {
				n.content.drop(d.ID.Message)
			}
		}
	case errors.Is(err, spool.ErrGone):
		// Somebody else moved it. What the spool says counts.
		n.dispatch.parted.set(d.ID, 0)
		n.dispatch.gone(d)
	case errors.Is(err, spool.ErrClosed), errors.Is(err, spool.ErrFailed):
		n.log.Error("an outcome is not on disk; the delivery is tried again after the next start", "id", d.ID.String(), "error", err)
		n.dispatch.stuck(d, err)
	default:
		n.log.Error("BUG: an outcome cannot be stored; the delivery stays where it is until the next start", "id", d.ID.String(), "error", err)
		n.dispatch.stuck(d, err)
	}
}

// finish turns the result of an attempt into a transition.
func (n *Node) finish(a *attempt, r *delivery.Result) {
	n.deciding.RLock()
	defer n.deciding.RUnlock()
	d := a.delivery
	if r.NotAttempted {
		if v := n.dispatch.putBack(d, a.carrier); v != nil {
			n.end(d, v.state, v.reply(d), nil)
		}
		return
	}
	e := n.begin(d, a.content.msg)
	e.event.Attempt = d.Attempts + 1
	e.event.Carrier, e.event.Source, e.event.SourceAddr = a.carrier, a.source, r.SourceAddr
	e.site = a.site
	e.event.Host, e.event.HostAddr, e.event.TLS = r.Host, r.HostAddr, r.TLS
	e.host, e.addr, e.at = r.Host, r.HostAddr, e.now
	total := e.event.Stages.Total
	e.event.Stages = r.Stages
	e.event.Stages.Total, e.event.Stages.Queued = total, a.dispatched.Sub(d.Due)
	e.tally.attempt, e.tally.timed = true, true
	e.withheld = r.Withheld
	e.stay(e.sort(r))
	e.commit(nil)
}

// refused is a delivery's attempt that got no further than the door.
type refused struct {
	carrier string
	lane    scheduler.Lane
	host    string // who was tried last
	reply   message.Reply
	beside  bool // other connections of the lane carried mail meanwhile
}

// deferDelivery reschedules a delivery that could not be attempted as such: no
// host took a connection, or the name could not be looked up.
func (n *Node) deferDelivery(d *message.Delivery, r *refused) {
	n.deciding.RLock()
	defer n.deciding.RUnlock()
	m, err := n.metaOf(d)
	if err != nil {
		n.log.Warn("message of a deferred delivery cannot be read", "id", d.ID.String(), "error", err)
	}
	e := n.begin(d, m)
	e.event.Attempt = d.Attempts + 1
	e.event.Carrier, e.event.Source, e.event.Host = r.carrier, r.lane.Source, r.host
	e.site = r.lane.Site
	e.host, e.at = r.host, e.now
	e.tally.attempt = true
	e.beside = r.beside
	v := e.judge(&r.reply)
	e.heed(0, &r.reply, &v)
	deferred := make([]deferral, len(d.Recipients))
	for i := range d.Recipients {
		deferred[i] = deferral{delivery.RecipientReply{Index: i, Reply: r.reply}, v}
		e.stays(i, &r.reply)
		e.replied(&r.reply)
	}
	e.stay(deferred)
	e.commit(nil)
}

// sort gives each recipient its outcome and reports whether some were
// deferred. Deferred events wait for the next due time, so they come last.
func (e *ending) sort(r *delivery.Result) (deferred []deferral) {
	next := 0
	var before, now []int // deferred: before this part of the delivery (those behind the offer), and in it
	skip := func(to int) {
		for ; next < to; next++ {
			if r.Job.Offer == 0 || next < r.Job.Offer {
				e.stays(next, nil)
			} else {
				before = append(before, next)
			}
		}
	}
	for at := range r.Replies {
		rr := &r.Replies[at]
		skip(rr.Index)
		next = rr.Index + 1
		e.replied(&rr.Reply)
		v := e.judge(&rr.Reply)
		e.heed(rr.Index, &rr.Reply, &v)
		e.says(&v)
		switch {
		case v.Category == reputation.Delivered:
			e.final(rr.Index, message.Delivered, rr.Reply)
			if !r.DSNRelayed {
				e.wants(notice.Relayed, rr.Index, rr.Reply)
			}
		case v.Final:
			e.final(rr.Index, message.Bounced, rr.Reply)
			e.suppress(rr.Index, &rr.Reply, &v)
		default:
			deferred = append(deferred, deferral{*rr, v})
			now = append(now, rr.Index)
			if e.last == nil {
				e.last = &rr.Reply
			}
		}
	}
	e.says(nil)
	skip(len(e.d.Recipients))
	e.fresh = len(e.left)
	e.left = append(append(e.left, before...), now...)
	return deferred
}

// stay decides about those that were not ended: they wait for the next
// attempt, or nothing follows because a cancel came meanwhile.
func (e *ending) stay(deferred []deferral) {
	if len(e.left) == 0 {
		return
	}
	v := e.n.dispatch.verdictOn(e.d, e.event.Carrier)
	if v == nil {
		e.reschedule(deferred)
	}
	for i := range deferred {
		rr := &deferred[i]
		e.says(&rr.verdict)
		e.emit(message.EventDeferred, rr.Index, rr.Reply)
		e.tally.deferred++
		if v == nil {
			e.delayed(rr.RecipientReply)
		}
	}
	e.says(nil)
	if v != nil {
		for _, i := range e.left {
			e.final(i, v.state, v.reply(e.d))
		}
	}
}

// reschedule writes when those that stay are due again: at once if some were
// not attempted and it is not for the peer's sake that they were not (it took
// some and had no room for the rest, or a budget keeps them: outbound_rest.go);
// else all wait together for the retry.
func (e *ending) reschedule(deferred []deferral) {
	next := e.d.Clone()
	next.Recipients = make([]message.Recipient, len(e.left))
	for at, i := range e.left {
		next.Recipients[at] = e.d.Recipients[i]
	}
	if e.last != nil {
		next.Last = &message.LastAttempt{At: e.now, Source: e.event.Source, Host: e.tried(), Reply: *e.last}
	}
	wait := waitOf(e.n.retryAfter(&e.d.Queue, e.event.Carrier, int(next.Attempts)+1), next.Attempts, deferred)
	anew := e.onNewConnection(deferred)
	if anew {
		wait = reconnectWait
	}
	e.event.NextDue = e.now.Add(wait).Truncate(time.Microsecond)
	atOnce := e.fresh > 0 && (len(deferred) == 0 || e.withheld && !e.n.dispatch.parted.full())
	if atOnce {
		// It keeps its place in the queue: no wait, and no attempt is used up.
		next.Due = e.d.Due
		if e.fresh < len(e.left) {
			e.parts = e.fresh
		}
	} else {
		if !anew {
			next.Attempts = uint16(min(int(next.Attempts)+1, math.MaxUint16))
		}
		next.Due = e.event.NextDue
	}
	// Nothing is due after its expiry: it ends then, not at the retry after.
	if next.Due.After(next.Expires) {
		next.Due = next.Expires
	}
	if !next.Due.After(e.d.Due) {
		next.Due = e.d.Due.Add(time.Microsecond)
	}
	e.t.Next = next
	if !atOnce {
		e.event.NextDue = next.Due
	}
}

// replied notes one reply for the metrics.
func (e *ending) replied(r *message.Reply) {
	e.tally.reply(r)
	if r.Class() != message.Success {
		e.n.count.noteError(e.event.Carrier, r, e.now)
	}
}

// tried names the host that was tried, with its address.
func (e *ending) tried() string {
	if e.host == "" || e.addr == "" {
		return e.host + e.addr
	}
	return e.host + " " + e.addr
}

// end ends all recipients of a delivery alike: expired, cancelled, or bounced
// without an attempt (no such domain).
func (n *Node) end(d *message.Delivery, state message.State, reply message.Reply, after func(error)) {
	n.endOf(d, n.metaForEnd(d), state, reply, after)
}

// metaForEnd is metaOf where the end comes whatever of it can be read.
func (n *Node) metaForEnd(d *message.Delivery) *message.Message {
	m, err := n.metaOf(d)
	if err != nil {
		n.log.Warn("message of an ending delivery cannot be read; its events lack what only the message knows", "id", d.ID.String(), "error", err)
	}
	return m
}

// endOf is end for a caller who has the message.
func (n *Node) endOf(d *message.Delivery, m *message.Message, state message.State, reply message.Reply, after func(error)) {
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
