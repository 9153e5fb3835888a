package scenario

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"hikyaku/bench/live"
	"hikyaku/bench/measure"
)

// setPhase names what goes on, for the live view.
func (t *trial) setPhase(phase string) { t.phase.Store(&phase) }

// showEvery is how often the live view gets a new state.
const showEvery = 250 * time.Millisecond

// showing keeps the live view up to date until it is stopped. Of trials that run
// side by side nobody shows one.
func (t *trial) showing(ctx context.Context) (stop func()) {
	if t.plan.crew != nil {
		t.plan.crew.join(t)
		return func() {}
	}
	return showing(ctx, &shower{run: t.run, trials: func() []*trial { return []*trial{t} }})
}

// crew are trials that run side by side.
type crew struct {
	name string
	mu   struct {
		sync.Mutex
		trials []*trial
	}
}

func (c *crew) join(t *trial) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.trials = append(c.mu.trials, t)
}

func (c *crew) members() []*trial {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.trials)
}

// showing keeps the live view up to date with the crew's sums.
func (c *crew) showing(ctx context.Context, r *Run) (stop func()) {
	return showing(ctx, &shower{run: r, name: c.name, trials: c.members})
}

func showing(ctx context.Context, s *shower) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // stop waits for it
		defer close(done)
		tick := time.NewTicker(showEvery)
		defer tick.Stop()
		s.run.view.Update(s.state(time.Now()))
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				s.run.view.Update(s.state(now))
			}
		}
	}()
	return func() { cancel(); <-done }
}

// shower makes states out of counters: rates are over the last few seconds.
type shower struct {
	run    *Run
	name   string // "" is that of the trial
	trials func() []*trial
	seen   []point
}

type point struct {
	at      time.Time
	in, out int64
}

// shownSpan is the span that rates and percentiles are shown of.
const shownSpan = 12

func (s *shower) state(now time.Time) live.State {
	st := live.State{Phase: s.name + ", start", Elapsed: now.Sub(s.run.rep.Started)}
	p := point{at: now}
	all := &measure.Histogram{}
	for i, t := range s.trials() {
		if i == 0 {
			st.Phase = cmp.Or(s.name, t.plan.name) + ", " + *t.phase.Load()
		}
		p.in, p.out = p.in+t.acceptedAll(), p.out+t.receivedAll()
		for _, f := range t.flows {
			if !f.stuck {
				st.Total += int64(f.load.Mix.Recipients)
				all.Merge(f.delivery.Total())
			}
			if src := f.source.Load(); src != nil {
				st.Errors += src.Progress().Errors
			}
		}
	}
	s.seen = append(s.seen, p)
	if len(s.seen) > shownSpan {
		s.seen = s.seen[1:]
	}
	st.Done, st.Queue = p.out, max(0, p.in-p.out)
	if span := now.Sub(s.seen[0].at).Seconds(); span > 0 {
		st.InRate, st.OutRate = float64(p.in-s.seen[0].in)/span, float64(p.out-s.seen[0].out)/span
	}
	st.P50, st.P99 = all.Quantile(0.5), all.Quantile(0.99)
	return st
}
