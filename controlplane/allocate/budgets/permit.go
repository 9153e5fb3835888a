package budgets

import (
	"maps"
	"math"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

const (
	slotSeconds = 10 * 60
	// A permit given in a slot may be used for some time after it: PermitTTL,
	// and two slots at most with clocks of leaders that are apart. Then it counts
	// for 24 hours.
	slotCounts = slotSeconds + 2*slotSeconds + 24*60*60
	// permitSpan is how many seconds of what it used a node's permits cover, and
	// permitStart what is given to one that has a backlog and has used none yet.
	// What a node has in hand is lost for a day if it dies.
	permitSpan  = 2
	permitStart = 8
	maxPermits  = 10_000 // unused, of one node
	// permitAge is when unused permits are called back.
	permitAge = exchange.PermitTTL / 2
)

// day is a scope's daily count.
//
// INVARIANT: what nodes have of it without having reported it returned, and
// stock, are counted in slots, which is what etcd holds.
type day struct {
	dayRevision int64
	slots       []keyspace.DaySlot // oldest first
	taken       map[string]int64
	// stock is counted in the slot that begins at stockSlot and not given to
	// anybody yet.
	stock, stockSlot int64
	// credits have been returned and are still counted in slots; Start is the
	// oldest slot in which they may be.
	credits []keyspace.DaySlot
	// pending is the record to write, and what becomes stock then.
	pending      *keyspace.Day
	pendingStock int64
	// missed is how many permits nodes wanted and did not get since the last
	// record was made.
	missed int64
}

// permits are what one node has been given of a daily budget.
type permits struct {
	issued, void    int64
	spent, returned int64 // as it told
	kept            int64
	known           bool // has been told of by the node or given by us
	// Permits up to mark had been given by markAt. Those not used had not been
	// given before since.
	mark          int64
	markAt, begun time.Time
}

// unspent is how many permits are out.
func (p *permits) unspent() int64 { return max(p.issued-p.spent-p.returned, 0) }

// wall is the time in seconds of the Unix epoch: the wall clock at the election,
// and what has passed since.
func (l *Ledger) wall(now time.Time) int64 {
	return l.cfg.Wall.Unix() + int64(now.Sub(l.cfg.Elected)/time.Second)
}

// slotAt is the slot for what is given now: never before one that exists already.
func (s *scope) slotAt(wall int64) int64 {
	at := wall - wall%slotSeconds
	if n := len(s.slots); n > 0 {
		at = max(at, s.slots[n-1].Start)
	}
	return at
}

func counts(slot keyspace.DaySlot, wall int64) bool { return slot.Start+slotCounts > wall }

// given is what a record counts.
func given(slots []keyspace.DaySlot, wall int64) (sum int64) {
	for _, d := range slots {
		if counts(d, wall) {
			sum += max(d.N, 0)
		}
	}
	return sum
}

func sum(slots []keyspace.DaySlot) (n int64) {
	for _, d := range slots {
		n += d.N
	}
	return n
}

// dayFree is how many more permits may be counted in the next record.
func (s *scope) dayFree(wall int64) int64 {
	out := given(s.slots, wall)
	if s.pending != nil {
		out = max(out, given(s.pending.Slots, wall))
	}
	return s.limit.PerDay - s.dayFloors - out + sum(s.credits)
}

// keepsDay reports whether the record in etcd still matters.
func (s *scope) keepsDay(wall int64) bool {
	return s.pending != nil || len(s.slots) > 0
}

// credit notes that permits came back.
func (s *scope) credit(start, n int64) {
	if n <= 0 {
		return
	}
	i, found := slices.BinarySearchFunc(s.credits, start, func(d keyspace.DaySlot, start int64) int { return int(min(max(d.Start-start, -1), 1)) })
	if !found {
		s.credits = slices.Insert(s.credits, i, keyspace.DaySlot{Start: start})
	}
	s.credits[i].N += n
}

// retireStock gives back what is in hand when its slot is over, so that it is
// counted in the slot in which it is given, or when nobody wants it.
func (s *scope) retireStock(now time.Time, wall int64) {
	if s.stock > 0 && (s.stockSlot != s.slotAt(wall) || now.Sub(s.seen) >= Forget) {
		s.credit(s.stockSlot, s.stock)
		s.stock = 0
	}
}

// hearPermits takes what a node says of its permits.
func (k *stake) hearPermits(l *Ledger, now time.Time, d *exchange.Demand) {
	k.kept = max(d.Kept, 0)
	if !k.known && d.Issued > 0 || d.Issued > k.issued {
		// Given before this leader's time, or under an answer whose fate it does
		// not know. When that was nobody knows either, so they are called back.
		k.issued, k.void = d.Issued, max(d.Issued, k.void)
		k.returned = max(d.Returned, 0)
		k.mark, k.markAt, k.begun = k.issued, now, time.Time{}
	}
	k.known = true
	k.spent = min(max(d.Spent, 0), k.issued)
	if back := min(d.Returned, k.issued-k.spent) - k.returned; back > 0 {
		start := int64(0)
		if !k.begun.IsZero() {
			wall := l.wall(k.begun)
			start = wall - wall%slotSeconds
		}
		k.scope.credit(start, back)
		k.returned += back
	}
	if max(k.spent+k.returned, k.void) >= k.mark {
		k.mark, k.begun, k.markAt = k.issued, k.markAt, now
	}
}

// givePermits gives a node permits from the stock, or calls some back. It
// reports whether the answer must name them.
func (l *Ledger) givePermits(now time.Time, k *stake) bool {
	s := k.scope
	s.retireStock(now, l.wall(now))
	usable := k.issued - max(k.spent+k.returned, k.void)
	flow := int64(math.Ceil(min(k.used*permitSpan, maxPermits)))
	target := min(flow+min(k.backlog, flow/2+permitStart), maxPermits)
	switch {
	case usable > 0 && now.Sub(k.markAt) >= permitAge:
		k.void = k.issued
		usable = 0
	case usable > 2*target+permitStart, target == 0 && usable > 0:
		k.void = k.issued - target
		usable = target
	}
	if want := target - usable; want > 0 && k.sends() {
		give := min(want, s.stock)
		if want > s.stock {
			give = min(give, max(s.stock/s.wanting(), 1)) // others want some too
		}
		k.issued += give
		s.stock -= give
		k.known = true
		l.metrics.Permits += uint64(give)
		s.missed += want - give
	}
	return k.unspent() > 0
}

// wanting counts the stakes that use the scope or want to.
func (s *scope) wanting() (n int64) {
	for _, k := range s.stakes {
		n += one(k.backlog > 0 || k.used > 0)
	}
	return max(n, 1)
}

// propose makes the record that etcd should have, if it should have another one.
func (l *Ledger) propose(now time.Time, s *scope) {
	if s.pending != nil {
		return
	}
	wall := l.wall(now)
	s.retireStock(now, wall)
	add := s.refill(wall)
	taken, imported := s.imports()
	stale := len(s.slots) > 0 && given(s.slots, wall) == 0
	if add == 0 && imported == 0 && !stale {
		return
	}
	next := &keyspace.Day{}
	for _, d := range s.slots {
		if counts(d, wall) {
			next.Slots = append(next.Slots, d)
		}
	}
	for _, c := range s.credits {
		for i := range next.Slots {
			if d := &next.Slots[i]; d.Start >= c.Start {
				n := min(d.N, c.N)
				d.N -= n
				c.N -= n
			}
		}
	}
	s.credits = nil
	at := s.slotAt(wall)
	if n := len(next.Slots); add+imported > 0 && (n == 0 || next.Slots[n-1].Start != at) {
		next.Slots = append(next.Slots, keyspace.DaySlot{Start: at})
	}
	if n := len(next.Slots); n > 0 {
		next.Slots[n-1].N += add + imported
	}
	next.Slots = slices.DeleteFunc(next.Slots, func(d keyspace.DaySlot) bool { return d.N <= 0 })
	if len(taken) > 0 {
		next.Taken = taken
	}
	s.pending, s.pendingStock, s.stockSlot, s.missed = next, add, at, 0
}

// refill is how many permits the leader should take in hand beyond those it has:
// none before half of them are gone, so that a record serves for a while.
func (s *scope) refill(wall int64) int64 {
	var rate float64
	for _, k := range s.stakes {
		rate += k.used
	}
	if rate == 0 && s.missed == 0 {
		return 0
	}
	ahead := int64(min(rate*PermitAhead.Seconds(), float64(s.limit.PerDay)))
	target := min(max(ahead, s.missed, 1), s.stockMost())
	if 2*s.stock > target {
		return 0
	}
	return max(min(target-s.stock, s.dayFree(wall)), 0)
}

// stockMost is how many permits may be in hand: they are lost for a day if the
// leader dies. It is a hundredth of the day, or ten of a small one.
func (s *scope) stockMost() int64 {
	return max(s.limit.PerDay/100, min(s.limit.PerDay/10, 10), 1)
}

// imports is what members have counted beyond what is their floor's: before it
// was lowered, or before they joined. It is in no record yet, or in Taken.
func (s *scope) imports() (taken map[string]int64, more int64) {
	if s.limit.PerDay == 0 {
		return s.taken, 0
	}
	taken = maps.Clone(s.taken)
	for _, k := range s.stakes {
		beyond := k.beyond()
		switch has := taken[k.m.Name]; {
		case beyond > has:
			more += beyond - has
			if taken == nil {
				taken = map[string]int64{}
			}
			taken[k.m.Name] = beyond
		case beyond == 0 && has > 0:
			delete(taken, k.m.Name) // counted long enough; so is what Slots have of it
		case beyond < has:
			taken[k.m.Name] = beyond
		}
	}
	return taken, more
}

// beyond is what a node has counted without permits above its floor's part.
func (k *stake) beyond() int64 {
	floor := k.m.recorded
	if k.m.hasSaid {
		floor = min(floor, k.m.said)
	}
	return max(k.kept-k.dayFloorOf(floor), 0)
}

// seeDay takes what etcd holds.
func (l *Ledger) seeDay(now time.Time, s *scope, revision int64, d keyspace.Day) {
	if revision <= s.dayRevision {
		return
	}
	s.dayRevision = revision
	d.Slots = slices.Clone(d.Slots)
	slices.SortFunc(d.Slots, func(x, y keyspace.DaySlot) int { return int(min(max(x.Start-y.Start, -1), 1)) })
	if s.pending != nil && slices.Equal(d.Slots, s.pending.Slots) && maps.Equal(d.Taken, s.pending.Taken) {
		s.stock += s.pendingStock
		l.metrics.DayWrites++
	} else if s.pending != nil || s.stock > 0 {
		// Somebody has written it by hand. What is in hand may be counted in it
		// or not; it is not given.
		s.stock, s.credits = 0, nil
	}
	s.pending, s.pendingStock = nil, 0
	s.slots, s.taken = d.Slots, d.Taken
	if s.stock > 0 && len(s.slots) > 0 {
		s.stockSlot = s.slots[len(s.slots)-1].Start
	}
}
