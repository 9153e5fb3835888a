package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// dispatcher holds the scheduler behind its one mutex and carries out what it
// asks for. Its loop is the goroutine that Node.Run owns; pages, look-ups and
// sessions are goroutines of n.tasks, as many as the scheduler allows.
type dispatcher struct {
	n      *Node
	kick   chan struct{} // something may be pending
	ends   chan scheduler.Action
	swept  chan struct{} // a sweep was added
	closed chan struct{} // by close
	empty  chan struct{} // closed when the last session has ended after close
	parted parted
	mu     struct {
		sync.Mutex
		sched    *scheduler.Scheduler
		asleep   time.Time            // the loop looks again at this time by itself
		waiters  map[string][]*waiter // by site: sessions without work
		sweeps   []message.QueueKey   // wanted; each queue is in it at most once
		orders   map[message.DeliveryID][]*order
		rules    map[*rule]struct{}
		closing  bool
		sessions int
	}
}

// actionsAtOnce bounds one round under the lock.
const actionsAtOnce = 256

func newDispatcher(n *Node, sched *scheduler.Scheduler) *dispatcher {
	d := &dispatcher{n: n, kick: make(chan struct{}, 1), ends: make(chan scheduler.Action, 4*actionsAtOnce), swept: make(chan struct{}, 1), closed: make(chan struct{}), empty: make(chan struct{})}
	d.mu.sched = sched
	d.mu.waiters = map[string][]*waiter{}
	d.mu.orders = map[message.DeliveryID][]*order{}
	d.mu.rules = map[*rule]struct{}{}
	return d
}

// with runs fn under the lock and passes on what it made possible. fn must not
// block.
func (d *dispatcher) with(fn func(s *scheduler.Scheduler, now time.Time)) {
	now := d.n.now()
	d.mu.Lock()
	fn(d.mu.sched, now)
	d.unlock(now)
}

// unlock passes on what changed under the lock: to sessions that wait, and to
// the loop if it has something to do, or something earlier than it knows.
func (d *dispatcher) unlock(now time.Time) {
	s := d.mu.sched
	s.Woken(d.wakeLocked)
	look := s.Pending(now)
	if wake := s.Wake(now); !look && !wake.IsZero() {
		look = wake.Before(d.mu.asleep)
	}
	d.mu.Unlock()
	if look {
		select {
		case d.kick <- struct{}{}:
		default: // it is about to look
		}
	}
}

// addAtOnce is how many deliveries are handed over in one hold of the lock:
// each session that wants its next one waits for it.
const addAtOnce = 128

// add hands durable deliveries over; it reports whether any was loaded.
func (d *dispatcher) add(ds []*message.Delivery) (loaded bool) {
	for part := range slices.Chunk(ds, addAtOnce) {
		d.with(func(s *scheduler.Scheduler, now time.Time) {
			for _, del := range part {
				if s.Add(now, del) {
					loaded = true
				} else if !del.Due.After(now) {
					d.n.count.noRoom.Add(1)
				}
			}
		})
	}
	return loaded
}

// longestSleep is how long the loop sleeps when nothing has a time.
const longestSleep = time.Hour

// loop carries out actions until ctx ends.
func (d *dispatcher) loop(ctx context.Context) {
	timer := time.NewTimer(longestSleep)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := d.n.now()
		d.mu.Lock()
		acts := d.mu.sched.Actions(now, actionsAtOnce)
		d.mu.asleep = d.mu.sched.Wake(now)
		if d.mu.asleep.IsZero() {
			d.mu.asleep = now.Add(longestSleep)
		}
		sleep := d.mu.asleep.Sub(now)
		d.mu.sched.Woken(d.wakeLocked)
		d.mu.Unlock()
		for i := range acts {
			d.act(ctx, &acts[i])
		}
		if len(acts) == actionsAtOnce {
			continue
		}
		timer.Reset(max(0, sleep))
		select {
		case <-ctx.Done():
		case <-d.kick:
		case <-timer.C:
		}
	}
}

// act carries one action out. What it starts runs under the node's root
// context: it outlives the loop, which ends first.
func (d *dispatcher) act(ctx context.Context, a *scheduler.Action) {
	switch a.Kind {
	case scheduler.Resolve:
		dest := a.Destination
		d.n.tasks.start(func() { d.resolve(d.n.root, dest) })
	case scheduler.Page:
		page := *a
		d.n.tasks.start(func() { d.page(&page) })
	case scheduler.Sweep:
		d.mu.Lock()
		d.mu.sweeps = append(d.mu.sweeps, a.Queue)
		d.mu.Unlock()
		select {
		case d.swept <- struct{}{}:
		default:
		}
	case scheduler.Open:
		d.open(a)
	case scheduler.Expire, scheduler.Fail, scheduler.Defer:
		// When the enders cannot follow, this waits, and with it what would
		// bring more: nothing else bounds what a dead destination gives out.
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
				d.n.deferDelivery(a.Delivery, &refused{reply: a.Reply})
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

// close lets sessions end after what they have in hand, and opens no more.
func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closing = true
	close(d.closed)
	for _, ws := range d.mu.waiters {
		for _, w := range ws {
			w.ch <- struct{}{}
		}
	}
	clear(d.mu.waiters)
	if d.mu.sessions == 0 {
		close(d.empty)
	}
}

// running is how many sessions there are.
func (d *dispatcher) running() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.sessions
}
