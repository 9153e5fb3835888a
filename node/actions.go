package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/node/api"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// actionLoop runs what takes longer than a request: cancels, expiries and
// retries over a scope. They are persisted first, so a crash in the middle
// goes on after the next start.
type actionLoop struct {
	mu struct {
		sync.Mutex
		holds map[string]time.Time // expiry of holds that have one
	}
}

const holdCheck = time.Second

// loop ends holds whose time is over. Owned by Node.Run.
func (l *actionLoop) loop(ctx context.Context, n *Node) {
	tick := time.NewTicker(holdCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, id := range l.expired(n.now()) {
				n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, id) })
				if err := n.spool.DeleteAction(ctx, id); err != nil && !errors.Is(err, spool.ErrNotFound) {
					n.log.Error("end hold", "action", id, "error", err)
				}
			}
		}
	}
}

func (l *actionLoop) expired(now time.Time) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, at := range l.mu.holds {
		if !at.After(now) {
			ids = append(ids, id)
			delete(l.mu.holds, id)
		}
	}
	return ids
}

func (l *actionLoop) noteExpiry(id string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.holds == nil {
		l.mu.holds = map[string]time.Time{}
	}
	if at.IsZero() {
		delete(l.mu.holds, id)
	} else {
		l.mu.holds[id] = at
	}
}

// restoreActions puts what was ordered before the start in force again.
func (n *Node) restoreActions(ctx context.Context) error {
	as, err := n.spool.Actions()
	if err != nil {
		return fmt.Errorf("read actions: %w", err)
	}
	for _, a := range as {
		n.holdScope(a)
		if a.Kind != api.VerbHold {
			n.startSweep(ctx, a)
		}
	}
	return nil
}

func (n *Node) restoreJobs() error {
	var tenant, job string
	for {
		js, more, err := n.spool.Jobs("", tenant, job, 500)
		if err != nil {
			return fmt.Errorf("read jobs: %w", err)
		}
		for i := range js {
			n.orderJob(&js[i])
		}
		if !more || len(js) == 0 {
			return nil
		}
		tenant, job = js[len(js)-1].Tenant, js[len(js)-1].Job
	}
}

// jobName names a job over all tenants.
type jobName struct{ tenant, job string }

// orderJob tells the scheduler, and acceptance, what stands for a job.
func (n *Node) orderJob(j *spool.JobRecord) {
	if j.State == spool.JobCancelled {
		n.cancelledJobs.Store(jobName{j.Tenant, j.Job}, struct{}{})
	}
	c := scheduler.JobControl{Paused: j.State == spool.JobPaused, Rate: j.Rate}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.SetJob(now, j.Tenant, j.Job, c) })
}

func (n *Node) holdScope(a spool.Action) {
	n.actions.noteExpiry(a.ID, a.Expires)
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		s.Hold(now, scheduler.Hold{ID: a.ID, Scope: a.Scope, Reason: a.Reason})
	})
}

// Act is api.Node.
func (n *Node) Act(ctx context.Context, r *api.ActionRequest) (*api.ActionResult, error) {
	if r.Message != "" {
		return n.actOnMessage(ctx, r)
	}
	scope := r.Scope.Message()
	if scope.IsZero() && !r.All {
		return nil, fmt.Errorf("%w: the scope is empty, which is everything; say all if that is meant", api.ErrInvalid)
	}
	if scope.Source != "" && r.Verb != api.VerbHold && r.Verb != api.VerbRelease {
		return nil, fmt.Errorf("%w: a source can be held and released; queued mail belongs to no source", api.ErrInvalid)
	}
	if r.Verb == api.VerbRelease {
		return n.release(ctx, r, scope)
	}
	a := spool.Action{ID: n.ids.New(n.now()).String(), Kind: r.Verb, Scope: scope, Reason: r.Reason, Author: r.Author, Created: n.now()}
	if r.Expires != nil && r.Verb == api.VerbHold {
		a.Expires = r.Expires.UTC()
	}
	res := &api.ActionResult{Action: apiAction(&a)}
	if r.Verb == api.VerbHold {
		if err := n.spool.PutAction(ctx, a); err != nil {
			return nil, err
		}
		n.holdScope(a)
		res.Affected = n.queuedIn(scope)
		return res, nil
	}
	if r.Verb != api.VerbRetry { // a retry is done or not; nothing holds meanwhile
		if err := n.spool.PutAction(ctx, a); err != nil {
			return nil, err
		}
		n.holdScope(a)
	}
	n.startSweep(ctx, a).waitInto(ctx, res)
	return res, nil
}

func apiAction(a *spool.Action) api.Action {
	out := api.Action{ID: a.ID, Verb: a.Kind, Scope: api.Scope(a.Scope), Reason: a.Reason, Author: a.Author, Created: a.Created}
	if !a.Expires.IsZero() {
		out.Expires = &a.Expires
	}
	return out
}

// release ends the holds that were made with the same scope.
func (n *Node) release(ctx context.Context, r *api.ActionRequest, scope message.Scope) (*api.ActionResult, error) {
	as, err := n.spool.Actions()
	if err != nil {
		return nil, err
	}
	var res *api.ActionResult
	for _, a := range as {
		if a.Kind == api.VerbHold && a.Scope == scope {
			if res, err = n.DeleteAction(ctx, a.ID); err != nil {
				return nil, err
			}
		}
	}
	if res == nil {
		return nil, fmt.Errorf("%w: nothing is held with this scope; \"hikyaku actions ls\" shows what is", api.ErrNotFound)
	}
	res.Verb, res.Reason, res.Author = api.VerbRelease, r.Reason, r.Author
	return res, nil
}

// Actions is api.Node.
func (n *Node) Actions(context.Context) ([]api.Action, error) {
	as, err := n.spool.Actions()
	if err != nil {
		return nil, err
	}
	out := make([]api.Action, len(as))
	for i := range as {
		out[i] = apiAction(&as[i])
	}
	return out, nil
}

// DeleteAction is api.Node: it ends a hold, or stops a cancel on its way.
func (n *Node) DeleteAction(ctx context.Context, id string) (*api.ActionResult, error) {
	as, err := n.spool.Actions()
	if err != nil {
		return nil, err
	}
	for _, a := range as {
		if a.ID != id {
			continue
		}
		if err := n.spool.DeleteAction(ctx, id); err != nil {
			return nil, err
		}
		n.actions.noteExpiry(id, time.Time{})
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, id) })
		return &api.ActionResult{Action: apiAction(&a), Affected: n.queuedIn(a.Scope)}, nil
	}
	return nil, fmt.Errorf("%w: action %s", api.ErrNotFound, id)
}

// queuedIn counts what is queued in a scope.
func (n *Node) queuedIn(scope message.Scope) (total int64) {
	n.eachQueue(scope, func(_ *message.QueueKey, c int64) { total += c })
	return total
}

// sweep is one pass after another over the deliveries of a scope.
type scopeSweep struct {
	n        *Node
	a        spool.Action
	done     chan struct{}
	affected atomic.Int64
	late     atomic.Int64
	mu       struct {
		sync.Mutex
		lateIDs []string
	}
}

// answerWithin is how long a request waits for its sweep before it answers
// "running".
const answerWithin = 2 * time.Second

func (n *Node) startSweep(ctx context.Context, a spool.Action) *scopeSweep {
	sw := &scopeSweep{n: n, a: a, done: make(chan struct{})}
	ctx = context.WithoutCancel(ctx) // it goes on when the request has ended
	n.work.Go(func() {
		defer close(sw.done)
		if err := sw.run(ctx); err != nil && !errors.Is(err, spool.ErrClosed) {
			n.log.Error("act on a scope; it goes on at the next start", "action", a.ID, "verb", a.Kind, "error", err)
		}
	})
	return sw
}

func (sw *scopeSweep) waitInto(ctx context.Context, res *api.ActionResult) {
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	select {
	case <-sw.done:
	case <-timer.C:
		res.Running = true
	case <-ctx.Done():
		res.Running = true
	}
	res.Affected, res.TooLate = sw.affected.Load(), sw.late.Load()
	sw.mu.Lock()
	res.TooLateIDs = append([]string(nil), sw.mu.lateIDs...)
	sw.mu.Unlock()
}

// run makes passes until one finds nothing that the action is for. What is in
// flight during a pass is looked at again: its outcome may leave it queued.
func (sw *scopeSweep) run(ctx context.Context) error {
	for pass := 0; ; pass++ {
		again, err := sw.pass(ctx, pass == 0)
		if err != nil {
			return err
		}
		if sw.a.Kind == api.VerbRetry {
			return nil
		}
		if !again {
			break
		}
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
		if sw.n.draining.Load() {
			return nil // the action stands; it goes on after the start
		}
	}
	sw.n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, sw.a.ID) })
	if err := sw.n.spool.DeleteAction(ctx, sw.a.ID); err != nil && !errors.Is(err, spool.ErrNotFound) {
		return err
	}
	return nil
}

func (sw *scopeSweep) pass(ctx context.Context, first bool) (again bool, err error) {
	n := sw.n
	var after spool.Position
	var pending sync.WaitGroup
	defer pending.Wait()
	for {
		ds, next, err := n.spool.List(ctx, sw.a.Scope, after, 512)
		if err != nil {
			return again, err
		}
		for _, d := range ds {
			if !sw.wants(ctx, d) {
				continue
			}
			again = true
			if !n.dispatch.take(d) {
				if first {
					sw.tooLate(d)
				}
				continue
			}
			pending.Add(1)
			sw.act(d, func(err error) {
				if err == nil {
					sw.affected.Add(1)
				}
				pending.Done()
			})
		}
		if next == "" {
			return again, nil
		}
		after = next
	}
}

// wants reports whether the action is for a delivery: what was accepted after
// it was ordered is not.
func (sw *scopeSweep) wants(ctx context.Context, d *message.Delivery) bool {
	if d.Accepted.After(sw.a.Created) {
		return false
	}
	if c := sw.a.Scope.Carrier; c != "" {
		if w, reply := sw.n.wayTo(ctx, d.Queue.Destination); reply != nil || w.carrier != c {
			return false
		}
	}
	// A retry is for what failed before; scheduled mail keeps its hour.
	return sw.a.Kind != api.VerbRetry || d.Attempts > 0 && d.Due.After(sw.a.Created)
}

func (sw *scopeSweep) tooLate(d *message.Delivery) {
	sw.late.Add(1)
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if len(sw.mu.lateIDs) < 1000 {
		sw.mu.lateIDs = append(sw.mu.lateIDs, d.ID.String())
	}
}

func (sw *scopeSweep) act(d *message.Delivery, done func(error)) {
	switch sw.a.Kind {
	case api.VerbCancel:
		sw.n.end(d, message.Cancelled, cancelReply(sw.a.Reason), done)
	case api.VerbExpire:
		sw.n.end(d, message.Expired, expiredReply(d), done)
	default:
		sw.n.retryNow(d, done)
	}
}

func cancelReply(reason string) message.Reply {
	text := "cancelled"
	if reason != "" {
		text += ": " + reason
	}
	return message.Fail(550, message.Enhanced{Class: 5, Subject: 7, Detail: 0}, message.PhasePolicy, message.FaultLocal, text)
}

// retryNow makes a waiting delivery due at once, durably. No event is written:
// nothing happened to it yet.
func (n *Node) retryNow(d *message.Delivery, done func(error)) {
	next := d.Clone()
	next.Due = n.now()
	n.commits.Add(1)
	n.spool.Commit(&spool.Transition{Delivery: d, Next: next}, func(err error) {
		defer n.commits.Done()
		if err != nil {
			n.dispatch.forget(d)
		} else {
			n.dispatch.done(d, next)
		}
		done(err)
	})
}

// actOnMessage cancels, expires or retries one message or delivery.
func (n *Node) actOnMessage(ctx context.Context, r *api.ActionRequest) (*api.ActionResult, error) {
	if r.Verb == api.VerbHold || r.Verb == api.VerbRelease {
		return nil, fmt.Errorf("%w: hold and release are for scopes; name the message's job, stream or destination", api.ErrInvalid)
	}
	id, index, err := parseMessageOrDelivery(r.Message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	a := spool.Action{Kind: r.Verb, Reason: r.Reason, Author: r.Author, Created: n.now()}
	sw := &scopeSweep{n: n, a: a}
	ended, found, err := sw.message(id, index)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w: message %s", api.ErrNotFound, r.Message)
	}
	if sw.affected.Load() == 0 && sw.late.Load() == 0 && ended > 0 && r.Verb != api.VerbRetry {
		return nil, fmt.Errorf("%w: %s has ended already", api.ErrConflict, r.Message)
	}
	res := &api.ActionResult{Action: apiAction(&a), Affected: sw.affected.Load(), TooLate: sw.late.Load(), TooLateIDs: sw.mu.lateIDs}
	res.Message = r.Message
	return res, nil
}

// message acts on the deliveries of one message. ended counts recipients that
// had ended before.
func (sw *scopeSweep) message(id message.ID, index *uint16) (ended int, found bool, err error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	err = sw.n.eachStatus(id, index, func(st *spool.Status) {
		found = true
		ended += len(st.Final)
		d := st.Queued
		if d == nil || sw.a.Kind == api.VerbRetry && !d.Due.After(sw.a.Created) {
			return
		}
		if !sw.n.dispatch.take(d) {
			sw.tooLate(d)
			return
		}
		wg.Add(1)
		sw.act(d, func(err error) {
			if err == nil {
				sw.affected.Add(int64(len(d.Recipients)))
			}
			wg.Done()
		})
	})
	wg.Wait()
	return ended, found, err
}

// eachStatus calls fn for the deliveries of a message, or one of them.
func (n *Node) eachStatus(id message.ID, index *uint16, fn func(*spool.Status)) error {
	if index != nil {
		st, err := n.spool.Status(message.DeliveryID{Message: id, Index: *index})
		if errors.Is(err, spool.ErrNotFound) {
			return nil
		}
		if err == nil {
			fn(&st)
		}
		return err
	}
	from := uint16(0)
	for {
		sts, more, err := n.spool.MessageStatus(id, from, 500)
		if errors.Is(err, spool.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range sts {
			fn(&sts[i])
		}
		if !more || len(sts) == 0 || sts[len(sts)-1].ID.Index == message.MaxDeliveries-1 {
			return nil
		}
		from = sts[len(sts)-1].ID.Index + 1
	}
}

// parseMessageOrDelivery reads either form of id; index is nil for a message.
func parseMessageOrDelivery(s string) (id message.ID, index *uint16, err error) {
	if len(s) == message.IDTextLen {
		id, err = message.ParseID(s)
		return id, nil, err
	}
	d, err := message.ParseDeliveryID(s)
	return d.Message, &d.Index, err
}
