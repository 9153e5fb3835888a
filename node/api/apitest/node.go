package apitest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hikyaku/node/api"
	"hikyaku/spool/message"
)

// Epoch is the fake node's time.
var Epoch = time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)

// MessageID is the one message it knows whole.
const MessageID = "01jd3q8v5x2m9k7c4t6r0w1yza"

// EndedID is a delivery of it that is asked for after the end: the message itself
// is no longer stored.
const EndedID = MessageID + "-9"

// Node implements api.Node. Its fields may be set before it is used.
type Node struct {
	Reasons []string // why it is not ready
	Err     error    // every question is answered with it, if set

	mu struct {
		sync.Mutex
		queues  []api.Queue
		jobs    []api.Job
		actions []api.Action
		asked   []api.ActionRequest

		transfers []api.Transfer
	}
}

// New returns a node with its stock.
func New() *Node {
	n := &Node{}
	old, due := Epoch.Add(-90*time.Minute), Epoch.Add(3*time.Minute+12*time.Second)
	n.mu.queues = []api.Queue{
		{
			Destination: "docomo.ne.jp", Priority: "low", Tenant: "shop", Stream: "bulk", Pool: "p1", Job: "news-1", Carrier: "docomo",
			Site: "mfsmax.docomo.ne.jp", Queued: 120000, InFlight: 4, Oldest: &old, NextDue: &due,
			Binding: "carrier.per_source.rate",
			Last: &api.LastAttempt{
				At: Epoch.Add(-time.Minute), Source: "a1", Host: "mfsmax.docomo.ne.jp [192.0.2.25]:25",
				Reply: message.Reply{Code: 421, Enhanced: message.Enhanced{Class: 4, Subject: 7, Detail: 1}, Text: "try again later", Phase: message.PhaseRcpt},
			},
		},
		{Destination: "example.com", Priority: "high", Tenant: "bank", Stream: "otp", Carrier: "default", Queued: 3},
		{Destination: "example.org", Priority: "normal", Tenant: "shop", Carrier: "default", Queued: 17, Held: true, Binding: "held"},
	}
	n.mu.jobs = []api.Job{
		{Tenant: "bank", ID: "letters/7", State: "paused", Rate: "100/s", Created: old, Updated: Epoch, Accepted: 10, Queued: 10},
		{Tenant: "shop", ID: "news-1", State: "active", Created: old, Updated: Epoch, Accepted: 200000, Queued: 120000, Delivered: 79000, Bounced: 1000},
	}
	return n
}

// Asked returns the actions it was given.
func (n *Node) Asked() []api.ActionRequest {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.mu.asked)
}

// NotReady implements api.Node.
func (n *Node) NotReady() []string { return n.Reasons }

func inScope(s api.Scope, q *api.Queue) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(s.Destination, q.Destination) && is(s.Tenant, q.Tenant) && is(s.Stream, q.Stream) && is(s.Pool, q.Pool) &&
		is(s.Job, q.Job) && is(s.Carrier, q.Carrier)
}

// Queues implements api.Node.
func (n *Node) Queues(_ context.Context, f api.QueueFilter) (*api.QueueList, error) {
	if n.Err != nil {
		return nil, n.Err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &api.QueueList{Queues: []api.Queue{}, Counted: true}
	for _, q := range n.mu.queues {
		if inScope(f.Scope, &q) {
			l.Queues = append(l.Queues, q)
		}
	}
	if f.Sort == "name" {
		slices.SortFunc(l.Queues, func(a, b api.Queue) int { return strings.Compare(a.Destination, b.Destination) })
	} else {
		slices.SortFunc(l.Queues, func(a, b api.Queue) int { return cmp.Compare(b.Queued, a.Queued) })
	}
	l.Total = len(l.Queues)
	from := 0
	if f.Page != "" {
		if _, err := fmt.Sscanf(f.Page, "%d", &from); err != nil || from < 0 || from > len(l.Queues) {
			return nil, fmt.Errorf("page token %q: %w", f.Page, api.ErrInvalid)
		}
	}
	l.Queues = l.Queues[from:]
	if len(l.Queues) > f.Limit {
		l.Queues = l.Queues[:f.Limit]
		l.Next = fmt.Sprint(from + f.Limit)
	}
	return l, nil
}

// Why implements api.Node.
func (n *Node) Why(ctx context.Context, s api.Scope) (*api.WhyAnswer, error) {
	l, err := n.Queues(ctx, api.QueueFilter{Scope: s, Limit: 1000})
	if err != nil {
		return nil, err
	}
	w := &api.WhyAnswer{Scope: s, Reasons: []api.Reason{}}
	for _, q := range l.Queues {
		w.Queued += q.Queued
		if q.Binding != "" {
			w.Reasons = append(w.Reasons, api.Reason{
				Limit: q.Binding, Scope: "carrier " + q.Carrier, Value: "10/s", Used: "10", Until: q.NextDue,
				Text: "the carrier takes no more from this source at the moment",
			})
		}
	}
	return w, nil
}

func delivery(i int) api.Delivery {
	due, expires := Epoch.Add(time.Duration(i)*time.Minute), Epoch.Add(72*time.Hour)
	return api.Delivery{
		ID: fmt.Sprintf("%s-%d", MessageID, i), Destination: "docomo.ne.jp", Tenant: "shop", Stream: "bulk", Job: "news-1", Priority: "low",
		Sender: "news@shop.example", Accepted: Epoch.Add(-time.Hour), Due: &due, Expires: &expires, Attempts: 2, Size: 4096,
		Recipients: []api.Recipient{{Address: fmt.Sprintf("user%d@docomo.ne.jp", i), State: "queued"}},
		Last: &api.LastAttempt{At: Epoch, Source: "a1", Host: "mfsmax.docomo.ne.jp [192.0.2.25]:25",
			Reply: message.Reply{Code: 421, Text: "try again later", Phase: message.PhaseRcpt}},
	}
}

// Deliveries implements api.Node: five, in pages.
func (n *Node) Deliveries(_ context.Context, f api.DeliveryFilter) (*api.DeliveryList, error) {
	if n.Err != nil {
		return nil, n.Err
	}
	l := &api.DeliveryList{Deliveries: []api.Delivery{}}
	if f.Destination != "docomo.ne.jp" {
		return l, nil
	}
	from := 0
	if f.Page != "" {
		if _, err := fmt.Sscanf(f.Page, "%d", &from); err != nil || from < 0 {
			return nil, fmt.Errorf("page token %q: %w", f.Page, api.ErrInvalid)
		}
	}
	for i := from; i < 5; i++ {
		if len(l.Deliveries) == f.Limit {
			l.Next = fmt.Sprint(i)
			break
		}
		l.Deliveries = append(l.Deliveries, delivery(i))
	}
	return l, nil
}

// Message implements api.Node.
func (n *Node) Message(_ context.Context, id string, o api.MessageOptions) (*api.Message, error) {
	if n.Err != nil {
		return nil, n.Err
	}
	if !strings.HasPrefix(id, MessageID) {
		return nil, fmt.Errorf("message %s: %w", id, api.ErrNotFound)
	}
	d := delivery(1)
	d.Recipients[0].State, d.Recipients[0].At, d.Recipients[0].Reply = "delivered", &Epoch, &message.Reply{Code: 250, Text: "ok", Phase: message.PhaseDot}
	m := &api.Message{
		ID: MessageID, Sender: "news@shop.example", Tenant: "shop", Stream: "bulk", Job: "news-1", Priority: "low", Tags: []string{"autumn"},
		Accepted: Epoch.Add(-time.Hour), Via: "http", From: "key-1", Size: 4096, Count: 2, Deliveries: []api.Delivery{delivery(0), d},
	}
	if id == EndedID {
		m.Sender, m.Via, m.From, m.Tags, m.Size, m.Count, m.Deliveries = "", "", "", nil, 0, 1, []api.Delivery{d}
		return m, nil
	}
	if o.Content {
		m.Raw = []byte("From: news@shop.example\r\nSubject: hello\r\n\r\nHello\r\n")
	}
	return m, nil
}

// Act implements api.Node: holds and releases change the queues, the rest is
// counted.
func (n *Node) Act(_ context.Context, r *api.ActionRequest) (*api.ActionResult, error) {
	if n.Err != nil {
		return nil, n.Err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.asked = append(n.mu.asked, *r)
	res := &api.ActionResult{Action: api.Action{
		ID: fmt.Sprintf("a%d", len(n.mu.asked)), Verb: r.Verb, Scope: r.Scope, Message: r.Message,
		Reason: r.Reason, Author: r.Author, Created: Epoch, Expires: r.Expires,
	}}
	if r.Message != "" {
		if !strings.HasPrefix(r.Message, MessageID) {
			return nil, fmt.Errorf("message %s: %w", r.Message, api.ErrNotFound)
		}
		res.Affected = 1
		return res, nil
	}
	for i := range n.mu.queues {
		q := &n.mu.queues[i]
		if !inScope(r.Scope, q) {
			continue
		}
		res.Affected += q.Queued
		res.TooLate += q.InFlight
		q.Held = (q.Held || r.Verb == api.VerbHold) && r.Verb != api.VerbRelease
	}
	if r.Verb == api.VerbHold {
		n.mu.actions = append(n.mu.actions, res.Action)
	}
	return res, nil
}

// Actions implements api.Node.
func (n *Node) Actions(context.Context) ([]api.Action, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.mu.actions), n.Err
}

// DeleteAction implements api.Node.
func (n *Node) DeleteAction(_ context.Context, id string) (*api.ActionResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, a := range n.mu.actions {
		if a.ID == id {
			n.mu.actions = slices.Delete(n.mu.actions, i, i+1)
			return &api.ActionResult{Action: a, Affected: 1}, n.Err
		}
	}
	return nil, fmt.Errorf("action %s: %w", id, api.ErrNotFound)
}

// Jobs implements api.Node.
func (n *Node) Jobs(_ context.Context, f api.JobFilter) (*api.JobList, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &api.JobList{Jobs: []api.Job{}}
	for _, j := range n.mu.jobs {
		if (f.Tenant == "" || f.Tenant == j.Tenant) && (f.State == "" || f.State == j.State) && len(l.Jobs) < f.Limit {
			l.Jobs = append(l.Jobs, j)
		}
	}
	return l, n.Err
}

func (n *Node) job(tenant, id string) (*api.Job, error) {
	for i := range n.mu.jobs {
		if j := &n.mu.jobs[i]; j.Tenant == tenant && j.ID == id {
			return j, n.Err
		}
	}
	return nil, fmt.Errorf("job %s of %s: %w", id, tenant, api.ErrNotFound)
}

// Job implements api.Node.
func (n *Node) Job(_ context.Context, tenant, id string) (*api.Job, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	j, err := n.job(tenant, id)
	if err != nil {
		return nil, err
	}
	c := *j
	return &c, nil
}

// ChangeJob implements api.Node.
func (n *Node) ChangeJob(_ context.Context, tenant, id string, c api.JobChange) (*api.Job, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	j, err := n.job(tenant, id)
	if err != nil {
		return nil, err
	}
	if j.State == "cancelled" {
		return nil, fmt.Errorf("job %s is cancelled for good: %w", id, api.ErrConflict)
	}
	if c.State != nil {
		j.State = *c.State
	}
	if c.Rate != nil {
		j.Rate = *c.Rate
	}
	out := *j
	return &out, nil
}

// Lanes implements api.Node.
func (n *Node) Lanes(context.Context, api.ListFilter) ([]api.Lane, error) {
	return []api.Lane{{Source: "a1", Site: "mfsmax.docomo.ne.jp", Carrier: "docomo", Connections: 4}}, n.Err
}

// Sites implements api.Node.
func (n *Node) Sites(context.Context, api.ListFilter) ([]api.Site, error) {
	return []api.Site{{Site: "mfsmax.docomo.ne.jp", Carrier: "docomo", Destinations: 1, Connections: 4}}, n.Err
}

// Budgets implements api.Node.
func (n *Node) Budgets(context.Context, api.ListFilter) ([]api.Budget, error) {
	return []api.Budget{{Scope: "carrier docomo, source a1", Kind: "rate", Limit: "10/s", Used: 10}}, n.Err
}

// Trace implements api.Node: two sessions, then it waits for the end.
func (n *Node) Trace(ctx context.Context, f api.TraceFilter, fn func(*api.TraceLine) error) error {
	for _, t := range []api.TraceLine{
		{Time: Epoch, Session: "s1", Direction: "out", Kind: "received", Text: "220 mx ESMTP\x1b[31m", Peer: "192.0.2.25:25"},
		{Time: Epoch.Add(1500 * time.Microsecond), Session: "s1", Direction: "out", Kind: "sent", Text: "EHLO mail.shop.example", Peer: "192.0.2.25:25"},
		{Time: Epoch, Session: "s2", Direction: "in", Kind: "received", Text: "MAIL FROM:<news@shop.example>", Peer: "127.0.0.1:40000"},
	} {
		if (f.Direction != "" && f.Direction != t.Direction) || (f.Host != "" && !strings.Contains(t.Peer, f.Host)) {
			continue
		}
		if err := fn(&t); err != nil {
			return err
		}
	}
	if n.Err != nil {
		return n.Err
	}
	<-ctx.Done()
	return ctx.Err()
}

// Events are the lines of its event log.
func Events() [][]byte {
	id, err := message.ParseID(MessageID)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	var out [][]byte
	for i, t := range []message.EventType{message.EventAccepted, message.EventDeferred, message.EventDelivered} {
		e := message.Event{
			Type: t, Time: Epoch.Add(time.Duration(i) * time.Minute), ID: message.DeliveryID{Message: id}, Tenant: "shop",
			Sender: "news@shop.example", Recipient: "user0@docomo.ne.jp", Destination: "docomo.ne.jp", Attempt: uint16(i),
		}
		if i > 0 {
			e.Source, e.Host, e.Carrier = "a1", "mfsmax.docomo.ne.jp", "docomo"
			e.Reply = message.Reply{Code: 421, Text: "try again later", Phase: message.PhaseRcpt}
			e.Stages.Total = 192 * time.Second
		}
		if i == 2 {
			e.Reply = message.Reply{Code: 250, Text: "ok", Phase: message.PhaseDot}
		}
		out = append(out, e.AppendJSON(nil))
	}
	return out
}

// SearchEvents implements api.Node. It knows ids and types only.
func (n *Node) SearchEvents(_ context.Context, q api.EventQuery, fn func([]byte) error) (api.EventsFound, error) {
	f := api.EventsFound{Segments: 1, Blocks: 1}
	if q.Type == "exploded" {
		return f, fmt.Errorf("unknown event type %q: %w", q.Type, api.ErrInvalid)
	}
	for _, line := range Events() {
		f.ContentBytes += int64(len(line))
		if !bytes.Contains(line, []byte(q.ID)) || !bytes.HasPrefix(line, []byte(`{"type":"`+q.Type)) {
			continue
		}
		if err := fn(line); err != nil {
			return f, err
		}
		if f.Matches++; f.Matches == q.Limit {
			f.Limited = true
			break
		}
	}
	return f, n.Err
}

// TailEvents implements api.Node: the lines, then it waits for the end.
func (n *Node) TailEvents(ctx context.Context, q api.EventQuery, fn func([]byte) error) error {
	if f, err := n.SearchEvents(ctx, q, fn); err != nil || f.Limited {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}
