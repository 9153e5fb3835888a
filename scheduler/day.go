package scheduler

import (
	"slices"
	"time"
)

const (
	daySpan  = instant(24 * time.Hour)
	slotSpan = instant(10 * time.Minute)
	// daySlots is how many slots touch the 24 hours that end at some instant:
	// 144, and the one in which the 24 hours began.
	daySlots = int64(daySpan/slotSpan) + 1

	// maxSlotCount bounds what a slot read from disk may claim, so that sums
	// cannot overflow. Policy bounds a day to 10^12.
	maxSlotCount = int64(1) << 50
)

// dayCount counts what was taken in the last 24 hours. The zero value is ready
// to use and small; it grows with the number of slots in use, up to daySlots.
//
// INVARIANT: what was taken at t and not given back is counted at every instant
// from t to t + 24 h, and for less than slotSpan longer.
type dayCount struct {
	slots []daySlot // used ones only, oldest first
	total int64     // the sum over slots
}

type daySlot struct {
	index int64 // slotSpans since the Unix epoch
	n     int64
}

// DaySlot is a part of a 24 hour count as it is kept over a restart: N things
// in the ten minutes from Start.
type DaySlot struct {
	Start time.Time `json:"start"`
	N     int64     `json:"n"`
}

func slotOf(t instant) int64 { return int64(t / slotSpan) }

// expires is the first instant at which the slot no longer counts.
func (s daySlot) expires() instant { return instant(s.index+daySlots) * slotSpan }

// forget drops the slots that are too old.
func (d *dayCount) forget(now instant) {
	old := 0
	for old < len(d.slots) && d.slots[old].expires() <= now {
		d.total -= d.slots[old].n
		old++
	}
	if old > 0 {
		d.slots = slices.Delete(d.slots, 0, old)
	}
}

// count is how many were taken in the last 24 hours.
func (d *dayCount) count(now instant) int64 {
	d.forget(now)
	return d.total
}

// ready is the earliest time at which one more keeps to limit: now or later. A
// limit of 0 is none.
func (d *dayCount) ready(now instant, limit int64) instant {
	d.forget(now)
	if limit <= 0 || d.total < limit {
		return now
	}
	// The limit may have been lowered, so more than one slot may have to go.
	left := d.total
	for _, s := range d.slots {
		if left -= s.n; left < limit {
			return s.expires()
		}
	}
	return never // not reached: without any slot, 0 is left
}

// take counts one. Where the clock went back, it goes to the newest slot there
// is, which is only stricter.
func (d *dayCount) take(now instant) {
	d.forget(now)
	index := slotOf(now)
	if n := len(d.slots); n == 0 || d.slots[n-1].index < index {
		d.slots = append(d.slots, daySlot{index: index})
	}
	d.slots[len(d.slots)-1].n++
	d.total++
}

// giveBack undoes the take of the instant taken.
func (d *dayCount) giveBack(now, taken instant) {
	d.forget(now)
	i, found := d.find(slotOf(taken))
	if !found || d.slots[i].n == 0 {
		return
	}
	d.slots[i].n--
	d.total--
	if d.slots[i].n == 0 {
		d.slots = slices.Delete(d.slots, i, i+1)
	}
}

func (d *dayCount) find(index int64) (int, bool) {
	return slices.BinarySearchFunc(d.slots, index, func(s daySlot, index int64) int {
		return int(min(max(s.index-index, -1), 1))
	})
}

// idle reports whether nothing is counted, so that nothing is lost when the
// count is dropped.
func (d *dayCount) idle(now instant) bool { return d.count(now) == 0 }

// snapshot is the count as load takes it, oldest first.
func (d *dayCount) snapshot() []DaySlot {
	if len(d.slots) == 0 {
		return nil
	}
	out := make([]DaySlot, len(d.slots))
	for i, s := range d.slots {
		out[i] = DaySlot{Start: (instant(s.index) * slotSpan).time(), N: s.n}
	}
	return out
}

// load adds what was counted before a restart to what has been counted since.
// Slots may come in any order. One from the future, since the clock has been
// set back, counts as of now.
func (d *dayCount) load(now instant, slots []DaySlot) {
	for _, s := range slots {
		index := min(slotOf(at(s.Start)), slotOf(now))
		if s.N <= 0 || index <= slotOf(now)-daySlots {
			continue
		}
		n := min(s.N, maxSlotCount)
		i, found := d.find(index)
		if !found {
			d.slots = slices.Insert(d.slots, i, daySlot{index: index})
		}
		d.slots[i].n = min(d.slots[i].n+n, maxSlotCount)
	}
	d.total = 0
	for _, s := range d.slots {
		d.total += s.n
	}
}
