package scheduler

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

func TestDayCount(t *testing.T) {
	var d dayCount
	// Late in a slot: the message must count for 24 hours of its own, not of
	// the slot's start.
	now := at(time.Date(2026, 3, 1, 9, 9, 59, 0, time.UTC))
	for range 3 {
		if d.ready(now, 3) != now {
			t.Fatal("below the limit one has to wait")
		}
		d.take(now)
	}
	slotEnd := at(time.Date(2026, 3, 2, 9, 10, 0, 0, time.UTC))
	for _, limit := range []int64{3, 2, 1} {
		if got := d.ready(now, limit); got != slotEnd {
			t.Errorf("limit %d: ready at %s, want %s", limit, got.time(), slotEnd.time())
		}
	}
	if got := d.ready(now, 0); got != now {
		t.Error("a limit of 0 is no limit")
	}
	if got := d.count(slotEnd - 1); got != 3 {
		t.Errorf("%d counted a nanosecond before, want 3", got)
	}
	if got := d.count(slotEnd); got != 0 {
		t.Errorf("%d counted when the slot is over, want 0", got)
	}
	if !d.idle(slotEnd) {
		t.Error("an empty count is idle")
	}
}

func TestDayCountLoweredLimitWaitsForSeveralSlots(t *testing.T) {
	var d dayCount
	for i := range 6 { // one each hour
		d.take(bucketStart + instant(i)*instant(time.Hour))
	}
	now := bucketStart + instant(6*time.Hour)
	// Three of the six must go before a limit of 4 has room.
	want := bucketStart + instant(2*time.Hour) + daySpan + slotSpan
	if got := d.ready(now, 4); got != want {
		t.Errorf("ready at %s, want %s", got.time(), want.time())
	}
}

func TestDayCountGiveBack(t *testing.T) {
	var d dayCount
	first, second := bucketStart, bucketStart+instant(time.Hour)
	d.take(first)
	d.take(second)
	d.giveBack(second, first)
	if got := d.count(second); got != 1 {
		t.Fatalf("%d counted, want 1", got)
	}
	// The one that stays is the second, for all of its 24 hours.
	if got := d.count(second + daySpan); got != 1 {
		t.Errorf("the token that was used is forgotten early: %d counted", got)
	}
	d.giveBack(second, first) // nothing is left in that slot
	if got := d.count(second); got != 1 {
		t.Errorf("%d counted after giving back twice, want 1", got)
	}
	late := second + daySpan + slotSpan
	d.take(late)
	d.giveBack(late, second) // it has expired: nothing may be taken off
	if got := d.count(late); got != 1 {
		t.Errorf("%d counted after an expired one was given back, want 1", got)
	}
}

func TestDayCountClockSetBack(t *testing.T) {
	var d dayCount
	d.take(bucketStart)
	back := bucketStart - instant(5*time.Hour)
	d.take(back)
	if got := d.count(back); got != 2 {
		t.Errorf("%d counted, want 2", got)
	}
	// What was taken while the clock was wrong stays at least its 24 hours.
	if got := d.count(back + daySpan); got != 2 {
		t.Errorf("%d counted a day on, want 2", got)
	}
	if got := d.count(bucketStart + daySpan + slotSpan); got != 0 {
		t.Errorf("%d counted after all, want 0", got)
	}
}

func TestDayCountLoad(t *testing.T) {
	now := bucketStart
	day := func(ago time.Duration, n int64) DaySlot { return DaySlot{(now - instant(ago)).time(), n} }
	var d dayCount
	d.take(now)
	d.load(now, []DaySlot{
		day(time.Hour, 5), day(23*time.Hour, 7), // any order
		day(time.Hour, 1),     // a slot twice
		day(25*time.Hour, 99), // too old
		day(-time.Hour, 3),    // from the future
		day(2*time.Hour, -4),  // nonsense
		{time.Time{}, 50},
	})
	if got := d.count(now); got != 1+5+7+1+3 {
		t.Errorf("%d counted, want 17", got)
	}
	want := []DaySlot{day(23*time.Hour, 7), day(time.Hour, 6), day(0, 4)}
	if got := d.snapshot(); !slices.EqualFunc(got, want, func(a, b DaySlot) bool { return a.N == b.N && a.Start.Equal(b.Start) }) {
		t.Errorf("snapshot %v, want %v", got, want)
	}
	var huge dayCount
	for i := range 300 {
		huge.load(now, []DaySlot{day(time.Duration(i)*10*time.Minute, math.MaxInt64)})
	}
	if got := huge.count(now); got <= 0 || int64(len(huge.slots)) > daySlots {
		t.Errorf("%d counted in %d slots", got, len(huge.slots))
	}
	if huge.ready(now, 1e12) <= now {
		t.Error("a count beyond any limit lets through")
	}
	if new(dayCount).snapshot() != nil {
		t.Error("an unused count has a snapshot")
	}
}

// Random takes, gifts and restarts under limits that change: no closed span of
// 24 hours ever holds more than the limit in force at its end.
func TestDayCountHoldsInEveryWindow(t *testing.T) {
	all := 0
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		limit := 1 + rnd.Int64N(40)
		var d dayCount
		now := bucketStart + instant(rnd.Int64N(int64(slotSpan)))
		var used, limits []int64 // instants, and the limit then
		for range 3000 {
			switch p := rnd.IntN(100); {
			case p < 50 && d.ready(now, limit) <= now:
				d.take(now)
				used, limits = append(used, int64(now)), append(limits, limit)
			case p < 60 && len(used) > 0:
				i := rnd.IntN(len(used))
				d.giveBack(now, instant(used[i]))
				used, limits = slices.Delete(used, i, i+1), slices.Delete(limits, i, i+1)
			case p < 62:
				saved := d.snapshot()
				d = dayCount{}
				d.load(now, saved)
			case p < 63:
				limit = 1 + rnd.Int64N(40)
			case p < 75:
				next := d.ready(now, limit)
				if next > now+daySpan+slotSpan {
					t.Fatalf("the wait is %s", time.Duration(next-now))
				}
				now = next
			default:
				now += instant(rnd.Int64N(int64(20 * time.Minute)))
			}
			if got := int64(len(d.slots)); got > daySlots {
				t.Fatalf("%d slots", got)
			}
		}
		all += len(used)
		// A take looks back only, so the limit at the last take of a span is the bound.
		for j := range used {
			in := int64(0)
			for i := j; i >= 0 && used[j]-used[i] <= int64(daySpan); i-- {
				in++
			}
			if in > limits[j] {
				t.Fatalf("seed %d: %d in 24 hours under a limit of %d", seed, in, limits[j])
			}
		}
	}
	if all < 5000 {
		t.Errorf("only %d were used: the test shows nothing", all)
	}
}

func TestDayCountIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(dayCount{}); size > 32 {
		t.Errorf("an unused count takes %d bytes", size)
	}
	var d dayCount
	now := bucketStart
	if n := testing.AllocsPerRun(100, func() { d.count(now); d.ready(now, 5) }); n != 0 {
		t.Errorf("looking at an unused count allocates %v times", n)
	}
	for range 1000 {
		d.take(now)
		now += slotSpan / 2
	}
	if got := cap(d.slots); got > 2*int(daySlots) {
		t.Errorf("a count in use holds %d slots", got)
	}
	if n := testing.AllocsPerRun(1000, func() { d.take(now); now += slotSpan }); n != 0 {
		t.Errorf("a count in use allocates %v times a take", n)
	}
}
