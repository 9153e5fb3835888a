package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/events"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

var _ api.Node = (*Node)(nil)

// Queues is api.Node.
func (n *Node) Queues(_ context.Context, f api.QueueFilter) (*api.QueueList, error) {
	out := &api.QueueList{Counted: n.spool.Stats().Counted}
	from := 0
	if f.Page != "" {
		var err error
		if from, err = strconv.Atoi(f.Page); err != nil || from < 0 {
			return nil, fmt.Errorf("%w: page token %q", api.ErrInvalid, f.Page)
		}
	}
	all := n.queuesIn(f.Scope.Message())
	out.Total = len(all)
	n.sortQueues(all, f.Sort)
	end := min(len(all), from+f.Limit)
	if from < end {
		for _, q := range all[from:end] {
			k := &q.key
			out.Queues = append(out.Queues, api.Queue{Destination: k.Destination, Priority: k.Priority.String(), Tenant: k.Tenant, Stream: k.Stream, Pool: k.Pool, Job: k.Job, Queued: q.queued})
		}
		n.fillQueues(out.Queues)
		n.fillOldest(out.Queues)
	}
	if end < len(all) {
		out.Next = strconv.Itoa(end)
	}
	return out, nil
}

// sortQueues orders queues by name, size, or, for age and due, by when they
// are next due, which the scheduler knows.
func (n *Node) sortQueues(all []countedQueue, by string) {
	first := func(a, b *countedQueue) int { return 0 }
	switch by {
	case "name":
	case "size":
		first = func(a, b *countedQueue) int { return cmp.Compare(b.queued, a.queued) }
	default:
		n.eachView(all, func(q *countedQueue, v *scheduler.QueueView) {
			if v != nil {
				q.due = v.NextDue
			}
		})
		first = func(a, b *countedQueue) int {
			if a.due.IsZero() != b.due.IsZero() { // nothing waits: last
				return cmp.Compare(btoi(a.due.IsZero()), btoi(b.due.IsZero()))
			}
			return a.due.Compare(b.due)
		}
	}
	slices.SortFunc(all, func(a, b countedQueue) int {
		x, y := &a.key, &b.key
		return cmp.Or(first(&a, &b), cmp.Compare(x.Destination, y.Destination), cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Stream, y.Stream),
			cmp.Compare(x.Job, y.Job), cmp.Compare(x.Pool, y.Pool), cmp.Compare(x.Priority, y.Priority))
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func keyOfQueue(q *api.Queue) message.QueueKey {
	p, _ := message.ParsePriority(q.Priority)
	return message.QueueKey{Destination: q.Destination, Priority: p, Tenant: q.Tenant, Stream: q.Stream, Pool: q.Pool, Job: q.Job}
}

// fillQueues adds what the scheduler knows, a few at a time under its lock.
func (n *Node) fillQueues(qs []api.Queue) {
	for chunk := range slices.Chunk(qs, surveyChunk/4) {
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for i := range chunk {
				q := &chunk[i]
				v, ok := s.QueueViewOf(now, keyOfQueue(q))
				if !ok {
					continue
				}
				q.Carrier, q.Site, q.InFlight, q.Held = v.Carrier, v.Site, int64(v.InFlight), v.Held
				q.NextDue = timeOrNil(v.NextDue)
				if why := s.Why(now, v.Key); len(why) > 0 {
					q.Binding = why[0].Limit
				}
			}
		})
	}
}

// fillOldest looks at the first delivery of each queue on disk.
func (n *Node) fillOldest(qs []api.Queue) {
	for i := range qs {
		ds, _, err := n.spool.Page(keyOfQueue(&qs[i]), spool.Cursor{}, time.Unix(1<<40, 0), 1)
		if err != nil || len(ds) == 0 {
			continue
		}
		qs[i].Oldest = &ds[0].Accepted
		if qs[i].NextDue == nil {
			qs[i].NextDue = &ds[0].Due
		}
		qs[i].Last = apiLast(ds[0].Last)
	}
}

func apiLast(l *message.LastAttempt) *api.LastAttempt {
	if l == nil {
		return nil
	}
	return &api.LastAttempt{At: l.At, Source: l.Source, Host: l.Host, Reply: l.Reply}
}

const whyQueues = 50

// Why is api.Node.
func (n *Node) Why(_ context.Context, sc api.Scope) (*api.WhyAnswer, error) {
	out := &api.WhyAnswer{Scope: sc, Queued: n.queuedIn(sc.Message())}
	seen := map[string]bool{}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		for _, w := range s.WhyScope(now, sc.Message(), whyQueues) {
			for _, r := range w.Reasons {
				if seen[r.Text] {
					continue
				}
				seen[r.Text] = true
				out.Reasons = append(out.Reasons, api.Reason{Limit: r.Limit, Scope: r.Scope, Value: r.Value, Used: r.Used, Until: timeOrNil(r.Until), Text: r.Text})
			}
		}
	})
	out.Reasons = append(out.Reasons, n.whyMoving(sc.Message())...)
	return out, nil
}

// Deliveries is api.Node.
func (n *Node) Deliveries(ctx context.Context, f api.DeliveryFilter) (*api.DeliveryList, error) {
	ds, next, err := n.spool.List(ctx, f.Scope.Message(), spool.Position(f.Page), f.Limit)
	if errors.Is(err, spool.ErrInvalid) {
		return nil, fmt.Errorf("%w: page token %q", api.ErrInvalid, f.Page)
	}
	if err != nil {
		return nil, err
	}
	out := &api.DeliveryList{Next: string(next), Deliveries: make([]api.Delivery, 0, len(ds))}
	for _, d := range ds {
		out.Deliveries = append(out.Deliveries, n.apiDelivery(&spool.Status{ID: d.ID, Queue: d.Queue, Queued: d}, n.senderOf(d)))
	}
	return out, nil
}

func (n *Node) senderOf(d *message.Delivery) string {
	m, err := n.metaOf(d)
	if err != nil {
		return ""
	}
	return m.Sender
}

func (n *Node) apiDelivery(st *spool.Status, sender string) api.Delivery {
	q := &st.Queue
	out := api.Delivery{ID: st.ID.String(), Destination: q.Destination, Tenant: q.Tenant, Stream: q.Stream, Pool: q.Pool, Job: q.Job,
		Priority: q.Priority.String(), Sender: sender, Accepted: st.ID.Message.Time()}
	for i := range st.Final {
		f := &st.Final[i]
		out.Recipients = append(out.Recipients, api.Recipient{Address: f.Recipient, State: f.State.String(), At: &f.At, Reply: &f.Reply})
		out.Attempts = max(out.Attempts, int(f.Attempts))
	}
	d := st.Queued
	if d == nil {
		if st.Gone != nil {
			out.MovedTo = st.Gone.To.Name
		}
		return out
	}
	if t, ok := n.spool.Moving(st.ID); ok {
		out.MovingTo = t.To.Name
	}
	out.Accepted, out.Due, out.Expires, out.Attempts, out.Size, out.Last = d.Accepted, &d.Due, &d.Expires, int(d.Attempts), int64(d.Size), apiLast(d.Last)
	for i := range d.Recipients {
		out.Recipients = append(out.Recipients, api.Recipient{Address: d.Recipients[i].Address, State: message.Queued.String()})
	}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		out.InFlight = s.InFlight(d.ID)
		if v, ok := s.QueueViewOf(now, *q); ok {
			out.Carrier, out.Held = v.Carrier, v.Held
		}
	})
	return out
}

// Message is api.Node. The id may be a delivery's: then only that one is shown.
func (n *Node) Message(_ context.Context, idText string, o api.MessageOptions) (*api.Message, error) {
	id, index, err := parseMessageOrDelivery(idText)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	var sts []spool.Status
	var more bool
	if index != nil {
		var st spool.Status
		if st, err = n.spool.Status(message.DeliveryID{Message: id, Index: *index}); err == nil {
			sts = []spool.Status{st}
		}
	} else if o.From >= 0 && o.From < message.MaxDeliveries {
		sts, more, err = n.spool.MessageStatus(id, uint16(o.From), o.Limit)
	}
	if errors.Is(err, spool.ErrNotFound) || err == nil && len(sts) == 0 {
		return nil, fmt.Errorf("%w: message %s: unknown, or ended longer ago than status_retention; the event log may have it", api.ErrNotFound, idText)
	}
	if err != nil {
		return nil, err
	}
	out := &api.Message{ID: id.String(), Accepted: id.Time(), Tenant: sts[0].Queue.Tenant, Stream: sts[0].Queue.Stream, Pool: sts[0].Queue.Pool,
		Job: sts[0].Queue.Job, Priority: sts[0].Queue.Priority.String(), Count: o.From + len(sts)}
	if err := n.fillMessage(out, id, o.Content); err != nil {
		return nil, err
	}
	for i := range sts {
		out.Deliveries = append(out.Deliveries, n.apiDelivery(&sts[i], out.Sender))
	}
	if more {
		out.Next = int(sts[len(sts)-1].ID.Index) + 1
	}
	return out, nil
}

// fillMessage adds what the stored message knows; after its end it is gone.
func (n *Node) fillMessage(out *api.Message, id message.ID, withContent bool) error {
	read := n.spool.MessageMeta
	if withContent {
		read = n.spool.Message
	}
	m, err := read(id)
	if errors.Is(err, spool.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	out.Sender, out.Tags, out.Accepted, out.Via, out.From, out.Raw, out.Template = m.Sender, m.Tags, m.Accepted, m.Via, m.From, m.Raw, m.Template
	out.Size = int64(m.Size())
	if out.Count = int(m.Deliveries); out.Count == 0 {
		out.Count = message.MaxDeliveries
	}
	if len(m.Metadata) > 0 {
		return json.Unmarshal(m.Metadata, &out.Metadata)
	}
	return nil
}

// Jobs is api.Node.
func (n *Node) Jobs(ctx context.Context, f api.JobFilter) (*api.JobList, error) {
	var afterTenant, afterJob string
	if f.Page != "" {
		var pair [2]string
		if err := json.Unmarshal([]byte(f.Page), &pair); err != nil {
			return nil, fmt.Errorf("%w: page token %q", api.ErrInvalid, f.Page)
		}
		afterTenant, afterJob = pair[0], pair[1]
	}
	out := &api.JobList{Jobs: []api.Job{}}
	for len(out.Jobs) < f.Limit && ctx.Err() == nil {
		js, more, err := n.spool.Jobs(f.Tenant, afterTenant, afterJob, f.Limit-len(out.Jobs))
		if err != nil {
			return nil, err
		}
		for i := range js {
			if j := apiJob(&js[i]); f.State == "" || f.State == j.State {
				out.Jobs = append(out.Jobs, j)
			}
		}
		if !more || len(js) == 0 {
			return out, nil
		}
		afterTenant, afterJob = js[len(js)-1].Tenant, js[len(js)-1].Job
	}
	next, err := json.Marshal([2]string{afterTenant, afterJob})
	out.Next = string(next)
	return out, err
}

func apiJob(j *spool.JobRecord) api.Job {
	out := api.Job{Tenant: j.Tenant, ID: j.Job, State: cmp.Or(string(j.State), string(spool.JobActive)), Created: j.Created, Updated: j.Activity,
		Accepted: j.Accepted, Queued: j.Queued(), Delivered: j.Delivered, Bounced: j.Bounced, Expired: j.Expired, Cancelled: j.Cancelled}
	if j.JobOrder.Updated.After(out.Updated) {
		out.Updated = j.JobOrder.Updated
	}
	if j.Rate != nil {
		out.Rate = j.Rate.String()
	}
	return out
}

// Job is api.Node.
func (n *Node) Job(_ context.Context, tenant, id string) (*api.Job, error) {
	j, err := n.spool.Job(tenant, id)
	if errors.Is(err, spool.ErrNotFound) {
		return nil, fmt.Errorf("%w: job %s of tenant %s", api.ErrNotFound, id, tenant)
	}
	if err != nil {
		return nil, err
	}
	out := apiJob(&j)
	return &out, nil
}

// ChangeJob is api.Node.
func (n *Node) ChangeJob(ctx context.Context, tenant, id string, c api.JobChange) (*api.Job, error) {
	if c.State != nil && *c.State == string(spool.JobCancelled) {
		if err := n.cancelJob(ctx, tenant, id, "admin", "cancelled by an operator"); err != nil {
			return nil, err
		}
		return n.Job(ctx, tenant, id)
	}
	err := n.changeJob(ctx, tenant, id, func(o *spool.JobOrder) error {
		if c.State != nil {
			o.State = spool.JobState(*c.State)
		}
		if c.Rate == nil {
			return nil
		}
		if *c.Rate == "" {
			o.Rate = nil
			return nil
		}
		r, err := policy.ParseRate(*c.Rate)
		if err != nil {
			return fmt.Errorf("%w: %w", api.ErrInvalid, err)
		}
		o.Rate = &r
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n.Job(ctx, tenant, id)
}

// Lanes is api.Node.
func (n *Node) Lanes(_ context.Context, f api.ListFilter) ([]api.Lane, error) {
	out := []api.Lane{}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		for _, l := range s.Lanes(now) {
			if f.Carrier != "" && f.Carrier != l.Carrier || f.Source != "" && f.Source != l.Lane.Source {
				continue
			}
			a := api.Lane{Source: l.Lane.Source, Site: l.Lane.Site, Carrier: l.Carrier, Connections: l.Open + l.Opening, Idle: l.Idle, Takes: l.Most, Until: timeOrNil(l.RestUntil)}
			if l.Last.Code != 0 {
				a.Last = l.Last.String()
			}
			out = append(out, a)
		}
	})
	slices.SortFunc(out, func(a, b api.Lane) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Source, b.Source))
	})
	return out[:min(len(out), f.Limit)], nil
}

// Sites is api.Node.
func (n *Node) Sites(_ context.Context, f api.ListFilter) ([]api.Site, error) {
	out := []api.Site{}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		fails := map[string]scheduler.LaneView{}
		for _, l := range s.Lanes(now) {
			if o, ok := fails[l.Lane.Site]; !ok || l.RestUntil.After(o.RestUntil) {
				fails[l.Lane.Site] = l
			}
		}
		for _, st := range s.Sites(now) {
			if f.Carrier != "" && f.Carrier != st.Carrier {
				continue
			}
			l := fails[st.Name]
			a := api.Site{Site: st.Name, Carrier: st.Carrier, Destinations: st.Destinations, Connections: st.Open, Failures: l.Fails, Until: timeOrNil(l.RestUntil)}
			if l.Last.Code != 0 {
				a.Last = l.Last.String()
			}
			out = append(out, a)
		}
	})
	slices.SortFunc(out, func(a, b api.Site) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Site, b.Site))
	})
	return out[:min(len(out), f.Limit)], nil
}

// Budgets is api.Node.
func (n *Node) Budgets(_ context.Context, f api.ListFilter) ([]api.Budget, error) {
	out := []api.Budget{}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		for _, b := range s.Budgets(now) {
			out = append(out, api.Budget{Scope: b.Scope, Kind: b.Kind, Limit: b.Limit, Used: b.Used, Available: b.Available, Until: timeOrNil(b.Until),
				Shared: b.Shared, Granted: b.Granted, Share: float64(b.Share) / exchange.FullShare, Part: b.Part, Permits: b.Permits})
		}
	})
	slices.SortFunc(out, func(a, b api.Budget) int { return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Kind, b.Kind)) })
	return out[:min(len(out), f.Limit)], nil
}

// handOverWithin is how long a search waits for what is between spool and log.
const handOverWithin = 2 * time.Second

// SearchEvents is api.Node.
func (n *Node) SearchEvents(ctx context.Context, q api.EventQuery, fn func(line []byte) error) (api.EventsFound, error) {
	// What happened until now is looked through, also what is still on its way: who
	// was told that a message is accepted finds it.
	ask, cancel := context.WithTimeout(ctx, handOverWithin)
	_ = n.spool.Barrier(ask) // a disk that hangs is a reason to look into the log
	cancel()
	if err := n.events.Flush(ctx); err != nil {
		return api.EventsFound{}, fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	found, err := n.events.Search(ctx, events.Query(q), func(_ *message.EventRecord, line []byte) error { return fn(line) })
	return api.EventsFound(found), err
}

// TailEvents is api.Node.
func (n *Node) TailEvents(ctx context.Context, q api.EventQuery, fn func(line []byte) error) error {
	_, err := n.events.Tail(ctx, events.Query(q), func(_ *message.EventRecord, line []byte) error { return fn(line) })
	return err
}
