package node

import (
	"context"
	"sync"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// dispatcher holds the scheduler behind its one mutex and carries out what it
// asks for. Its loop is the goroutine that Node.Run owns; pages, look-ups and
// sessions are goroutines of n.work, as many as the scheduler allows.
type dispatcher struct {
	n     *Node
	kick  chan struct{} // something may be pending
	ends  chan scheduler.Action
	swept chan struct{} // a sweep was added
	mu    struct {
		sync.Mutex
		sched    *scheduler.Scheduler
		waiters  map[string][]*waiter // by site: sessions without work
		sweeps   []message.QueueKey
		closing  bool
		sessions map[*outbound]struct{}
	}
}

// waiter is a session that waits for work.
type waiter struct {
	lane scheduler.Lane
	ch   chan struct{} // capacity 1
}

// actionsAtOnce bounds one round under the lock.
const actionsAtOnce = 256

func newDispatcher(n *Node, sched *scheduler.Scheduler) *dispatcher {
	d := &dispatcher{n: n, kick: make(chan struct{}, 1), ends: make(chan scheduler.Action, 4*actionsAtOnce), swept: make(chan struct{}, 1)}
	d.mu.sched = sched
	d.mu.waiters = map[string][]*waiter{}
	d.mu.sessions = map[*outbound]struct{}{}
	return d
}

// with runs fn under the lock and passes on what it made possible. fn must not
// block.
func (d *dispatcher) with(fn func(s *scheduler.Scheduler, now time.Time)) {
	now := d.n.now()
	d.mu.Lock()
	fn(d.mu.sched, now)
	d.mu.sched.Woken(d.wakeLocked)
	pending := d.mu.sched.Pending(now)
	d.mu.Unlock()
	if pending {
		d.poke()
	}
}

// poke lets the loop look.
func (d *dispatcher) poke() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// wakeLocked lets one waiting session of each lane of the site look again.
func (d *dispatcher) wakeLocked(site string) {
	ws := d.mu.waiters[site]
	keep := ws[:0]
	for i, w := range ws {
		first := true
		for _, o := range ws[:i] {
			if o != nil && o.lane == w.lane {
				first = false
				break
			}
		}
		if !first {
			keep = append(keep, w)
			continue
		}
		w.ch <- struct{}{} // it is in the list once, so there is room
	}
	clear(ws[len(keep):])
	if len(keep) == 0 {
		delete(d.mu.waiters, site)
	} else {
		d.mu.waiters[site] = keep
	}
}

// add hands durable deliveries over; it reports whether any was loaded.
func (d *dispatcher) add(ds []*message.Delivery) (loaded bool) {
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		for _, del := range ds {
			if s.Add(now, del) {
				loaded = true
			}
		}
	})
	return loaded
}

// done tells the scheduler of a durable transition.
func (d *dispatcher) done(del, next *message.Delivery) {
	d.with(func(s *scheduler.Scheduler, now time.Time) { s.Done(now, del, next) })
}

// forget drops a delivery whose transition was not taken; if it still stands
// on disk it is found there again.
func (d *dispatcher) forget(del *message.Delivery) {
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		s.Done(now, del, nil)
		s.AddQueue(now, del.Queue, del.Due)
	})
}

func (d *dispatcher) putBack(del *message.Delivery) {
	d.with(func(s *scheduler.Scheduler, now time.Time) { s.PutBack(now, del) })
}

// take claims a delivery for something other than an attempt.
func (d *dispatcher) take(del *message.Delivery) (ok bool) {
	d.with(func(s *scheduler.Scheduler, now time.Time) { ok = s.Take(now, del) })
	return ok
}

// loop carries out actions until ctx ends.
func (d *dispatcher) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := d.n.now()
		d.mu.Lock()
		acts := d.mu.sched.Actions(now, actionsAtOnce)
		wake := d.mu.sched.Wake(now)
		d.mu.sched.Woken(d.wakeLocked)
		d.mu.Unlock()
		for i := range acts {
			d.act(ctx, &acts[i])
		}
		if len(acts) == actionsAtOnce {
			continue
		}
		sleep := time.Hour
		if !wake.IsZero() {
			sleep = max(0, wake.Sub(now))
		}
		timer.Reset(sleep)
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		case <-timer.C:
		}
	}
}

func (d *dispatcher) act(ctx context.Context, a *scheduler.Action) {
	switch a.Kind {
	case scheduler.Resolve:
		dest := a.Destination
		d.n.work.Go(func() { d.resolve(ctx, dest) })
	case scheduler.Page:
		page := *a
		d.n.work.Go(func() { d.page(&page) })
	case scheduler.Sweep:
		d.mu.Lock()
		d.mu.sweeps = append(d.mu.sweeps, a.Queue)
		d.mu.Unlock()
		select {
		case d.swept <- struct{}{}:
		default:
		}
	case scheduler.Open:
		d.open(ctx, a)
	case scheduler.Expire, scheduler.Fail, scheduler.Defer:
		select {
		case d.ends <- *a:
		case <-ctx.Done():
		}
	}
}

// endLoop ends what the scheduler gave out to be ended. Several run, because
// an ending may read the message from disk.
func (d *dispatcher) endLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-d.ends:
			switch a.Kind {
			case scheduler.Expire:
				d.n.end(a.Delivery, message.Expired, expiredReply(a.Delivery), nil)
			case scheduler.Fail:
				d.n.end(a.Delivery, message.Bounced, a.Reply, nil)
			case scheduler.Defer:
				d.n.deferDelivery(a.Delivery, "", "", "", a.Reply)
			}
		}
	}
}

// expiredReply is the outcome of a delivery whose time is over: the last reply
// as it was, or that there never was one.
func expiredReply(del *message.Delivery) message.Reply {
	if del.Last != nil {
		r := del.Last.Reply
		// RFC 3463 3.5: X.4.7 delivery time expired; the remote's own words stay.
		return message.Reply{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 4, Detail: 7}, Phase: r.Phase, Fault: r.Fault,
			Text: "delivery time expired; last: " + r.String()}
	}
	return message.Fail(550, message.Enhanced{Class: 5, Subject: 4, Detail: 7}, message.PhasePolicy, message.FaultLocal, "delivery time expired before an attempt could be made")
}

// page reads the next deliveries of a queue.
func (d *dispatcher) page(a *scheduler.Action) {
	ds, more, err := d.n.spool.Page(a.Queue, spool.Cursor(a.After), a.Until, a.Limit)
	var next time.Time
	if err == nil && more {
		after := spool.Cursor(a.After)
		if len(ds) > 0 {
			last := ds[len(ds)-1]
			after = spool.Cursor{Due: last.Due, ID: last.ID}
		}
		next, more, err = d.n.spool.NextDue(a.Queue, after)
	}
	if err != nil {
		d.n.log.Error("read queue", "destination", a.Queue.Destination, "error", err)
	}
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		if err != nil {
			s.PageFailed(now, a.Queue)
			return
		}
		s.Paged(now, a.Queue, ds, more, next)
	})
}

// sweepLoop looks through queues that do not move for what has expired, one
// queue after another.
func (d *dispatcher) sweepLoop(ctx context.Context) {
	for {
		d.mu.Lock()
		var q message.QueueKey
		some := len(d.mu.sweeps) > 0
		if some {
			q = d.mu.sweeps[0]
			d.mu.sweeps = d.mu.sweeps[1:]
		}
		d.mu.Unlock()
		if !some {
			select {
			case <-ctx.Done():
				return
			case <-d.swept:
			}
			continue
		}
		start := d.n.now()
		earliest, err := d.sweep(ctx, q, start)
		if err != nil {
			d.n.log.Error("look for expired mail", "destination", q.Destination, "error", err)
		}
		d.with(func(s *scheduler.Scheduler, now time.Time) { s.Swept(now, q, earliest, now.Sub(start)) })
	}
}

const sweepPage = 512

// sweep ends what has expired in one queue and returns the earliest expiry of
// what stays.
func (d *dispatcher) sweep(ctx context.Context, q message.QueueKey, until time.Time) (earliest time.Time, err error) {
	var after spool.Cursor
	for ctx.Err() == nil {
		ds, more, err := d.n.spool.Page(q, after, until, sweepPage)
		if err != nil {
			return earliest, err
		}
		for _, del := range ds {
			if del.Expires.After(until) {
				if earliest.IsZero() || del.Expires.Before(earliest) {
					earliest = del.Expires
				}
			} else if d.take(del) {
				d.n.end(del, message.Expired, expiredReply(del), nil)
			}
		}
		if !more || len(ds) == 0 {
			return earliest, nil
		}
		last := ds[len(ds)-1]
		after = spool.Cursor{Due: last.Due, ID: last.ID}
	}
	return earliest, ctx.Err()
}

// resolve looks a destination up.
func (d *dispatcher) resolve(ctx context.Context, dest string) {
	w, reply := d.n.wayTo(ctx, dest)
	d.with(func(s *scheduler.Scheduler, now time.Time) {
		if reply != nil {
			s.ResolveFailed(now, dest, *reply, now.Add(d.n.resolveAgain(reply)))
			return
		}
		s.Resolved(now, dest, scheduler.Resolution{Site: w.site, Hosts: w.answer.Names, Carrier: w.carrier, Until: w.answer.Until})
	})
}

// resolveAgain is how long a failed look-up is believed. A name that does not
// exist is asked again sooner than its negative TTL may say: the mail for it
// bounces at once, so a mistake must not last.
func (n *Node) resolveAgain(r *message.Reply) time.Duration {
	if r.Class() == message.Permanent {
		return 5 * time.Minute
	}
	return time.Minute
}

// open starts a session.
func (d *dispatcher) open(ctx context.Context, a *scheduler.Action) {
	o := &outbound{d: d, lane: a.Lane, carrier: a.Carrier, destination: a.Destination, w: waiter{lane: a.Lane, ch: make(chan struct{}, 1)}}
	d.mu.Lock()
	closing := d.mu.closing
	if !closing {
		d.mu.sessions[o] = struct{}{}
	}
	d.mu.Unlock()
	if closing {
		d.with(func(s *scheduler.Scheduler, now time.Time) { s.SessionClosed(now, o.lane, false, nil) })
		return
	}
	d.n.work.Go(func() { o.run(ctx) })
}

// outbound is one session from the node's side: it is delivery.Work.
type outbound struct {
	d           *dispatcher
	lane        scheduler.Lane
	carrier     string
	destination string
	opened      bool
	w           waiter
}

func (o *outbound) run(ctx context.Context) {
	d := o.d
	var failed *message.Reply
	t, reply := d.n.target(ctx, o)
	if reply != nil {
		failed = reply
	} else {
		ended := d.n.client.NewSession(t, o).Run(ctx)
		if !ended.Connected || ended.Transactions == 0 && ended.Reply.Code != 0 {
			// A peer that greets and then will not take a single message is as
			// closed as one that does not answer.
			failed = &ended.Reply
		}
		if failed != nil && ctx.Err() == nil {
			o.chargeOne(failed, ended)
		}
	}
	if ctx.Err() != nil {
		failed = nil
	}
	d.mu.Lock()
	delete(d.mu.sessions, o)
	d.mu.Unlock()
	d.with(func(s *scheduler.Scheduler, now time.Time) { s.SessionClosed(now, o.lane, o.opened, failed) })
}

// chargeOne lets one delivery carry the failed connection as its attempt, so
// that the event log tells of it; the others wait for the lane's rest.
func (o *outbound) chargeOne(reply *message.Reply, ended delivery.Ended) {
	var v scheduler.Dispatch
	var ok bool
	o.d.with(func(s *scheduler.Scheduler, now time.Time) { v, ok = s.Victim(now, o.lane) })
	if !ok {
		return
	}
	host := ended.Host
	if host == "" && len(ended.Failures) > 0 {
		f := ended.Failures[len(ended.Failures)-1]
		host = f.Host + " " + f.Addr
	}
	o.d.n.deferDelivery(v.Delivery, v.Carrier, o.lane.Source, host, *reply)
}

// Next is delivery.Work.
func (o *outbound) Next(ctx context.Context, wait time.Duration) (*delivery.Job, bool) {
	deadline := o.d.n.now().Add(wait)
	for {
		job, retry, ok := o.pull(true)
		if ok {
			return job, true
		}
		now := o.d.n.now()
		until := deadline
		if !retry.IsZero() && retry.Before(until) {
			until = retry
		}
		if retry == closed || !now.Before(deadline) {
			o.stopWaiting()
			return nil, false
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-o.w.ch:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		o.stopWaiting()
		if ctx.Err() != nil {
			return nil, false
		}
	}
}

// TryNext is delivery.Work.
func (o *outbound) TryNext() (*delivery.Job, bool) {
	job, _, ok := o.pull(false)
	return job, ok
}

// closed is pull's answer when the session shall end.
var closed = time.Unix(1, 0)

// pull asks the scheduler. With wait, a session that gets nothing is noted as
// waiting, in the same step, so that no wake-up is lost.
func (o *outbound) pull(wait bool) (*delivery.Job, time.Time, bool) {
	d := o.d
	now := d.n.now()
	d.mu.Lock()
	s := d.mu.sched
	if !o.opened {
		o.opened = true
		s.SessionOpened(now, o.lane)
	}
	if d.mu.closing {
		d.mu.Unlock()
		return nil, closed, false
	}
	disp, retry, ok := s.Next(now, o.lane)
	if !ok && wait {
		s.Idle(o.lane, 1)
		d.mu.waiters[o.lane.Site] = append(d.mu.waiters[o.lane.Site], &o.w)
	}
	s.Woken(d.wakeLocked)
	pending := s.Pending(now)
	d.mu.Unlock()
	if pending {
		d.poke()
	}
	if !ok {
		return nil, retry, false
	}
	return d.n.newAttempt(disp, o.lane.Source, now), retry, true
}

// stopWaiting takes the session off the list of those that wait. A wake-up
// that came meanwhile is passed on.
func (o *outbound) stopWaiting() {
	d := o.d
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.sched.Idle(o.lane, -1)
	ws := d.mu.waiters[o.lane.Site]
	for i, w := range ws {
		if w == &o.w {
			d.mu.waiters[o.lane.Site] = append(ws[:i], ws[i+1:]...)
			break
		}
	}
	if len(d.mu.waiters[o.lane.Site]) == 0 {
		delete(d.mu.waiters, o.lane.Site)
	}
	select {
	case <-o.w.ch:
	default:
	}
}

// Done is delivery.Work.
func (o *outbound) Done(r *delivery.Result) {
	o.d.n.finish(r.Job.Content.(*attempt), r)
	r.Release()
}

// close lets sessions end after what they have in hand.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closing = true
	for site := range d.mu.waiters {
		for len(d.mu.waiters[site]) > 0 {
			d.wakeLocked(site)
		}
	}
}

// sessions is how many are running.
func (d *dispatcher) sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.mu.sessions)
}
