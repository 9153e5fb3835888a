package node

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestGovernor: long waits take the rate down to its share and no further,
// short ones let it go again.
func TestGovernor(t *testing.T) {
	g := governor{rate: math.Inf(1), least: 100}
	if got := g.step(10_000, 0); !math.IsInf(got, 1) {
		t.Fatalf("held at %v while waits are short", got)
	}
	rate := g.step(10_000, time.Second)
	if rate != 9_000 {
		t.Fatalf("first step down to %v, want 9000", rate)
	}
	for range paceFree / 2 {
		rate = g.step(rate, time.Second)
	}
	if math.Abs(rate-paceShare*10_000) > 1 {
		t.Fatalf("held at %v, want the share %v", rate, paceShare*10_000)
	}
	free := 0
	for range 3 * paceFree {
		if math.IsInf(rate, 1) {
			free++
			rate = 12_000 // the machine does more now
		}
		rate = g.step(rate, time.Second)
	}
	if free < 2 || math.Abs(rate-paceShare*12_000) > 1 {
		t.Errorf("went free %d times, then held at %v; want a new share of %v", free, rate, paceShare*12_000)
	}
	for n := 0; !math.IsInf(rate, 1); n++ {
		if n > 200 {
			t.Fatalf("held at %v after 10 s of short waits", rate)
		}
		rate = g.step(min(rate, 12_000), 0)
	}
}

// TestGovernorLeast: a trickle is not what a job that follows is held to.
func TestGovernorLeast(t *testing.T) {
	g := governor{rate: math.Inf(1), least: 2_000}
	for range 1000 {
		if got := g.step(3, time.Second); got < 2_000 {
			t.Fatalf("held at %v", got)
		}
	}
}

// TestPace: attempts go freely without mail of high priority, at the pace while
// it comes and waits are long, and freely again once it has ended.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := newPace()
		p.waits = func() time.Duration { return time.Second }
		go p.loop(ctx)
		var done atomic.Int64
		for range 100 { // 100 sessions with 1 ms an attempt: up to 100,000 a second
			go func() {
				for ctx.Err() == nil {
					p.hold(ctx)
					pause(ctx, time.Millisecond)
					done.Add(1)
				}
			}()
		}
		during := func(d time.Duration) float64 {
			before := done.Load()
			time.Sleep(d) // virtual
			return float64(done.Load()-before) / d.Seconds()
		}
		if got := during(time.Second); got < 95_000 {
			t.Errorf("%.0f a second without high priority", got)
		}
		for range 5 {
			p.highSeen()
			during(time.Second)
		}
		p.highSeen()
		if got := during(2 * time.Second); got < 70_000 || got > 90_000 {
			t.Errorf("%.0f a second beside high priority, want about %.0f", got, paceShare*100_000)
		}
		during(paceFor)
		if got := during(time.Second); got < 95_000 {
			t.Errorf("%.0f a second after high priority has ended", got)
		}
		cancel()
		synctest.Wait()
	})
}

// TestPaceNeverStops: an attempt is held for a bounded time, however many wait.
func TestPaceNeverStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		p.active.Store(true)
		p.set(1) // a second each
		var late atomic.Int64
		for range 1000 {
			go func() {
				began := time.Now()
				p.hold(t.Context())
				if time.Since(began) > mostHeld {
					late.Add(1)
				}
			}()
		}
		time.Sleep(2 * mostHeld) // virtual
		synctest.Wait()
		if late.Load() > 0 || p.begun.Load() != 1000 {
			t.Errorf("%d of %d were held too long", late.Load(), p.begun.Load())
		}
	})
}

// TestProcessorWaits: the runtime has the histogram, and its reading moves on.
func TestProcessorWaits(t *testing.T) {
	waits := processorWaits()
	waits()
	if w := waits(); w < 0 || w > time.Minute {
		t.Errorf("waits of %v", w)
	}
}
