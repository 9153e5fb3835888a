package scheduler

import (
	"strconv"
	"time"

	"hikyaku/spool/message"
)

// QueueView is one queue as the scheduler sees it. How many deliveries it has
// in all, the spool knows.
type QueueView struct {
	Key           message.QueueKey
	State         string // waiting, blocked, looking-up, reading, budget or ready
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
	v.Held = len(s.holds) > 0 && s.heldBy(q) != nil
	return v
}

func (s *Scheduler) stateOf(q *queue, now instant) string {
	due := q.loaded() > 0 || q.more && q.next <= now
	if !due {
		return StateWaiting
	}
	if _, blocked := s.blocked(q, now); blocked {
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
	Fails     int       // sessions in a row that could not be opened
	RestUntil time.Time // zero: it does not rest
	Last      message.Reply
}

// Lanes lists all lanes, in no order.
func (s *Scheduler) Lanes(now time.Time) []LaneView {
	out := make([]LaneView, 0, len(s.lanes))
	for _, l := range s.lanes {
		v := LaneView{Lane: l.key, Carrier: l.site.carrier, Open: l.open, Opening: l.opening, Idle: l.idle, Fails: l.fails, Last: l.reply}
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

// BudgetView is one limit and how much of it is used.
type BudgetView struct {
	Scope     string // "carrier gmail", "carrier gmail, source ip1", "tenant shop" …
	Kind      string // rate, per_day, connections or connection_rate
	Limit     string
	Used      int64
	Available int64
	Until     time.Time // when some of it comes back; zero when some is there
}

// Budgets lists every limit that is set, in no order.
func (s *Scheduler) Budgets(now time.Time) []BudgetView {
	t := at(now)
	var out []BudgetView
	for name, c := range s.limits.tenants {
		out = c.budgets(out, "tenant "+name, t)
	}
	for k, c := range s.limits.streams {
		out = c.budgets(out, "stream "+k.stream+" of tenant "+k.tenant, t)
	}
	for k, j := range s.limits.jobs {
		out = j.budgets(out, "job "+k.job+" of tenant "+k.tenant, t)
	}
	for k, l := range s.limits.links {
		name := k.String()
		out = l.budgets(out, name, t)
		if l.maxConns > 0 {
			out = append(out, BudgetView{Scope: name, Kind: "connections", Limit: strconv.Itoa(l.maxConns), Used: int64(l.conns), Available: int64(max(0, l.maxConns-l.conns))})
		}
		out = l.connRate.view(out, name, "connection_rate", t)
	}
	return out
}

// String names the scope for people.
func (k linkKey) String() string {
	name := "carrier " + k.carrier
	if k.site != "" {
		name += ", site " + k.site
	}
	if k.source != "" {
		name += ", source " + k.source
	}
	return name
}

func (c *scope) budgets(out []BudgetView, name string, now instant) []BudgetView {
	out = c.rate.view(out, name, "rate", now)
	if c.perDay > 0 {
		used := c.day.count(now)
		v := BudgetView{Scope: name, Kind: "per_day", Limit: strconv.FormatInt(c.perDay, 10), Used: used, Available: max(0, c.perDay-used)}
		if at := c.day.ready(now, c.perDay); at > now && at != never {
			v.Until = at.time()
		}
		out = append(out, v)
	}
	return out
}

func (b *bucket) view(out []BudgetView, name, kind string, now instant) []BudgetView {
	limit := b.limit()
	if limit == "" {
		return out
	}
	v := BudgetView{Scope: name, Kind: kind, Limit: limit, Available: b.available(now)}
	if at := b.ready(now); at > now && at != never {
		v.Until = at.time()
	}
	return append(out, v)
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
