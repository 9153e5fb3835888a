package node

import (
	"sync"
	"time"

	"hikyaku/node/delivery"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// A delivery with more recipients than one transaction takes may be attempted
// in parts, each when the budgets allow it. If some of a part are deferred, those
// that have had no part yet must not wait for the retry with them, and those
// that were deferred must not be tried again with the next part. So the rest
// stands first among the recipients and is due at once, and here is how many
// it is. The delivery waits for its retry when all have had their part.
//
// This is in memory only: after a restart, what was deferred in the middle of
// it is tried once more before its time.

// maxParted bounds how many deliveries are in the middle of it. One more than
// that waits for its retry as a whole.
const maxParted = 100_000

// parted are the deliveries with recipients that were deferred and others that
// have not had their part.
type parted struct {
	mu struct {
		sync.Mutex
		rest map[message.DeliveryID]int // how many, from the first recipient on
	}
}

// of is how many recipients to offer; 0 is all of them.
func (p *parted) of(id message.DeliveryID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.rest[id]
}

// set notes the rest; 0 forgets the delivery.
func (p *parted) set(id message.DeliveryID, rest int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rest == 0 {
		delete(p.mu.rest, id)
		return
	}
	if p.mu.rest == nil {
		p.mu.rest = map[message.DeliveryID]int{}
	}
	p.mu.rest[id] = rest
}

// full reports whether there is no room for one more.
func (p *parted) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.rest) >= maxParted
}

// Again is delivery.Work.
func (o *outbound) Again(job *delivery.Job) bool {
	d := o.d
	del := job.Delivery
	if !o.current() || !o.mayUse() {
		return false
	}
	now := d.n.now()
	disp := scheduler.Dispatch{Delivery: del, Carrier: job.Content.(*attempt).carrier}
	day := o.day[:0]
	d.mu.Lock()
	d.lapseLocked(now)
	// Of a delivery that was cancelled nothing more is sent.
	ok := !d.mu.closing && d.verdictLocked(del, disp.Carrier) == nil && d.mu.sched.Again(now, o.lane, del.ID)
	if ok {
		o.day = d.n.days.take(o.day, d.mu.sched.DayUses(), now)
		day = o.day
	}
	d.unlock(now)
	return ok && d.n.days.wait(d.n.root, day)
}

// Reconnect is delivery.Work.
func (o *outbound) Reconnect() (ok bool) {
	o.d.with(func(s *scheduler.Scheduler, now time.Time) {
		o.d.lapseLocked(now)
		ok = !o.d.mu.closing && o.mayUse() && s.Reconnect(now, o.lane)
	})
	return ok
}
