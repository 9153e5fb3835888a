package node

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// Admit is ingest.Acceptor: whether new mail of the tenant is welcome now.
func (n *Node) Admit(tenant string) error {
	if n.draining.Load() || n.Drained() {
		return &ingest.Refusal{Code: 421, Enhanced: message.Enhanced{Class: 4, Subject: 3, Detail: 2}, HTTP: 503, RetryAfter: 30 * time.Second,
			Text: "this node is shutting down; try another or again later"}
	}
	return n.room(tenant)
}

// room reports whether one more message of the tenant can be kept. It does not
// ask whether the node drains: what was in hand when the drain began is taken.
func (n *Node) room(tenant string) error {
	if err := n.spool.Admit(); err != nil {
		return refusalOf(err)
	}
	t := n.policy.Load().Tenants[tenant]
	if t == nil || t.Disabled { // it may have gone from policy while the client was connected
		return &ingest.Refusal{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 7, Detail: 1}, HTTP: 403, Text: "this tenant is disabled"}
	}
	if t.MaxQueued > 0 && n.spool.TenantQueued(tenant) >= t.MaxQueued {
		return &ingest.Refusal{Code: 452, Enhanced: message.Enhanced{Class: 4, Subject: 3, Detail: 1}, HTTP: 429, RetryAfter: 10 * time.Second,
			Text: "too much of this tenant's mail is queued; try again later"}
	}
	return nil
}

// refusalOf is what a client is told of a spool that does not take mail. The
// reason itself goes to the log and the metrics, not to the client.
func refusalOf(err error) *ingest.Refusal {
	if errors.Is(err, spool.ErrLowSpace) {
		return &ingest.Refusal{Code: 452, Enhanced: message.Enhanced{Class: 4, Subject: 3, Detail: 1}, HTTP: 503, RetryAfter: 30 * time.Second,
			Text: "insufficient system storage; try again later"}
	}
	return &ingest.Refusal{Code: 451, Enhanced: message.Enhanced{Class: 4, Subject: 3, Detail: 0}, HTTP: 503, RetryAfter: 30 * time.Second,
		Text: "the message could not be stored; try again later"}
}

// NewID is ingest.Acceptor.
func (n *Node) NewID(now time.Time) message.ID { return n.ids.New(now) }

// Policy is ingest.Acceptor: the snapshot in force.
func (n *Node) Policy() *policy.Set { return n.policy.Load() }

// Accept is ingest.Acceptor: it makes the submission durable and hands it on.
func (n *Node) Accept(ctx context.Context, s *ingest.Submission) error {
	if job := s.Message.Job; job != "" {
		n.jobs.accepting.RLock()
		defer n.jobs.accepting.RUnlock()
		if n.jobCancelled(jobName{s.Message.Tenant, job}) {
			return &ingest.Refusal{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 7, Detail: 0}, HTTP: 409, Text: "the job was cancelled"}
		}
	}
	r, err := n.offer(s)
	if err != nil {
		return err
	}
	return r.Wait(ctx)
}

// Offer is ingest.Offerer. A job's submission is durable when it returns: the
// lock that keeps a cancel of the job away cannot be held from here to Wait.
func (n *Node) Offer(ctx context.Context, s *ingest.Submission) (ingest.Receipt, error) {
	if s.Message.Job != "" {
		return nil, n.Accept(ctx, s)
	}
	r, err := n.offer(s)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// receipt is a submission on its way to the disk: ingest.Receipt.
type receipt struct {
	n          *Node
	m          *message.Message
	ds         []*message.Delivery
	recipients int
	pending    spool.Pending
}

// offer hands a submission to the spool.
func (n *Node) offer(s *ingest.Submission) (*receipt, error) {
	m := s.Message
	if err := n.room(m.Tenant); err != nil {
		return nil, err
	}
	now := n.now()
	if m.ID.IsZero() {
		m.ID = n.ids.New(now)
	}
	if m.Accepted.IsZero() {
		m.Accepted = now
	}
	ds, err := n.plan(s, n.policy.Load(), now)
	if err != nil {
		return nil, err
	}
	m.Deliveries = uint16(len(ds))
	if m.Priority == message.High {
		n.pace.highSeen()
	}
	buf := eventBuffers.Get().(*[]byte)
	*buf = n.acceptedEvents((*buf)[:0], m, ds, now)
	p, err := n.spool.Offer(&spool.Submission{Message: m, Deliveries: ds, Idempotency: s.Idempotency, Events: *buf})
	putEventBuffer(buf)
	if err != nil {
		return nil, n.appendRefused(err)
	}
	if s.Encoded != nil {
		s.Encoded()
	}
	return &receipt{n: n, m: m, ds: ds, recipients: len(s.Recipients), pending: p}, nil
}

// Wait is ingest.Receipt.
func (r *receipt) Wait(ctx context.Context) error {
	n := r.n
	if err := r.pending.Wait(ctx); err != nil {
		return n.appendRefused(err)
	}
	n.count.accepted(r.m.Tenant, r.recipients, r.m.Size())
	n.handOver(r.m, r.ds)
	return nil
}

func (n *Node) appendRefused(err error) error {
	switch {
	case errors.Is(err, spool.ErrDuplicate):
		return err // HTTP answers with what the first request was told
	case errors.Is(err, spool.ErrInvalid):
		n.log.Error("a submission that ingest let through was refused by the spool", "error", err)
		return &ingest.Refusal{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 6, Detail: 0}, HTTP: 422, Text: "the message cannot be stored as it is"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	n.log.Error("accept message", "error", err)
	return refusalOf(err)
}

// handOver gives durable deliveries to the scheduler, with their content for
// the first attempt.
func (n *Node) handOver(m *message.Message, ds []*message.Delivery) {
	n.content.put(m)
	if !n.dispatch.add(n.withdraw(ds)) {
		n.content.drop(m.ID)
	}
}

// plan turns a submission into deliveries: which stream, which pool, until when.
func (n *Node) plan(s *ingest.Submission, set *policy.Set, now time.Time) ([]*message.Delivery, error) {
	m := s.Message
	asked := m.Stream
	stream, name := set.StreamFor(m.Tenant, asked)
	if stream == nil {
		return nil, unknownName("stream", asked)
	}
	m.Stream = name
	pool := set.PoolFor(m.Tenant, stream, m.Pool)
	if pool == "" {
		return nil, unknownName("pool", m.Pool)
	}
	m.Pool = pool
	if !s.PriorityGiven {
		m.Priority, _ = message.ParsePriority(stream.Priority)
	}
	life := stream.Expires.Or(policy.DefaultExpires)
	p := planned{m: m, set: set, accepted: now, due: now, expires: now.Add(life)}
	if s.SendAt.After(now) {
		p.due = s.SendAt.UTC().Truncate(time.Microsecond)
		p.expires = p.due.Add(life) // waiting for its hour does not use up its life
	}
	if !s.Expires.IsZero() {
		p.expires = s.Expires.UTC().Truncate(time.Microsecond)
	}
	if p.expires.Before(p.due) {
		p.due = p.expires // it ends as expired, without an attempt
	}
	if s.OneEach {
		return p.oneEach(s.Recipients)
	}
	return p.byDestination(s.Recipients)
}

func unknownName(what, name string) *ingest.Refusal {
	return &ingest.Refusal{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 6, Detail: 0}, HTTP: 422, Text: "there is no " + what + " named " + strconv.Quote(name)}
}

// planned is what all deliveries of a submission share.
type planned struct {
	m                      *message.Message
	set                    *policy.Set
	accepted, due, expires time.Time
}

func (p *planned) delivery(destination string, index int) *message.Delivery {
	m := p.m
	due := p.due
	if m.Job != "" {
		if due = p.spread(destination, due); due.After(p.expires) {
			due = p.due
		}
	}
	return &message.Delivery{
		ID:    message.DeliveryID{Message: m.ID, Index: uint16(index)},
		Queue: message.QueueKey{Destination: destination, Priority: m.Priority, Tenant: m.Tenant, Stream: m.Stream, Pool: m.Pool, Job: m.Job},
		Due:   due, Accepted: p.accepted, Expires: p.expires, Size: uint32(m.Size()),
	}
}

// breathe lets others run in a loop over the recipients of one message. Ten
// thousand of them are tens of milliseconds of work, and Go would take the
// processor away only after ten.
func breathe(i int) {
	if i%64 == 63 {
		runtime.Gosched()
	}
}

func badDestination(err error) *ingest.Refusal {
	return &ingest.Refusal{Code: 553, Enhanced: message.Enhanced{Class: 5, Subject: 1, Detail: 2}, HTTP: 422, Text: "recipient: " + err.Error()}
}

// oneEach makes a delivery of each recipient, numbered in order.
func (p *planned) oneEach(rs []message.Recipient) ([]*message.Delivery, error) {
	ds := make([]*message.Delivery, 0, len(rs))
	for i := range rs {
		breathe(i)
		dest, err := ingest.Destination(rs[i].Address)
		if err != nil {
			return nil, badDestination(err)
		}
		d := p.delivery(dest, i)
		d.Recipients = rs[i : i+1 : i+1]
		ds = append(ds, d)
	}
	return ds, nil
}

// byDestination makes a delivery of each destination's recipients.
func (p *planned) byDestination(rs []message.Recipient) ([]*message.Delivery, error) {
	var ds []*message.Delivery
	var known map[string]*message.Delivery
	for i := range rs {
		dest, err := ingest.Destination(rs[i].Address)
		if err != nil {
			return nil, badDestination(err)
		}
		d := known[dest]
		if d == nil {
			d = p.delivery(dest, len(ds))
			ds = append(ds, d)
			if len(rs) > 1 {
				if known == nil {
					known = make(map[string]*message.Delivery)
				}
				known[dest] = d
			}
			d.Recipients = rs[i : i+1 : i+1] // most have one
			continue
		}
		d.Recipients = append(d.Recipients, rs[i])
	}
	return ds, nil
}

// eventBuffers hold encoded events until the spool has copied them.
var eventBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// putEventBuffer gives a buffer back unless it grew past its class.
func putEventBuffer(b *[]byte) {
	if cap(*b) <= 64<<10 {
		eventBuffers.Put(b)
	}
}

// acceptedEventSize is about how long the event of one recipient is.
const acceptedEventSize = 400

func (n *Node) acceptedEvents(b []byte, m *message.Message, ds []*message.Delivery, now time.Time) []byte {
	e := n.eventOf(message.EventAccepted, m, now)
	e.Via, e.From = m.Via, m.From
	b = slices.Grow(b, len(ds)*acceptedEventSize)
	for i, d := range ds {
		breathe(i)
		e.ID, e.Destination = d.ID, d.Queue.Destination
		e.NextDue = time.Time{}
		if d.Due.After(now) {
			e.NextDue = d.Due
		}
		for i := range d.Recipients {
			e.Recipient, e.RcptMeta = d.Recipients[i].Address, d.Recipients[i].Metadata
			b = e.AppendJSON(b)
		}
	}
	return b
}

// eventOf fills in what all events of a message share.
func (n *Node) eventOf(typ message.EventType, m *message.Message, now time.Time) message.Event {
	return message.Event{Type: typ, Time: now, Node: n.name, Tenant: m.Tenant, Stream: m.Stream, Pool: m.Pool, Job: m.Job,
		Tags: m.Tags, Metadata: m.Metadata, Sender: m.Sender, Size: uint32(m.Size())}
}
