package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hikyaku/node/api"
	"hikyaku/node/ingest"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// clientQueue is ingest.Queue: what a tenant may ask of its own mail. Mail of
// another tenant is answered like mail that does not exist.
type clientQueue struct{ n *Node }

// MessageStatus is ingest.Queue.
func (c clientQueue) MessageStatus(_ context.Context, tenant string, id message.ID, from uint16, limit int) (*ingest.MessageStatus, error) {
	n := c.n
	sts, more, err := n.spool.MessageStatus(id, from, limit)
	if errors.Is(err, spool.ErrNotFound) || err == nil && len(sts) > 0 && sts[0].Queue.Tenant != tenant {
		return nil, ingest.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	out := &ingest.MessageStatus{ID: id, Accepted: id.Time()}
	if m, err := n.spool.MessageMeta(id); err == nil {
		if m.Tenant != tenant {
			return nil, ingest.ErrNotFound
		}
		out.Job, out.Stream, out.Pool, out.Sender, out.Tags, out.Metadata, out.Accepted = m.Job, m.Stream, m.Pool, m.Sender, m.Tags, m.Metadata, m.Accepted
		if out.Total = int(m.Deliveries); out.Total == 0 {
			out.Total = message.MaxDeliveries
		}
	} else if len(sts) == 0 {
		return nil, ingest.ErrNotFound
	}
	for i := range sts {
		st := &sts[i]
		if out.Job == "" {
			out.Job, out.Stream, out.Pool = st.Queue.Job, st.Queue.Stream, st.Queue.Pool
		}
		out.Deliveries = append(out.Deliveries, deliveryStatus(st))
	}
	out.Total = max(out.Total, int(from)+len(sts))
	if more {
		next := int(sts[len(sts)-1].ID.Index) + 1
		out.Next = &next
	}
	return out, nil
}

func deliveryStatus(st *spool.Status) ingest.DeliveryStatus {
	out := ingest.DeliveryStatus{ID: st.ID, Destination: st.Queue.Destination}
	for i := range st.Final {
		f := &st.Final[i]
		out.Recipients = append(out.Recipients, ingest.RecipientStatus{Email: f.Recipient, State: f.State, At: &f.At, Reply: &f.Reply})
		out.Attempts = max(out.Attempts, int(f.Attempts))
	}
	if d := st.Queued; d != nil {
		out.Attempts, out.Due, out.Expires = int(d.Attempts), &d.Due, &d.Expires
		for i := range d.Recipients {
			out.Recipients = append(out.Recipients, ingest.RecipientStatus{Email: d.Recipients[i].Address, State: message.Queued})
		}
		if l := d.Last; l != nil {
			out.Last = &ingest.AttemptStatus{At: l.At, Source: l.Source, Host: l.Host, Reply: l.Reply}
		}
	}
	return out
}

// CancelMessage is ingest.Queue.
func (c clientQueue) CancelMessage(_ context.Context, tenant string, id message.ID, index *uint16) (*ingest.CancelResult, error) {
	n := c.n
	res := &ingest.CancelResult{ID: id.String()}
	if index != nil {
		res.ID = message.DeliveryID{Message: id, Index: *index}.String()
	}
	var mine []spool.Status
	err := n.eachStatus(id, index, func(st *spool.Status) {
		if st.Queue.Tenant == tenant {
			mine = append(mine, *st)
		}
	})
	if err != nil {
		return nil, err
	}
	if len(mine) == 0 {
		return nil, ingest.ErrNotFound
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range mine {
		res.Ended += len(mine[i].Final)
		d := mine[i].Queued
		if d == nil {
			continue
		}
		if !n.dispatch.take(d) {
			res.InFlight += len(d.Recipients)
			n.cancelAfter(d)
			continue
		}
		wg.Add(1)
		n.end(d, message.Cancelled, cancelReply("by its sender"), func(err error) {
			mu.Lock()
			if err == nil {
				res.Cancelled += len(d.Recipients)
			} else {
				res.Ended += len(d.Recipients)
			}
			mu.Unlock()
			wg.Done()
		})
	}
	wg.Wait()
	return res, nil
}

// cancelAfter ends a delivery that is in flight if its attempt leaves it
// queued: no further attempt follows a cancel.
func (n *Node) cancelAfter(d *message.Delivery) {
	n.work.Go(func() {
		for !n.draining.Load() {
			timer := time.NewTimer(50 * time.Millisecond)
			<-timer.C
			st, err := n.spool.Status(d.ID)
			if err != nil || st.Queued == nil {
				return
			}
			if n.dispatch.take(st.Queued) {
				n.end(st.Queued, message.Cancelled, cancelReply("by its sender"), nil)
				return
			}
		}
	})
}

// Job is ingest.Queue.
func (c clientQueue) Job(_ context.Context, tenant, job string) (*ingest.JobStatus, error) {
	j, err := c.n.spool.Job(tenant, job)
	if errors.Is(err, spool.ErrNotFound) {
		return nil, ingest.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	out := &ingest.JobStatus{Job: j.Job, State: string(j.State), Rate: j.Rate, Accepted: j.Accepted, Queued: j.Queued(), Delivered: j.Delivered,
		Bounced: j.Bounced, Expired: j.Expired, Cancelled: j.Cancelled, First: timeOrNil(j.Created), Last: timeOrNil(j.Activity)}
	if out.State == "" {
		out.State = ingest.JobActive
	}
	return out, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// PatchJob is ingest.Queue.
func (c clientQueue) PatchJob(ctx context.Context, tenant, job string, p ingest.JobPatch) (*ingest.JobStatus, error) {
	err := c.n.changeJob(ctx, tenant, job, func(o *spool.JobOrder) error {
		if p.State != nil {
			o.State = spool.JobState(*p.State)
		}
		switch {
		case p.ClearRate:
			o.Rate = nil
		case p.Rate != nil:
			o.Rate = p.Rate
		}
		return nil
	})
	if errors.Is(err, api.ErrNotFound) {
		return nil, ingest.ErrNotFound
	}
	if errors.Is(err, api.ErrConflict) {
		return nil, &ingest.Refusal{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 7, Detail: 0}, HTTP: 409, Text: "the job was cancelled, which is final"}
	}
	if err != nil {
		return nil, err
	}
	return c.Job(ctx, tenant, job)
}

// CancelJob is ingest.Queue.
func (c clientQueue) CancelJob(ctx context.Context, tenant, job string) (*ingest.JobStatus, error) {
	if err := c.n.cancelJob(ctx, tenant, job, "tenant "+tenant, "cancelled by its sender"); err != nil {
		if errors.Is(err, api.ErrNotFound) {
			return nil, ingest.ErrNotFound
		}
		return nil, err
	}
	return c.Job(ctx, tenant, job)
}

// changeJob changes what stands for a job, durably first.
func (n *Node) changeJob(ctx context.Context, tenant, job string, change func(*spool.JobOrder) error) error {
	j, err := n.spool.Job(tenant, job)
	if errors.Is(err, spool.ErrNotFound) {
		return fmt.Errorf("%w: job %s of tenant %s", api.ErrNotFound, job, tenant)
	}
	if err != nil {
		return err
	}
	if j.State == spool.JobCancelled {
		return fmt.Errorf("%w: the job was cancelled, which is final", api.ErrConflict)
	}
	if err := change(&j.JobOrder); err != nil {
		return err
	}
	j.Updated = n.now()
	if err := n.spool.PutJob(ctx, tenant, job, j.JobOrder); err != nil {
		return err
	}
	n.orderJob(&j)
	return nil
}

// cancelJob ends what is left of a job. New mail for it is refused from now on.
func (n *Node) cancelJob(ctx context.Context, tenant, job, author, reason string) error {
	err := n.changeJob(ctx, tenant, job, func(o *spool.JobOrder) error {
		o.State, o.Rate, o.Reason, o.Author = spool.JobCancelled, nil, reason, author
		return nil
	})
	if err != nil && !errors.Is(err, api.ErrConflict) {
		return err
	}
	_, err = n.Act(ctx, &api.ActionRequest{Verb: api.VerbCancel, Scope: api.Scope{Tenant: tenant, Job: job}, Author: author, Reason: reason})
	return err
}
