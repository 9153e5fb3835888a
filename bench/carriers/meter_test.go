package carriers

import (
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

var dayOne = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// pacer is a sender's token bucket with exact arithmetic, in units of 1/Per
// token: it sends whenever there is a whole token.
type pacer struct {
	r      policy.Rate
	tokens int64 // of 1/Per token
	last   time.Time
}

func (p *pacer) may(now time.Time) bool {
	p.tokens = min(p.tokens+p.r.N*int64(now.Sub(p.last)), p.r.BurstOrDefault()*int64(p.r.Per))
	p.last = now
	if p.tokens < int64(p.r.Per) {
		return false
	}
	p.tokens -= int64(p.r.Per)
	return true
}

// TestASourceAtTheLimitIsNeverAccused: whoever keeps to the rate and burst in
// every window, with each message seen late by up to the tolerance, or told
// only by bounds and out of order, has no violation. Bursts, pauses and
// constant pressure are mixed.
func TestASourceAtTheLimitIsNeverAccused(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		rate := policy.Rate{N: 1 + r.Int64N(300), Per: []time.Duration{time.Second, time.Minute, time.Hour}[r.IntN(3)], Burst: 1 + r.Int64N(40)}
		tolerance := time.Duration(r.Int64N(int64(300 * time.Millisecond)))
		hold := time.Duration(r.Int64N(int64(2 * time.Second)))
		m := newMeter(&rate, tolerance)
		p := &pacer{r: rate, last: dayOne, tokens: rate.Burst * int64(rate.Per)}
		now := dayOne
		sent := 0
		type seen struct{ since, until time.Time }
		var waiting []seen
		for sent < 1500 {
			if r.IntN(200) == 0 {
				now = now.Add(time.Duration(r.Int64N(int64(rate.Per)))) // the bucket fills: a burst
			} else {
				now = now.Add(time.Duration(r.Int64N(1 + int64(rate.Per)/rate.N)))
			}
			for p.may(now) {
				sent++
				arrived := now.Add(time.Duration(r.Int64N(1 + int64(tolerance))))
				// The receiver knows the arrival between bounds, and handles it late.
				since := arrived.Add(-time.Duration(r.Int64N(1 + int64(hold))))
				if r.IntN(2) == 0 {
					since = arrived
				}
				waiting = append(waiting, seen{since, arrived})
			}
			for len(waiting) > r.IntN(8) { // out of order
				i := r.IntN(len(waiting))
				w := waiting[i]
				waiting = append(waiting[:i], waiting[i+1:]...)
				if !m.take(w.since, w.until) {
					window, allowed, seen := m.excess()
					t.Fatalf("seed %d, %s, tolerance %s, hold %s: message %d accused: %d seen in %s, %d allowed", seed, rate, tolerance, hold, sent, seen, window, allowed)
				}
			}
		}
	}
}

// TestTheMeterSeesEveryExcess compares it with the definition: all windows
// that end at the message, one by one.
func TestTheMeterSeesEveryExcess(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		rate := policy.Rate{N: 1 + r.Int64N(20), Per: time.Second, Burst: 1 + r.Int64N(5)}
		tolerance := time.Duration(r.IntN(2)) * 100 * time.Millisecond
		m := newMeter(&rate, tolerance)
		var taken []time.Time
		now := dayOne
		refused := 0
		for range 300 {
			now = now.Add(time.Duration(r.ExpFloat64() * float64(time.Second) / float64(rate.N)))
			over := false
			for i := range taken {
				span := now.Sub(taken[i]) + tolerance
				n := int64(len(taken) - i + 1) // with the new one
				over = over || (n-rate.Burst)*int64(time.Second/time.Duration(rate.N)) > int64(span)
			}
			if ok := m.take(now, now); ok == over {
				t.Fatalf("seed %d: taken %v, though by the definition exceeded is %v", seed, ok, over)
			}
			if over {
				refused++
				if _, allowed, seen := m.excess(); seen <= allowed {
					t.Fatalf("seed %d: reported %d seen, %d allowed", seed, seen, allowed)
				}
				continue
			}
			taken = append(taken, now)
		}
		if refused == 0 {
			t.Fatalf("seed %d: nothing exceeded, so nothing was tested", seed)
		}
	}
}

// TestTheMeterForgetsWhatIsLongGone: memory is bounded, and judging goes on.
func TestTheMeterForgetsWhatIsLongGone(t *testing.T) {
	m := newMeter(&policy.Rate{N: 1000, Per: time.Second, Burst: 10}, 0)
	now := dayOne
	for range 20 * maxMarks {
		now = now.Add(time.Millisecond)
		if !m.take(now, now) {
			t.Fatal("a source at its limit was accused")
		}
	}
	if len(m.marks) > 2*maxMarks {
		t.Errorf("%d marks are kept", len(m.marks))
	}
	for range 9 {
		if !m.take(now, now) {
			t.Fatal("the burst was not granted")
		}
	}
	if m.take(now, now) {
		t.Error("more than the burst was granted")
	}
}

func TestTheDayIsMeasuredByTheMinute(t *testing.T) {
	d := newDayMeter(100)
	for i := range 100 {
		if _, ok := d.take(dayOne.Add(time.Duration(i) * time.Minute)); !ok {
			t.Fatalf("message %d of 100 refused", i)
		}
	}
	for _, tt := range []struct {
		after time.Duration
		ok    bool
	}{{2 * time.Hour, false}, {23*time.Hour + 59*time.Minute, false}, {24 * time.Hour, true}, {24*time.Hour + 30*time.Second, false}, {24*time.Hour + time.Minute, true}} {
		if seen, ok := d.take(dayOne.Add(tt.after)); ok != tt.ok || seen != 100 && seen != 101 {
			t.Errorf("after %s: taken %v, seen %d", tt.after, ok, seen)
		}
	}
	if _, ok := d.take(dayOne.Add(80 * 24 * time.Hour)); !ok || d.total != 1 {
		t.Errorf("after months: taken %v, total %d", ok, d.total)
	}
}
