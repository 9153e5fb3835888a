package scheduler

import (
	"time"

	"hikyaku/spool/message"
)

// sweepEvery is how long a due delivery that does not move may outlive its
// expiry, at most, when nothing is known of when it expires.
const sweepEvery = time.Minute

// minPage keeps a page worth its seek when very many queues wait.
const minPage = 8

// pageAhead is how long before its mail could go a queue is read.
const pageAhead = instant(time.Second)

// couldGo is the earliest time at which the next delivery of a queue could go,
// as far as its budgets and its lanes' back-off know. Before that no room is
// made for it: queues that cannot go would read each other out of memory, and
// those that can with them.
// by is the budget that it waits for, if it is one that is not one source's own.
func (s *Scheduler) couldGo(q *queue, now instant) (when instant, by *scope) {
	k, st := &q.key, q.dest.site
	later := func(c *scope) {
		if c != nil {
			if at := c.ready(now); at > when {
				when, by = at, c
			}
		}
	}
	later(s.limits.tenant(now, k.Tenant))
	later(s.limits.stream(now, streamKey{k.Tenant, k.Stream}))
	later(s.limits.at(now, tenantKey{k.Tenant, st.carrier}))
	if k.Job != "" {
		later(s.limits.job(jobKey{k.Tenant, k.Job}))
	}
	first := never
	g := st.groupOf(s, k.Pool)
	for i := range g.members {
		l := g.members[i].lane
		if l == nil {
			return when, by // it has not been tried
		}
		could := l.ready(now)
		if g.open == 0 {
			could = max(could, l.rest)
		}
		first = min(first, could)
	}
	if first > when {
		when, by = first, nil
		if st.all.scope.ready(now) == first {
			by = &st.all.scope
		}
	}
	return when, by
}

// lookEvery is how often a queue looks again that waits for a budget which a
// grant may make larger at any moment.
const lookEvery = instant(10 * time.Second)

// starve leaves a queue's head on disk until shortly before it could go.
func (s *Scheduler) starve(q *queue, by *scope, when, now instant) {
	if by != nil {
		by.makeList()
		q.starves = by
		by.list.unread.add(&q.spot, q)
	}
	if s.limits.grants.Spanning {
		when = min(when, now+lookEvery)
	}
	s.setTimer(&q.timer, q, min(q.timer.at, when-pageAhead))
}

// wantPage asks for the queue's next deliveries, once. What has been given out
// to be ended must come back first: nothing else bounds it.
func (s *Scheduler) wantPage(q *queue, now instant) {
	if q.page == pageNone && q.more && q.next <= now && int(q.flying) < 4*s.cfg.Page {
		s.pushPage(q)
	}
}

func (s *Scheduler) pushPage(q *queue) {
	q.page = pageWanted
	s.wanted++
	s.paging.push(q.key.Priority, q.key.Tenant, q)
}

// feedPages turns wanted pages into actions while there is room. Queues that
// do not move give up their heads to those that would.
func (s *Scheduler) feedPages(now instant) {
	haveRoom := func(class message.Priority) bool { return s.makeRoom(s.pageSize(class), class, now) }
	for s.asked < s.cfg.MaxPaging {
		q, class, ok := s.paging.pop(haveRoom)
		if !ok {
			return
		}
		limit := s.pageSize(class)
		s.wanted--
		_, blocked := s.blocked(q, now)
		if blocked && !q.probe || !q.more || q.next > now {
			q.page, q.probe = pageNone, false
			s.place(q, now)
			continue
		}
		if blocked {
			limit = 1
		}
		q.page, q.probe, q.asked = pageReading, false, int32(limit)
		s.asked++
		s.promised += limit
		s.out = append(s.out, Action{Kind: Page, Queue: q.key, After: q.cursor.cursor(), Until: now.time(), Limit: limit})
	}
}

// pageSize shrinks when many queues wait, so that the room goes round.
func (s *Scheduler) pageSize(class message.Priority) int {
	return min(s.cfg.Page, s.roomFor(class), max(minPage, s.cfg.MaxLoaded/(2*(s.wanted+1))))
}

// roomFor is how many loaded deliveries there may be for a class to load one
// more. A tenth each is kept free of the lower classes.
func (s *Scheduler) roomFor(class message.Priority) int {
	return max(1, s.cfg.MaxLoaded*(10-int(min(class, message.Low)))/10)
}

// Paged answers a Page action: the deliveries read, whether there are more
// after them at whatever due time, and when the first of those is due.
func (s *Scheduler) Paged(now time.Time, key message.QueueKey, ds []*message.Delivery, more bool, nextDue time.Time) {
	q := s.endPage(key)
	if q == nil {
		return
	}
	t := at(now)
	dirty := q.page == pageDirty
	q.page = pageNone
	s.count.Paged += uint64(len(ds))
	for _, d := range ds {
		q.cursor = positionOf(d)
		if _, gone := q.gone[d.ID]; gone {
			continue // it ended after the page was read
		}
		if _, known := s.items[d.ID]; known {
			continue // handed over at acceptance, or given out
		}
		it := &item{d: d, q: q, paged: true}
		s.items[d.ID] = it
		q.pushBack(it)
		s.count.Loaded++
		q.sweep = min(q.sweep, at(d.Expires))
	}
	q.gone = nil
	// What was noted while the page was read may lie before the new cursor;
	// note has moved the cursor back, so keep the earlier of the two.
	switch {
	case dirty:
		q.more, q.next = true, q.dirtyFrom
		if more {
			q.next = min(q.next, at(nextDue))
		}
		if from := (position{due: q.dirtyFrom}).before(); from.compare(q.cursor) < 0 {
			q.cursor = from
		}
	case more:
		q.more, q.next = true, at(nextDue)
	default:
		q.more, q.next = false, never
	}
	q.dirtyFrom = never
	s.moved(q, t)
	s.place(q, t)
}

// PageFailed answers a Page action that could not be done; it is tried again
// after a second.
func (s *Scheduler) PageFailed(now time.Time, key message.QueueKey) {
	q := s.endPage(key)
	if q == nil {
		return
	}
	q.page = pageNone
	q.gone, q.dirtyFrom = nil, never
	q.more, q.next = true, at(now)+instant(time.Second)
	s.place(q, at(now))
}

func (s *Scheduler) endPage(key message.QueueKey) *queue {
	q := s.queues[key]
	if q == nil || !q.reading() {
		return nil
	}
	s.asked--
	s.promised -= int(q.asked)
	return q
}

// How long a head may stand still before others get its room: one that a
// session could take from at any moment, and one that waits for a session or a
// budget. Without the latter, queues that cannot go would read each other out
// of memory as fast as the disk is. What is blocked gives way at once.
const (
	restMoving  = instant(10 * time.Second)
	restWaiting = instant(time.Second)
)

// makeRoom unloads heads that have not moved for longest until n more fit.
func (s *Scheduler) makeRoom(n int, class message.Priority, now instant) bool {
	for s.count.Loaded+s.promised+n > s.roomFor(class) {
		q := s.recent.oldest()
		if q == nil || now < q.mayUnload() {
			if q != nil && (s.room.pos == 0 || q.mayUnload() < s.room.at) {
				s.setTimer(&s.room, roomTimer{}, q.mayUnload())
			}
			return false // else room comes with a Paged or a Done
		}
		s.unload(q, now)
	}
	return true
}

// mayUnload is when the queue's head may be unloaded for others.
func (q *queue) mayUnload() instant {
	switch {
	case q.flow == nil:
		return 0
	case q.flow.tenant.group.open > 0 && q.flow.waits == nil && q.flow.tenant.waits == nil:
		return q.lastMoved + restMoving
	default:
		return q.lastMoved + restWaiting
	}
}

// roomTimer makes Actions look for room again.
type roomTimer struct{}

func (roomTimer) fire(*Scheduler, instant) {}

// moved notes that a delivery was loaded or given out.
func (s *Scheduler) moved(q *queue, now instant) {
	if q.loaded() == 0 {
		s.recent.remove(q)
		return
	}
	q.lastMoved = now
	s.recent.touch(q)
}

// unload drops a head from memory; the disk still has it. A queue that could
// go asks again, behind those that wait now.
func (s *Scheduler) unload(q *queue, now instant) {
	first := never
	p := position{due: never}
	for q.loaded() > 0 {
		it := q.popFront()
		if ip := positionOf(it.d); ip.compare(p) < 0 {
			p, first = ip, ip.due
		}
		delete(s.items, it.d.ID)
		s.count.Loaded--
		s.count.Unloaded++
	}
	s.recent.remove(q)
	if first != never {
		s.note(q, p)
		if c := p.before(); c.compare(q.cursor) < 0 {
			q.cursor = c
		}
	}
	s.place(q, now)
}

// expire gives out what has expired in memory and asks for a sweep of the disk.
func (s *Scheduler) expire(q *queue, now instant) {
	q.sweep = never
	for i := q.first; i < len(q.head); {
		it := q.head[i]
		if e := at(it.d.Expires); e > now {
			q.sweep = min(q.sweep, e)
			i++
			continue
		}
		q.remove(it)
		s.outFlight(it, Expire, message.Reply{})
	}
	if q.loaded() == 0 {
		s.recent.remove(q)
	}
	s.recount(q, now)
	if q.more && q.next <= now && !q.sweeping {
		q.sweeping = true
		s.out = append(s.out, Action{Kind: Sweep, Queue: q.key, Until: now.time()})
	}
}

// Swept answers a Sweep action: the earliest expiry among the due deliveries
// that stay, the zero time if none stays. A sweep that took long is not done
// again soon: took bounds the share of time that sweeping may use to a tenth.
func (s *Scheduler) Swept(now time.Time, key message.QueueKey, earliest time.Time, took time.Duration) {
	q := s.queues[key]
	if q == nil {
		return
	}
	q.sweeping = false
	t := at(now)
	if !earliest.IsZero() {
		q.sweep = min(q.sweep, max(at(earliest), t+instant(10*took)))
	}
	if q.more && q.next <= t && earliest.IsZero() && q.page == pageNone {
		// All that was due has expired. A look at the disk tells what comes
		// next, if anything: a queue that is blocked would never ask.
		q.probe = true
		s.pushPage(q)
	}
	s.place(q, t)
}

// Take claims a delivery for something other than an attempt: a cancel, an
// expiry, a retry now. false means that an attempt has it; its outcome comes
// first. After true the caller owns it until Done.
func (s *Scheduler) Take(now time.Time, d *message.Delivery) bool {
	it := s.items[d.ID]
	if it != nil && it.flight {
		return false
	}
	if it == nil {
		it = &item{d: d, q: s.queueFor(d.Queue), paged: true}
		s.items[d.ID] = it
	} else {
		it.q.remove(it)
		s.count.Loaded--
		if it.q.loaded() == 0 {
			s.recent.remove(it.q)
		}
	}
	it.flight = true
	it.q.flying++
	s.count.InFlight++
	s.place(it.q, at(now))
	return true
}

// Done tells that a delivery's transition is durable. next is nil when nothing
// is left of it, else how it stands on disk now. What Next gave out and is due
// again without having used up an attempt was not done with: it stands first.
func (s *Scheduler) Done(now time.Time, d, next *message.Delivery) {
	t := at(now)
	var q *queue
	var rest *item
	if it := s.items[d.ID]; it != nil {
		q = it.q
		if next != nil && it.flight && it.lane != nil && next.Queue == q.key && next.Attempts == d.Attempts && at(next.Due) <= t {
			rest = &item{d: next, q: q, paged: it.paged}
		}
		s.end(it, t)
	} else {
		q = s.queues[d.Queue]
	}
	if q != nil && q.reading() {
		if q.gone == nil {
			q.gone = map[message.DeliveryID]struct{}{}
		}
		q.gone[d.ID] = struct{}{}
	}
	switch {
	case rest != nil:
		s.items[d.ID] = rest
		s.standFirst(rest, t)
	case next != nil:
		nq := q
		if q == nil || next.Queue != q.key {
			nq = s.queueFor(next.Queue)
		}
		s.note(nq, positionOf(next))
		nq.sweep = min(nq.sweep, at(next.Expires))
		if nq != q {
			s.place(nq, t)
		}
	}
	if q != nil {
		s.place(q, t)
	}
}

// end forgets a delivery.
func (s *Scheduler) end(it *item, now instant) {
	delete(s.items, it.d.ID)
	switch {
	case it.flight:
		it.q.flying--
		s.count.InFlight--
	case it.q.remove(it):
		s.count.Loaded--
		s.moved(it.q, now)
	}
	if it.paged && it.d.Attempts == 0 {
		s.late.note(it.d, now)
	}
}

// PutBack returns a delivery that was not attempted: it stands first again,
// and its tokens go back.
func (s *Scheduler) PutBack(now time.Time, d *message.Delivery) {
	it := s.items[d.ID]
	if it == nil || !it.flight {
		return
	}
	t := at(now)
	it.flight = false
	it.q.flying--
	s.count.InFlight--
	if it.lane != nil {
		s.limits.giveBack(t, it)
		for _, c := range s.limits.others(it.lane, &it.d.Queue) {
			if c != nil {
				s.rearm(c, never, t)
			}
		}
		s.wakeSite(it.lane.site) // those that wait for a budget may look earlier
		it.lane = nil
	}
	s.standFirst(it, t)
	s.place(it.q, t)
}

// standFirst puts a delivery that was out at the head of its queue.
func (s *Scheduler) standFirst(it *item, now instant) {
	it.q.pushFront(it)
	it.q.sweep = min(it.q.sweep, at(it.d.Expires))
	s.count.Loaded++
	s.moved(it.q, now)
}
