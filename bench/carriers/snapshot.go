package carriers

import (
	"context"
	"time"

	"hikyaku/bench/carriers/late"
)

// Metric is what is cheap enough to be asked five times a second.
type Metric struct {
	Carrier string `json:"carrier"`
	Counters
	Allowed   int64 `json:"allowed"` // messages that the limits would have let pass by now
	Unlimited bool  `json:"unlimited"`
}

// State is everything there is to say about one carrier.
type State struct {
	Metric
	Description string      `json:"description"`
	Use         float64     `json:"use"`        // Carrier.Use
	Blocked     []string    `json:"blocked"`    // sources that are blocked now
	Violations  []Violation `json:"violations"` // the first thousand
	Series      Series      `json:"series"`
}

// Series are a carrier's counters over time, with the seconds since the start
// of the farm. All slices are of one length. When they are full every second
// point goes, so the distance doubles.
type Series struct {
	At          []float64 `json:"at"`
	Offered     []int64   `json:"offered"`
	Allowed     []int64   `json:"allowed"`   // -1 where nothing limits
	Delivered   []int64   `json:"delivered"` // messages, as offered and allowed
	Deferred    []int64   `json:"deferred"`
	Refused     []int64   `json:"refused"`
	Blocked     []int64   `json:"blocked"`
	Violations  []int64   `json:"violations"`
	Connections []int64   `json:"connections"`
}

const maxPoints = 3600

func (s *Series) columns() []*[]int64 {
	return []*[]int64{&s.Offered, &s.Allowed, &s.Delivered, &s.Deferred, &s.Refused, &s.Blocked, &s.Violations, &s.Connections}
}

func (s *Series) add(at time.Duration, m *Metric) {
	allowed := m.Allowed
	if m.Unlimited {
		allowed = -1
	}
	s.At = append(s.At, at.Seconds())
	values := [...]int64{m.Offered, allowed, m.Messages, m.Deferred, m.Refused, m.Blocked, m.Violations, m.Connections}
	for i, c := range s.columns() {
		*c = append(*c, values[i])
	}
	if len(s.At) >= maxPoints {
		s.thin()
	}
}

// thin keeps every second point, the last one among them.
func (s *Series) thin() {
	n := 0
	for i := 1; i < len(s.At); i += 2 {
		s.At[n] = s.At[i]
		for _, c := range s.columns() {
			(*c)[n] = (*c)[i]
		}
		n++
	}
	s.At = s.At[:n]
	for _, c := range s.columns() {
		*c = (*c)[:n]
	}
}

func (s *Series) clone() Series {
	c := Series{At: append([]float64(nil), s.At...)}
	to := c.columns()
	for i, from := range s.columns() {
		*to[i] = append([]int64(nil), *from...)
	}
	return c
}

func (st *station) metric(now time.Time) Metric {
	m := Metric{Carrier: st.profile.Name}
	m.Counters, m.Allowed, m.Unlimited = st.counters(now)
	return m
}

// Metrics are the counters of all carriers, in the order of the profiles.
func (f *Farm) Metrics() []Metric {
	now := time.Now()
	ms := make([]Metric, len(f.stations))
	for i, st := range f.stations {
		ms[i] = st.metric(now)
	}
	return ms
}

// Snapshot is all there is to say about all carriers, with a last point in
// each series.
func (f *Farm) Snapshot() []State {
	now := time.Now()
	states := make([]State, len(f.stations))
	for i, st := range f.stations {
		s := State{Metric: st.metric(now), Description: st.profile.Description}
		st.mu.Lock()
		s.Use, s.Blocked = st.mu.c.Use(), st.mu.c.Blocked(now)
		s.Violations = append([]Violation(nil), st.mu.violations...)
		s.Series = st.mu.series.clone()
		st.mu.Unlock()
		s.Series.add(now.Sub(f.started), &s.Metric)
		states[i] = s
	}
	return states
}

// Violations counts those of all carriers.
func (f *Farm) Violations() (n int64) {
	for _, m := range f.Metrics() {
		n += m.Violations
	}
	return n
}

// Notices say what became of late bounces and complaints.
func (f *Farm) Notices() late.Counters { return f.post.Counters() }

// sample adds to the time series until ctx ends.
func (f *Farm) sample(ctx context.Context) {
	t := time.NewTicker(f.o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, st := range f.stations {
				m := st.metric(now)
				st.mu.Lock()
				st.mu.series.add(now.Sub(f.started), &m)
				st.mu.Unlock()
			}
		}
	}
}
