package scheduler

import (
	"bytes"
	"time"

	"hikyaku/spool/message"
)

// position is a Cursor in compact form.
type position struct {
	due instant
	id  message.DeliveryID
}

func positionOf(d *message.Delivery) position { return position{at(d.Due), d.ID} }

func (p position) cursor() Cursor { return Cursor{p.due.time(), p.id} }

func (p position) compare(o position) int {
	switch {
	case p.due != o.due:
		if p.due < o.due {
			return -1
		}
		return 1
	case p.id.Message != o.id.Message:
		return bytes.Compare(p.id.Message[:], o.id.Message[:])
	default:
		return int(p.id.Index) - int(o.id.Index)
	}
}

// before is the greatest cursor that p comes after, near enough: all of its
// own microsecond is read again, and what is known is left out.
func (p position) before() position { return position{due: p.due - instant(time.Microsecond)} }

// item is a delivery that the scheduler knows by itself: loaded, or given out.
type item struct {
	d      *message.Delivery
	q      *queue
	lane   *lane   // where it went, for giving tokens back
	taken  instant // when it went
	flight bool
	paged  bool // read from disk: whoever accepted it may still hand it over

	days dayParts // what of the daily limits it took
}

// queue is the deliveries of one flow for one destination.
//
// INVARIANT: every delivery of the queue on disk is in items, or comes after
// cursor, or was noted while a page is being read.
type queue struct {
	key  message.QueueKey
	dest *dest
	flow *flow         // the fairness ring it is in; nil when not ready
	spot place[*queue] // there, or among the stranded, or those that a budget starves

	stranded bool   // no source of this node may carry it
	starves  *scope // its head is not read, since this has nothing for it
	claim    *claim // where its mail is counted; nil: nowhere
	claimed  int32  // how much of it

	head   []*item // loaded, in order
	first  int     // head[:first] is used up
	cursor position
	more   bool    // the disk has deliveries after cursor
	next   instant // when more: none of those is due earlier
	sweep  instant // no delivery of this queue expires earlier; never = none known

	page      pageState
	asked     int32   // limit of the page being read, or of the last one
	dirtyFrom instant // when pageDirty: the earliest due time that was noted
	sweeping  bool
	probe     bool // the page wanted is only to see what there is
	flying    int32
	counted   int32   // loaded deliveries counted at the site
	lastMoved instant // when one was loaded or given out
	gone      map[message.DeliveryID]struct{}

	timer
	oldest timer // its place in Scheduler.oldest
	lru    lruLinks
	line   place[*queue]
}

type pageState uint8

const (
	pageNone    pageState = iota
	pageWanted            // in the fifo
	pageReading           // asked for
	pageDirty             // asked for, and something was noted meanwhile
)

func (q *queue) loaded() int { return len(q.head) - q.first }

func (q *queue) reading() bool { return q.page == pageReading || q.page == pageDirty }

func (q *queue) pushBack(it *item) { q.head = append(q.head, it) }

func (q *queue) pushFront(it *item) {
	if q.first > 0 {
		q.first--
		q.head[q.first] = it
		return
	}
	q.head = append(q.head, nil)
	copy(q.head[1:], q.head)
	q.head[0] = it
}

func (q *queue) popFront() *item {
	it := q.head[q.first]
	q.head[q.first] = nil
	q.first++
	switch {
	case q.first == len(q.head):
		// A queue that was drained keeps no array: idle queues are many.
		if cap(q.head) > 8 {
			q.head = nil
		} else {
			q.head = q.head[:0]
		}
		q.first = 0
	case q.first > 64 && q.first > len(q.head)/2:
		n := copy(q.head, q.head[q.first:])
		clear(q.head[n:])
		q.head, q.first = q.head[:n], 0
	}
	return it
}

// remove takes one item out of the middle.
func (q *queue) remove(it *item) bool {
	for i := q.first; i < len(q.head); i++ {
		if q.head[i] == it {
			copy(q.head[i:], q.head[i+1:])
			q.head[len(q.head)-1] = nil
			q.head = q.head[:len(q.head)-1]
			return true
		}
	}
	return false
}

// fire is timed: the queue's next due time, window, or sweep has come.
func (q *queue) fire(s *Scheduler, now instant) { s.place(q, now) }

// queueFor finds or makes a queue.
func (s *Scheduler) queueFor(key message.QueueKey) *queue {
	if q := s.queues[key]; q != nil {
		return q
	}
	d := s.destFor(key.Destination)
	key.Destination = d.name // share the string
	q := &queue{key: key, dest: d, next: never, sweep: never, dirtyFrom: never}
	q.timer.at = never
	s.queues[key] = q
	s.inLine.add(&q.line, q)
	d.queues = append(d.queues, q)
	return q
}

// AddQueue makes a queue known of which the disk has deliveries, the first due
// at firstDue: after a start, or when one was noted elsewhere.
func (s *Scheduler) AddQueue(now time.Time, key message.QueueKey, firstDue time.Time) {
	t := at(now)
	q := s.queueFor(key)
	s.note(q, position{due: at(firstDue)})
	// When its deliveries expire is only known by reading them.
	q.sweep = min(q.sweep, t+instant(sweepEvery))
	s.place(q, t)
}

// Add hands over a delivery that has just become durable. It reports whether
// the delivery was loaded; otherwise it is paged in when its turn comes.
func (s *Scheduler) Add(now time.Time, d *message.Delivery) (loaded bool) {
	t := at(now)
	if s.late.ended(d.ID) {
		return false
	}
	q := s.queueFor(d.Queue)
	loaded = s.load(q, d, t)
	q.sweep = min(q.sweep, at(d.Expires))
	s.place(q, t)
	return loaded
}

// load puts a delivery at the queue's tail if nothing older is on disk only.
func (s *Scheduler) load(q *queue, d *message.Delivery, now instant) bool {
	p := positionOf(d)
	if _, known := s.items[d.ID]; known {
		return true // a page was faster
	}
	if q.more || q.reading() || p.due > now || q.loaded() >= s.cfg.Page*4 || s.count.Loaded+s.promised >= s.roomFor(d.Queue.Priority) {
		s.note(q, p)
		return false
	}
	it := &item{d: d, q: q}
	s.items[d.ID] = it
	q.pushBack(it)
	s.count.Loaded++
	if p.compare(q.cursor) > 0 {
		q.cursor = p
	}
	s.moved(q, now)
	return true
}

// note remembers that the disk has a delivery at p.
func (s *Scheduler) note(q *queue, p position) {
	if !q.more || p.due < q.next {
		q.next = p.due
	}
	q.more = true
	if p.compare(q.cursor) <= 0 {
		q.cursor = p.before()
	}
	q.noteWhileReading(p)
}

// noteWhileReading keeps what was noted while a page was being read: the page
// may or may not have it.
func (q *queue) noteWhileReading(p position) {
	if !q.reading() {
		return
	}
	if q.page == pageReading {
		q.page, q.dirtyFrom = pageDirty, p.due
	}
	q.dirtyFrom = min(q.dirtyFrom, p.due)
}

// place puts a queue where it belongs now. It is called after every change,
// and doing it twice is harmless.
func (s *Scheduler) place(q *queue, now instant) {
	if q.sweep <= now {
		s.expire(q, now)
	}
	due := q.firstDue()
	if due == never {
		s.unready(q)
		if q.flying == 0 && !q.reading() && !q.sweeping && q.page == pageNone {
			s.forget(q)
			return
		}
		s.setTimer(&q.timer, q, q.sweep)
		return
	}
	s.noteOldest(q, due)
	if due > now && q.loaded() == 0 {
		s.unready(q)
		s.setTimer(&q.timer, q, min(due, q.sweep))
		return
	}
	if q.more && q.next <= now && q.sweep == never && !q.sweeping {
		q.sweep = now + instant(sweepEvery) // nobody knows when those on disk expire
	}
	until, blocked := s.blocked(q, now)
	if blocked {
		s.strand(q, now)
		s.setTimer(&q.timer, q, min(until, q.sweep))
		return
	}
	if !s.resolved(q.dest, now) {
		s.setTimer(&q.timer, q, min(until, q.sweep))
		s.unready(q)
		s.wantResolve(q.dest, q)
		return
	}
	s.setTimer(&q.timer, q, min(until, q.sweep, max(q.dest.until, q.dest.rest)))
	s.ready(q, now)
}

// blocked reports whether something other than budgets keeps the queue from
// going, and when that (or that nothing does) may change by itself.
func (s *Scheduler) blocked(q *queue, now instant) (until instant, blocked bool) {
	if len(s.holds) > 0 && s.heldBy(q) != nil {
		return never, true
	}
	if q.key.Job != "" && s.limits.paused(jobKey{q.key.Tenant, q.key.Job}) {
		return never, true
	}
	if len(s.pools[q.key.Pool]) == 0 {
		return never, true // no source may carry it; only policy changes that
	}
	if h := s.steeringHold(q, now); h != nil {
		return at(h.Until.Time()), true
	}
	if until, yes := s.shunned(q, now); yes {
		return until, true
	}
	open, until := s.windowOf(q).open(now)
	if !open {
		return until, true
	}
	if d := q.dest; d.rest > now && !d.failing(now) {
		return d.rest, true
	}
	return until, false
}

func (s *Scheduler) windowOf(q *queue) windows {
	if len(s.windows) == 0 {
		return windows{}
	}
	_, name := s.set.StreamOf(q.key.Tenant, q.key.Stream)
	return s.windows[name]
}

// ready puts a queue into its site's rings and asks for what it lacks.
func (s *Scheduler) ready(q *queue, now instant) {
	if d := q.dest; d.failing(now) {
		s.unready(q)
		s.giveOut(q, Fail, d.reply)
		s.wantPage(q, now)
		return
	}
	if q.loaded() == 0 {
		s.unready(q)
		if s.limits.grants.Spanning {
			s.claims(q, s.claimFor(q, now), now)
		}
		if when, by := s.couldGo(q, now); when > now+pageAhead {
			s.starve(q, by, when, now)
			return
		}
		s.wantPage(q, now)
		return
	}
	if q.flow == nil {
		s.unready(q) // it may have waited elsewhere
	}
	s.join(q, now)
	// Ask for the next page before this one is used up.
	if q.more && q.next <= now && q.loaded() < int(q.asked)/4 {
		s.wantPage(q, now)
	}
}

// unready takes a queue out of the rings.
func (s *Scheduler) unready(q *queue) {
	switch {
	case q.flow != nil:
		s.leave(q)
	case q.stranded:
		s.stranded.remove(q)
		q.stranded = false
	case q.starves != nil:
		q.starves.list.unread.remove(&q.spot)
		q.starves = nil
	}
	if q.claim != nil {
		s.claims(q, nil, 0)
	}
}

// giveOut ends all loaded deliveries of a queue with one kind of action.
func (s *Scheduler) giveOut(q *queue, kind Kind, reply message.Reply) {
	for q.loaded() > 0 {
		s.outFlight(q.popFront(), kind, reply)
	}
	s.recent.remove(q)
}

func (s *Scheduler) outFlight(it *item, kind Kind, reply message.Reply) {
	it.flight = true
	it.q.flying++
	s.count.Loaded--
	s.count.InFlight++
	s.out = append(s.out, Action{Kind: kind, Delivery: it.d, Queue: it.q.key, Reply: reply})
}

// forget drops an empty queue; its destination follows when it has no other.
func (s *Scheduler) forget(q *queue) {
	s.setTimer(&q.timer, q, never)
	s.recent.remove(q)
	delete(s.queues, q.key)
	s.inLine.remove(&q.line)
	if q.oldest.pos > 0 {
		s.oldest.remove(&q.oldest)
	}
	d := q.dest
	for i, o := range d.queues {
		if o == q {
			d.queues[i] = d.queues[len(d.queues)-1]
			d.queues[len(d.queues)-1] = nil
			d.queues = d.queues[:len(d.queues)-1]
			break
		}
	}
	if len(d.queues) == 0 {
		s.idleDest(d)
	}
}
