package scheduler

import (
	"time"

	"hikyaku/spool/message"
)

// QueueView is one queue as the scheduler sees it. How many deliveries it has
// in all, the spool knows.
type QueueView struct {
	Key           message.QueueKey
	State         string // waiting, blocked, stranded, looking-up, reading, budget or ready
	Site, Carrier string // "" until the destination has been looked up
	Loaded        int    // in memory
	InFlight      int
	NextDue       time.Time // zero: nothing is waiting
	Held          bool
}

// The states of a queue.
const (
	StateWaiting   = "waiting"    // nothing is due
	StateBlocked   = "blocked"    // due, but held, paused, outside its hours, or its destination rests
	StateStranded  = "stranded"   // due, and only other nodes have a source of its pool that may be used at its carrier
	StateLookingUp = "looking-up" // its destination is being resolved
	StateReading   = "reading"    // its head is being read from disk
	StateBudget    = "budget"     // a tenant's, stream's or job's budget is used up
	StateReady     = "ready"      // goes as soon as a session takes it
)

// QueueViewOf is one queue; false when the scheduler does not know it.
func (s *Scheduler) QueueViewOf(now time.Time, key message.QueueKey) (QueueView, bool) {
	q := s.queues[key]
	if q == nil {
		return QueueView{}, false
	}
	return s.view(q, at(now)), true
}

// EachQueue calls fn for every queue, in no order, until it returns false.
func (s *Scheduler) EachQueue(now time.Time, fn func(QueueView) bool) {
	t := at(now)
	for _, q := range s.queues {
		if !fn(s.view(q, t)) {
			return
		}
	}
}

func (s *Scheduler) view(q *queue, now instant) QueueView {
	v := QueueView{Key: q.key, Carrier: q.dest.carrier, Loaded: q.loaded(), InFlight: int(q.flying), State: s.stateOf(q, now)}
	if q.dest.site != nil {
		v.Site = q.dest.site.name
	}
	switch {
	case q.loaded() > 0:
		v.NextDue = q.head[q.first].d.Due
	case q.more:
		v.NextDue = q.next.time()
	}
	v.Held = s.heldAtAll(q, now)
	return v
}

func (s *Scheduler) stateOf(q *queue, now instant) string {
	due := q.loaded() > 0 || q.more && q.next <= now
	if !due {
		return StateWaiting
	}
	if _, blocked := s.blocked(q, now); blocked {
		if q.stranded {
			return StateStranded
		}
		return StateBlocked
	}
	switch {
	case !s.resolved(q.dest, now):
		return StateLookingUp
	case q.loaded() == 0:
		return StateReading
	case q.flow != nil && (q.flow.waits != nil || q.flow.tenant.waits != nil):
		return StateBudget
	}
	return StateReady
}

// LaneView is one lane.
type LaneView struct {
	Lane      Lane
	Carrier   string
	Open      int // established
	Opening   int
	Idle      int
	Most      int       // connections that the peer has shown to take at once; 0: it has refused none beside others
	Fails     int       // sessions in a row that could not be opened
	RestUntil time.Time // zero: it does not rest
	Last      message.Reply
}

// Lanes lists all lanes, in no order.
func (s *Scheduler) Lanes(now time.Time) []LaneView {
	out := make([]LaneView, 0, len(s.lanes))
	for _, l := range s.lanes {
		v := LaneView{Lane: l.key, Carrier: l.site.carrier, Open: l.open, Opening: l.opening, Idle: l.idle, Most: l.crowd.most, Fails: l.fails, Last: l.reply}
		if l.rest > at(now) {
			v.RestUntil = l.rest.time()
		}
		out = append(out, v)
	}
	return out
}

// SiteView is one site.
type SiteView struct {
	Name, Carrier         string
	Destinations, Backlog int // Backlog counts loaded deliveries that are ready
	Open, Idle            int
}

// Sites lists all sites, in no order.
func (s *Scheduler) Sites(time.Time) []SiteView {
	out := make([]SiteView, 0, len(s.sites))
	for _, st := range s.sites {
		out = append(out, SiteView{st.name, st.carrier, st.dests, st.backlog, st.open, st.idle})
	}
	return out
}

// OldestDue is the queue whose first delivery has been due for longest, and
// since when. What is in flight does not count: an attempt has its own end.
func (s *Scheduler) OldestDue(now time.Time) (due time.Time, key message.QueueKey, ok bool) {
	for {
		t := s.oldest.first()
		if t == nil || t.at > at(now) {
			return due, key, false
		}
		q := t.owner.(*queue)
		switch first := q.firstDue(); {
		case first == never:
			s.oldest.remove(t)
		case first > t.at:
			t.at = first // it has moved on since it was put there
			s.oldest.fix(int(t.pos - 1))
		default:
			return t.at.time(), q.key, true
		}
	}
}

// noteOldest keeps the queue's place among the oldest no later than its first
// delivery. That it is earlier than need be is only seen when it matters, so
// that mail that moves costs nothing here.
func (s *Scheduler) noteOldest(q *queue, due instant) {
	if t := &q.oldest; t.pos == 0 || due < t.at {
		s.oldest.set(t, q, due)
	}
}

// firstDue is when the first delivery that waits is due.
func (q *queue) firstDue() instant {
	first := never
	if q.more {
		first = q.next
	}
	if q.loaded() > 0 {
		first = min(first, at(q.head[q.first].d.Due))
	}
	return first
}

// InFlight reports whether a delivery is given out.
func (s *Scheduler) InFlight(id message.DeliveryID) bool {
	it := s.items[id]
	return it != nil && it.flight
}

// MaxLoaded is the bound on deliveries in memory.
func (s *Scheduler) MaxLoaded() int { return s.cfg.MaxLoaded }
