package scenario

import (
	"context"
	"time"

	"hikyaku/bench/live"
	"hikyaku/bench/measure"
)

// setPhase names what goes on, for the live view.
func (t *trial) setPhase(phase string) { t.phase.Store(&phase) }

// showEvery is how often the live view gets a new state.
const showEvery = 250 * time.Millisecond

// showing keeps the live view up to date until it is stopped.
func (t *trial) showing(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // stop waits for it
		defer close(done)
		tick := time.NewTicker(showEvery)
		defer tick.Stop()
		s := &shower{trial: t}
		t.run.view.Update(s.state(time.Now()))
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				t.run.view.Update(s.state(now))
			}
		}
	}()
	return func() { cancel(); <-done }
}

// shower makes states out of counters: rates are over the last few seconds.
type shower struct {
	trial *trial
	seen  []point
}

type point struct {
	at      time.Time
	in, out int64
}

// shownSpan is the span that rates and percentiles are shown of.
const shownSpan = 12

func (s *shower) state(now time.Time) live.State {
	t := s.trial
	p := point{at: now, in: t.acceptedAll(), out: t.receivedAll()}
	s.seen = append(s.seen, p)
	if len(s.seen) > shownSpan {
		s.seen = s.seen[1:]
	}
	st := live.State{Phase: t.plan.name + ", " + *t.phase.Load(), Done: p.out, Queue: max(0, p.in-p.out), Elapsed: now.Sub(t.run.rep.Started)}
	if span := now.Sub(s.seen[0].at).Seconds(); span > 0 {
		st.InRate, st.OutRate = float64(p.in-s.seen[0].in)/span, float64(p.out-s.seen[0].out)/span
	}
	all := &measure.Histogram{}
	for _, f := range t.flows {
		if !f.stuck {
			st.Total += int64(f.load.Mix.Recipients)
			all.Merge(f.delivery.Total())
		}
		if src := f.source.Load(); src != nil {
			st.Errors += src.Progress().Errors
		}
	}
	st.P50, st.P99 = all.Quantile(0.5), all.Quantile(0.99)
	return st
}
