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

// scopeSweep cancels, expires or retries all deliveries of a scope. Cancels
// and expiries were persisted before, so a crash in the middle goes on after
// the next start.
//
// Three things together make sure that nothing of the scope is sent after the
// order: a hold keeps the scheduler from giving more of it out; the rule turns
// what attempts under way leave queued into their end; and the pass over the
// listing, behind a barrier, ends all the rest.
type scopeSweep struct {
	n        *Node
	a        spool.Action
	rule     *rule // nil for a retry
	done     chan struct{}
	err      error            // set before done is closed
	meta     *message.Message // of the last delivery ended: in a job's queue thousands in a row have the same
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

// endingAtOnce bounds the transitions of a sweep that wait for the disk. With as
// many as the spool lets stand in line, 65,536, the cancel of a job of a million
// took 550 MB.
const endingAtOnce = 4096

// startSweep runs a sweep until it is through, taken back, or the node ends.
func (n *Node) startSweep(a spool.Action) *scopeSweep {
	sw := &scopeSweep{n: n, a: a, done: make(chan struct{})}
	if v := verdictOf(&a); v != nil {
		sw.rule = &rule{verdict: *v, scope: a.Scope, created: a.Created}
		n.mover.past.note(a)
	}
	ctx, stop := context.WithCancel(n.root)
	n.actions.running(a.ID, stop)
	started := n.tasks.start(func() {
		defer close(sw.done)
		defer stop()
		defer n.actions.running(a.ID, nil)
		if sw.err = sw.run(ctx); sw.err != nil && ctx.Err() == nil {
			n.log.Error("act on a scope; it goes on at the next start", "action", a.ID, "verb", a.Kind, "error", sw.err)
		}
	})
	if !started {
		stop()
		sw.err = errEnding
		close(sw.done)
	}
	return sw
}

// verdictOf is what an action means for deliveries in flight.
func verdictOf(a *spool.Action) *verdict {
	switch a.Kind {
	case api.VerbCancel:
		return &verdict{message.Cancelled, a.Reason}
	case api.VerbExpire:
		return &verdict{message.Expired, a.Reason}
	}
	return nil
}

func (sw *scopeSweep) waitInto(ctx context.Context, res *api.ActionResult) error {
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	select {
	case <-sw.done:
		switch {
		case sw.n.root.Err() != nil && sw.err != nil:
			return fmt.Errorf("%w: the node is ending; the action goes on at the next start", api.ErrUnavailable)
		case errors.Is(sw.err, context.Canceled):
			return fmt.Errorf("%w: the action was taken back before it was through", api.ErrConflict)
		case sw.err != nil:
			return sw.err
		}
	case <-timer.C:
		res.Running = true
	case <-ctx.Done():
		res.Running = true
	}
	res.Affected, res.TooLate = sw.affected.Load(), sw.late.Load()
	sw.mu.Lock()
	defer sw.mu.Unlock()
	res.TooLateIDs = append([]string(nil), sw.mu.lateIDs...)
	return nil
}

func (sw *scopeSweep) run(ctx context.Context) error {
	n := sw.n
	if sw.rule == nil {
		_, err := sw.pass(ctx, true)
		return err
	}
	release := func() {
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, sw.a.ID) })
	}
	n.holdScope(sw.a)
	defer release()
	n.dispatch.setRule(sw.rule)
	defer n.dispatch.clearRule(sw.rule)
	// Outcomes that were decided before the rule are handed in now, and behind
	// the barrier the listing shows what they left.
	n.deciding.Lock()
	n.deciding.Unlock() //nolint:staticcheck // to have waited is all
	n.mover.past.settle()
	for first, found := true, true; found; first = false {
		if err := n.spool.Barrier(ctx); err != nil {
			return err
		}
		var err error
		if found, err = sw.pass(ctx, first); err != nil {
			return err
		}
	}
	return n.spool.RetireAction(ctx, sw.a)
}

// pass goes over the scope once and returns when what it found has ended.
func (sw *scopeSweep) pass(ctx context.Context, first bool) (found bool, err error) {
	n := sw.n
	var taken, flying waiting
	room := make(chan struct{}, endingAtOnce)
	carriers := carrierMemo{n: n}
	for after := spool.Position(""); ; {
		ds, next, err := n.spool.List(ctx, sw.a.Scope, after, 512)
		if err != nil {
			return found, err
		}
		for _, d := range ds {
			if !sw.wants(ctx, d, &carriers) {
				continue
			}
			found = true
			var o *order
			if sw.rule != nil {
				o = &order{sw.rule.verdict, flying.begin()}
			}
			if !n.dispatch.claim(d, o) {
				if first {
					sw.tooLate(d)
				}
				continue
			}
			if o != nil {
				o.landed(nil) // it was not needed
			}
			room <- struct{}{} // what is in line always gets its answer
			landed := taken.begin()
			sw.act(d, func(err error) {
				if err == nil {
					sw.affected.Add(1)
				}
				<-room
				landed(err)
			})
		}
		if next == "" {
			break
		}
		after = next
	}
	if err := taken.wait(ctx); err != nil {
		return found, err
	}
	if sw.rule != nil {
		// All that was there is ended or has its order: new mail of the scope
		// need not wait for attempts that take long.
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.Release(now, sw.a.ID) })
	}
	return found, flying.wait(ctx)
}

// waiting counts things that end with an error or nil.
type waiting struct {
	mu struct {
		sync.Mutex
		open int
		err  error         // the first that matters
		idle chan struct{} // closed when open is back at 0; nil when nobody waits
	}
}

// begin adds one; what it returns ends it.
func (w *waiting) begin() func(error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.open++
	return w.end
}

func (w *waiting) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// One that has moved on is met again where it is now.
	if err != nil && !errors.Is(err, spool.ErrGone) && w.mu.err == nil {
		w.mu.err = err
	}
	if w.mu.open--; w.mu.open == 0 && w.mu.idle != nil {
		close(w.mu.idle)
		w.mu.idle = nil
	}
}

// wait returns when all have ended, or ctx has.
func (w *waiting) wait(ctx context.Context) error {
	w.mu.Lock()
	var idle chan struct{}
	if w.mu.open > 0 {
		idle = make(chan struct{})
		w.mu.idle = idle
	}
	w.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// carrierMemo looks the carrier of a destination up once for all the
// deliveries that stand one after the other in a listing.
type carrierMemo struct {
	n             *Node
	dest, carrier string
}

func (c *carrierMemo) of(ctx context.Context, dest string) string {
	if c.dest != dest {
		c.dest, c.carrier = dest, ""
		if w, reply := c.n.wayTo(ctx, dest); reply == nil {
			c.carrier = w.carrier
		}
	}
	return c.carrier
}

// wants reports whether the action is for a delivery: what was accepted after
// it was ordered is not.
func (sw *scopeSweep) wants(ctx context.Context, d *message.Delivery, carriers *carrierMemo) bool {
	if d.Accepted.After(sw.a.Created) {
		return false
	}
	// A retry is for what failed before; scheduled mail keeps its hour.
	if sw.a.Kind == api.VerbRetry && (d.Attempts == 0 || !d.Due.After(sw.a.Created)) {
		return false
	}
	c := sw.a.Scope.Carrier
	return c == "" || c == carriers.of(ctx, d.Queue.Destination)
}

func (sw *scopeSweep) tooLate(d *message.Delivery) {
	sw.late.Add(1)
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if len(sw.mu.lateIDs) < maxLateIDs {
		sw.mu.lateIDs = append(sw.mu.lateIDs, d.ID.String())
	}
}

// maxLateIDs bounds the list of those that were too late.
const maxLateIDs = 1000

func (sw *scopeSweep) act(d *message.Delivery, done func(error)) {
	if sw.rule != nil {
		if sw.meta == nil || sw.meta.ID != d.ID.Message {
			sw.meta = sw.n.metaForEnd(d)
		}
		sw.n.endOf(d, sw.meta, sw.rule.state, sw.rule.reply(d), done)
		return
	}
	sw.n.retryNow(d, done)
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
	e := n.newEnding(d, next.Due)
	e.t.Next = next
	e.commit(done)
}
