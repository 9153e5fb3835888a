package carriers

import (
	"time"

	"hikyaku/controlplane/policy"
)

// Retune changes what the carrier allows one source from now on: its rate, its
// connections and its daily count. What the source did before stays counted.
// Connections that are open above a lower limit stay; no new one is let in.
func (c *Carrier) Retune(now time.Time, source string, l policy.Limits) {
	s := c.sourceOf(now, source)
	if s.rate != nil && !s.began.IsZero() {
		s.had += int64(now.Sub(s.since()) / s.rate.interval)
	}
	s.tuned = now
	s.connections = l.Connections
	s.rate = s.rate.retuned(now, l.Rate, c.opts.Tolerance)
	s.connect = s.connect.retuned(now, l.ConnectionRate, c.opts.Tolerance)
	switch {
	case l.PerDay == 0:
		s.day = nil
	case s.day == nil:
		s.day = newDayMeter(l.PerDay)
	default:
		s.day.most = l.PerDay
	}
}

// since is when the limits of now began to count.
func (s *source) since() time.Time {
	if s.tuned.After(s.began) {
		return s.tuned
	}
	return s.began
}

// retuned is the meter with another rate and the same past: the messages that
// its queue holds at the change are in it on, each as long as serving it takes
// from then on. What was sent before the change and is heard of later is let
// pass.
func (m *meter) retuned(now time.Time, r *policy.Rate, tolerance time.Duration) *meter {
	n := newMeter(r, tolerance)
	if n == nil || m == nil {
		return n
	}
	n.end, n.from, n.seen, n.trimmed = m.end, m.from, m.seen, m.trimmed
	if k := len(m.marks); k > 0 {
		last, at := m.marks[k-1], now.UnixNano()
		held := max(0, last.held-(at-last.at))
		n.marks, n.trimmed = []mark{{at, int64(float64(held) * float64(n.interval) / float64(m.interval))}}, true
	}
	return n
}

// Standing is what a carrier holds against a source.
type Standing struct {
	Strikes int       // not yet forgiven
	Blocks  int       // in a row
	Until   time.Time // of the last block; zero if there was none
	// Score is 100 for a clean sheet and 0 while the source is blocked: half of
	// it goes with strikes on their way to the next block, half with blocks that
	// are not forgotten yet, each of which takes half of what is left.
	Score float64
}

// Standing tells how a source stands at time now.
func (c *Carrier) Standing(now time.Time, source string) Standing {
	s := c.sources[source]
	if s == nil || c.profile.Punish == nil {
		return Standing{Score: 100}
	}
	r := *c.forgive(now, s)
	st := Standing{Strikes: r.strikes, Blocks: r.blocks, Until: r.until}
	b := c.profile.Punish.Block
	switch {
	case b == nil:
		st.Score = 100 / (1 + float64(r.strikes))
		return st
	case now.Before(r.until):
		return st
	case r.until.IsZero() || now.Sub(r.until) >= b.Forget.D():
		st.Blocks = 0
	}
	kept := 1.0
	for range st.Blocks {
		kept /= 2
	}
	st.Score = 50*kept + 50*(1-min(1, float64(r.strikes)/float64(b.Strikes)))
	return st
}

// Blocked is a block that a source has brought upon itself.
type Blocked struct {
	At      time.Time
	Carrier string
	Source  string
	Until   time.Time
}

// Retune changes what a carrier of the farm allows a source, by its address.
func (f *Farm) Retune(carrier, source string, l policy.Limits) {
	for _, st := range f.stations {
		if st.profile.Name == carrier && !st.fast {
			st.mu.Lock()
			st.mu.c.Retune(time.Now(), source, l)
			st.mu.Unlock()
		}
	}
}

// Standing is how a source, by its address, stands at a carrier of the farm.
func (f *Farm) Standing(carrier, source string) Standing {
	for _, st := range f.stations {
		if st.profile.Name == carrier && !st.fast {
			st.mu.Lock()
			defer st.mu.Unlock()
			return st.mu.c.Standing(time.Now(), source)
		}
	}
	return Standing{Score: 100}
}
