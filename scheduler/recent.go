package scheduler

import (
	"time"

	"hikyaku/spool/message"
)

// lru orders queues with a loaded head by when they last moved.
type lru struct{ root lruLinks }

type lruLinks struct {
	prev, next *lruLinks
	q          *queue
}

func (l *lru) touch(q *queue) {
	if l.root.next == nil {
		l.root.next, l.root.prev = &l.root, &l.root
	}
	l.remove(q)
	n := &q.lru
	n.q = q
	n.prev, n.next = l.root.prev, &l.root
	n.prev.next, n.next.prev = n, n
}

func (l *lru) remove(q *queue) {
	n := &q.lru
	if n.next == nil {
		return
	}
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
}

func (l *lru) oldest() *queue {
	if l.root.next == nil || l.root.next == &l.root {
		return nil
	}
	return l.root.next.q
}

// lateHandovers remembers deliveries that were read from disk and have ended,
// for as long as the goroutine that accepted them may still be about to hand
// them over: what is durable can be read, sent and ended before it comes to
// calling Add. Such an Add must not send it again.
type lateHandovers struct {
	young, old map[message.DeliveryID]struct{}
	turned     instant // when young became old
}

const (
	// lateSpan is how late a hand-over may come, at least.
	lateSpan = instant(15 * time.Second)
	// lateMost bounds each generation.
	lateMost = 1 << 17
)

// note remembers a delivery that ends now, if it is young enough.
func (l *lateHandovers) note(d *message.Delivery, now instant) {
	if at(d.Accepted)+2*lateSpan < now {
		return
	}
	if l.young == nil || now >= l.turned+lateSpan || len(l.young) >= lateMost {
		l.old, l.young, l.turned = l.young, map[message.DeliveryID]struct{}{}, now
	}
	l.young[d.ID] = struct{}{}
}

// ended reports whether the delivery is one of them.
func (l *lateHandovers) ended(id message.DeliveryID) bool {
	if len(l.young) == 0 {
		return false
	}
	_, young := l.young[id]
	_, old := l.old[id]
	return young || old
}
