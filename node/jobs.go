package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hikyaku/node/api"
	"hikyaku/scheduler"
	"hikyaku/spool"
)

// jobName names a job over all tenants.
type jobName struct{ tenant, job string }

// jobOrders is what acceptance must know of jobs: that one was cancelled, which
// is final, so that its new mail is refused.
type jobOrders struct {
	// accepting is held for reading while a job's message is on its way into
	// the spool. A cancel takes it once: what passed the check before is then
	// there to be cancelled.
	accepting sync.RWMutex
	change    sync.Mutex // one change of a job's order at a time
	mu        struct {
		sync.Mutex
		cancelled map[jobName]struct{}
		overflow  bool // there are more than that: the spool knows them all
	}
}

// maxCancelledJobs bounds the cancelled jobs kept in memory.
const maxCancelledJobs = 100_000

func (j *jobOrders) noteCancelled(name jobName) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.cancelled == nil {
		j.mu.cancelled = map[jobName]struct{}{}
	}
	if _, ok := j.mu.cancelled[name]; !ok && len(j.mu.cancelled) >= maxCancelledJobs {
		j.mu.overflow = true
		return
	}
	j.mu.cancelled[name] = struct{}{}
}

// jobCancelled reports whether a job was cancelled.
func (n *Node) jobCancelled(name jobName) bool {
	j := &n.jobs
	j.mu.Lock()
	_, cancelled := j.mu.cancelled[name]
	overflow := j.mu.overflow
	j.mu.Unlock()
	if cancelled || !overflow {
		return cancelled
	}
	r, err := n.spool.Job(name.tenant, name.job)
	return err == nil && r.State == spool.JobCancelled
}

// restoreJobs puts what was ordered for jobs in force again.
func (n *Node) restoreJobs(ctx context.Context) error {
	var tenant, job string
	for {
		js, more, err := n.spool.Jobs("", tenant, job, 500)
		if err != nil {
			return fmt.Errorf("read jobs: %w", err)
		}
		for i := range js {
			n.orderJob(&js[i])
			// A crash came between the cancel and its sweep, or while a message
			// of the job was on its way.
			if js[i].State == spool.JobCancelled && js[i].Queued() > 0 {
				if err := n.sweepJob(ctx, &js[i], false); err != nil {
					return err
				}
			}
		}
		if !more || len(js) == 0 {
			return nil
		}
		tenant, job = js[len(js)-1].Tenant, js[len(js)-1].Job
	}
}

// orderJob tells the scheduler, and acceptance, what stands for a job.
func (n *Node) orderJob(j *spool.JobRecord) {
	if j.State == spool.JobCancelled {
		n.jobs.noteCancelled(jobName{j.Tenant, j.Job})
	}
	c := scheduler.JobControl{Paused: j.State == spool.JobPaused, Rate: j.Rate}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.SetJob(now, j.Tenant, j.Job, c) })
}

// changeJob changes what stands for a job, durably first.
func (n *Node) changeJob(ctx context.Context, tenant, job string, change func(*spool.JobOrder) error) error {
	n.jobs.change.Lock()
	defer n.jobs.change.Unlock()
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
	n.jobs.accepting.Lock()
	n.jobs.accepting.Unlock() //nolint:staticcheck // to have waited is all
	j, err := n.spool.Job(tenant, job)
	if err != nil {
		return err
	}
	return n.sweepJob(ctx, &j, true)
}

// sweepJob cancels what is queued of a job; wait says to give it some time.
func (n *Node) sweepJob(ctx context.Context, j *spool.JobRecord, wait bool) error {
	now := n.now()
	a := spool.Action{ID: n.ids.New(now).String(), Kind: api.VerbCancel, Reason: j.Reason, Author: j.Author, Created: now}
	a.Scope.Tenant, a.Scope.Job = j.Tenant, j.Job
	if err := n.spool.PutAction(ctx, a); err != nil {
		return err
	}
	sw := n.startSweep(a)
	if !wait {
		return nil
	}
	var res api.ActionResult
	return sw.waitInto(ctx, &res)
}
