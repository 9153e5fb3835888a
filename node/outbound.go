package node

import (
	"context"
	"slices"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/control"
	"hikyaku/node/delivery"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// outbound is one session from the node's side: it is delivery.Work.
type outbound struct {
	d           *dispatcher
	lane        scheduler.Lane
	carrier     string
	destination string // one of the site's, to connect for
	opened      bool
	set         *policy.Set // the policy that its terms were last compared with
	route       string
	terms       terms
	hold        *control.Hold // the right to use the source; nil where there is no control plane
	w           waiter
	day         ticket // memory of the last dispatch's
}

// waiter is a session that waits for work.
type waiter struct {
	lane  scheduler.Lane
	hold  *control.Hold // of its session
	ch    chan struct{} // capacity 1
	timer *time.Timer   // left running from one wait to the next; early is harmless
	fires time.Time     // when; zero when it does not run
}

// until makes the timer fire at t or before. A session under load waits for
// each of its messages, and seldom long: setting and stopping a timer each time
// cost more than now and then a look too many.
func (w *waiter) until(t, now time.Time) {
	switch {
	case w.timer == nil:
		w.timer = time.NewTimer(t.Sub(now))
	case w.fires.IsZero() || w.fires.After(t):
		w.timer.Reset(t.Sub(now))
	default:
		return
	}
	w.fires = t
}

// wakeLocked lets one waiting session of each lane of the site look again, the
// one that has waited longest.
func (d *dispatcher) wakeLocked(site string) {
	var few [8]scheduler.Lane
	woken := few[:0]
	ws := slices.DeleteFunc(d.mu.waiters[site], func(w *waiter) bool {
		if slices.Contains(woken, w.lane) {
			return false
		}
		woken = append(woken, w.lane)
		w.ch <- struct{}{} // it was in the list once, so there is room
		return true
	})
	if len(ws) == 0 {
		delete(d.mu.waiters, site)
	} else {
		d.mu.waiters[site] = ws
	}
}

// open starts a session.
func (d *dispatcher) open(a *scheduler.Action) {
	o := &outbound{d: d, lane: a.Lane, carrier: a.Carrier, destination: a.Destination, w: waiter{lane: a.Lane, ch: make(chan struct{}, 1)}}
	d.mu.Lock()
	begin := !d.mu.closing
	if begin {
		d.mu.sessions++
	}
	d.mu.Unlock()
	if begin && d.n.tasks.start(func() { o.run(d.n.root) }) {
		return
	}
	if begin {
		o.leave()
	}
	d.with(func(s *scheduler.Scheduler, now time.Time) { s.SessionClosed(now, o.lane, false, nil) })
}

func (o *outbound) leave() {
	d := o.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.sessions--; d.mu.sessions == 0 && d.mu.closing {
		close(d.empty)
	}
}

func (o *outbound) run(ctx context.Context) {
	failed := o.carry(ctx)
	if o.w.timer != nil {
		o.w.timer.Stop()
	}
	if ctx.Err() != nil {
		failed = nil // it was we who ended it
	}
	o.d.with(func(s *scheduler.Scheduler, now time.Time) { s.SessionClosed(now, o.lane, o.opened, failed) })
	o.leave()
}

// carry runs the session and returns why no host took anything, or nil.
func (o *outbound) carry(ctx context.Context) *message.Reply {
	n := o.d.n
	if !o.enter() {
		return nil // the source went to another node since the connection was asked for
	}
	defer o.release()
	ctx, cancel := o.severable(ctx)
	defer cancel()
	o.set = n.policy.Load()
	t, reply := n.target(ctx, o)
	if t == nil && reply == nil {
		// The destination leads elsewhere since the connection was asked for.
		// Its new hosts must not get the mail of the site's other destinations.
		o.d.with(func(s *scheduler.Scheduler, now time.Time) { s.Unresolved(now, o.destination) })
		return nil
	}
	if reply != nil {
		o.chargeOne(reply, delivery.Ended{})
		return reply
	}
	ended := n.client.NewSession(t, o).Run(ctx)
	if ended.Connected {
		n.count.opened(o.carrier)
	}
	if ended.Fenced {
		return nil // that says nothing about the site
	}
	o.signalConnection(ended.Connected, &ended.Reply)
	o.hint(&ended.Reply)
	// A peer that greets and then will not take a single message is as closed
	// as one that does not answer.
	if ended.Connected && (ended.Transactions > 0 || ended.Reply.Code == 0) {
		return nil
	}
	// It was we who had no connection left for the hosts not tried yet. That is
	// no failure of the site: no delivery is charged and the lane does not rest.
	// The next session comes when the connection rate allows and goes on there.
	if ended.Unfinished {
		return nil
	}
	if ctx.Err() == nil {
		o.chargeOne(&ended.Reply, ended)
	}
	return &ended.Reply
}

// chargeOne lets one delivery carry the failed connection as its attempt, so
// that the event log tells of it; the others wait for the lane's rest.
func (o *outbound) chargeOne(reply *message.Reply, ended delivery.Ended) {
	var v scheduler.Dispatch
	var ok, beside bool
	o.d.with(func(s *scheduler.Scheduler, now time.Time) {
		v, ok = s.Victim(now, o.lane)
		beside = !o.opened && s.TooMany(o.lane, reply)
	})
	if !ok {
		return
	}
	host := ended.Host
	if host == "" && len(ended.Failures) > 0 {
		f := ended.Failures[len(ended.Failures)-1]
		host = f.Host + " " + f.Addr
	}
	o.d.n.deferDelivery(v.Delivery, &refused{carrier: v.Carrier, lane: o.lane, host: host, reply: *reply, beside: beside})
}

// Next is delivery.Work.
func (o *outbound) Next(ctx context.Context, wait time.Duration) (*delivery.Job, bool) {
	deadline := o.d.n.now().Add(wait)
	for {
		job, got, retry := o.pull(true)
		switch got {
		case gotJob:
			return job, true
		case gotEnd:
			return nil, false
		case gotSuppressed:
			continue
		}
		now := o.d.n.now()
		if !now.Before(deadline) {
			o.stopWaiting(true)
			return nil, false
		}
		until := deadline
		if !retry.IsZero() && retry.Before(until) {
			until = retry
		}
		o.w.until(until, now)
		select {
		case <-o.w.ch:
		case <-o.w.timer.C:
			o.w.fires = time.Time{}
		case <-ctx.Done():
		}
		o.stopWaiting(ctx.Err() != nil)
		if ctx.Err() != nil {
			return nil, false
		}
	}
}

// TryNext is delivery.Work.
func (o *outbound) TryNext() (*delivery.Job, bool) {
	for {
		if job, got, _ := o.pull(false); got != gotSuppressed {
			return job, got == gotJob
		}
	}
}

// got is what a pull brought.
type got uint8

const (
	gotNothing got = iota // at the moment
	gotJob
	gotEnd        // the session shall end
	gotSuppressed // what was given out needs no session; there may be more
)

// pull asks the scheduler. With wait, a session that gets nothing is noted as
// waiting, in the same step, so that no wake-up is lost.
func (o *outbound) pull(wait bool) (*delivery.Job, got, time.Time) {
	d := o.d
	if !o.current() || !o.mayUse() {
		return nil, gotEnd, time.Time{}
	}
	now := d.n.now()
	d.mu.Lock()
	d.lapseLocked(now)
	s := d.mu.sched
	if !o.opened {
		o.opened = true
		s.SessionOpened(now, o.lane)
	}
	if d.mu.closing {
		d.mu.Unlock()
		return nil, gotEnd, time.Time{}
	}
	day := o.day[:0]
	disp, retry, ok := s.Next(now, o.lane)
	switch {
	case ok:
		o.day = d.n.days.take(o.day, s.DayUses(), now)
		day = o.day
	case wait && s.Crowded(now, o.lane):
		// Other sites have mail and no session to carry it: this one leaves
		// rather than wait out its idle time.
		d.unlock(now)
		return nil, gotEnd, time.Time{}
	case wait:
		s.Idle(o.lane, 1)
		d.mu.waiters[o.lane.Site] = append(d.mu.waiters[o.lane.Site], &o.w)
	}
	d.unlock(now)
	if !ok {
		return nil, gotNothing, retry
	}
	if !d.n.days.wait(d.n.root, day) {
		if v := d.putBack(disp.Delivery, disp.Carrier); v != nil {
			d.n.end(disp.Delivery, v.state, v.reply(disp.Delivery), nil)
		}
		return nil, gotEnd, time.Time{}
	}
	if d.n.anySuppressed(disp.Delivery) {
		d.with(func(s *scheduler.Scheduler, now time.Time) {
			s.PutBack(now, disp.Delivery) // nothing was sent, so nothing is spent
			s.Take(now, disp.Delivery)
		})
		d.n.endSuppressed(disp.Delivery)
		return nil, gotSuppressed, time.Time{}
	}
	d.n.count.dispatched[disp.Delivery.Queue.Priority].Add(1)
	return d.n.newAttempt(disp, o.lane, now), gotJob, retry
}

// current reports whether the session is still what policy wants: TLS, login,
// address and the rest were settled when it connected.
func (o *outbound) current() bool {
	n := o.d.n
	set := n.policy.Load()
	if set == o.set || set.SamePolicy(o.set) { // what was decided about the source is the scheduler's
		return true
	}
	var route *policy.Route
	if o.route != "" {
		if route = set.Routes[o.route]; route == nil {
			return false
		}
	}
	t, reply := n.termsOf(set, o.lane.Source, o.carrier, route)
	if reply != nil || t != o.terms {
		return false
	}
	o.set = set
	return true
}

// stopWaiting takes the session off the list of those that wait. A wake-up
// that came meanwhile goes to another one if this one is leaving.
func (o *outbound) stopWaiting(leaving bool) {
	d := o.d
	now := d.n.now()
	d.mu.Lock()
	d.mu.sched.Idle(o.lane, -1)
	site := o.lane.Site
	if ws := slices.DeleteFunc(d.mu.waiters[site], func(w *waiter) bool { return w == &o.w }); len(ws) > 0 {
		d.mu.waiters[site] = ws
	} else {
		delete(d.mu.waiters, site)
	}
	select {
	case <-o.w.ch:
		if leaving {
			d.wakeLocked(site)
		}
	default:
	}
	d.unlock(now)
}

// Done is delivery.Work.
func (o *outbound) Done(r *delivery.Result) {
	a := r.Job.Content.(*attempt)
	o.d.n.finish(a, r)
	r.Release()
	a.release()
}
