package node

import (
	"context"
	"errors"
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
func (c clientQueue) CancelMessage(ctx context.Context, tenant string, id message.ID, index *uint16) (*ingest.CancelResult, error) {
	n := c.n
	res := &ingest.CancelResult{ID: id.String()}
	if index != nil {
		res.ID = message.DeliveryID{Message: id, Index: *index}.String()
	}
	a := spool.Action{Kind: api.VerbCancel, Message: res.ID, Scope: message.Scope{Tenant: tenant}, Reason: "by its sender", Author: "tenant " + tenant, Created: n.now()}
	did, err := n.cancelOnMessage(ctx, a, id, index)
	if err != nil {
		return nil, err
	}
	if !did.found {
		return nil, ingest.ErrNotFound
	}
	res.Cancelled, res.InFlight, res.Ended = int(did.affected.Load()), did.late, did.ended
	return res, nil
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
