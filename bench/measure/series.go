package measure

import (
	"sync"
	"time"
)

// Series is a value over time. At and Value are of one length.
type Series struct {
	Name  string    `json:"name"`            // unique in a report: "node: CPU user"
	Unit  string    `json:"unit"`            // "msg/s", "bytes", "cores", "s", ""
	Group string    `json:"group,omitempty"` // what is drawn together: GroupRate and so on
	At    []float64 `json:"at"`              // seconds since the start of the run
	Value []float64 `json:"value"`
}

// Groups of series that a report draws in one plot.
const (
	GroupRate    = "rate"
	GroupLatency = "latency"
	GroupQueue   = "queue"
	GroupCPU     = "cpu"
	GroupMemory  = "memory"
	GroupDisk    = "disk"
	GroupFiles   = "files" // descriptors, threads, goroutines
)

// DefaultPoints is how many points a track keeps at most if nothing is said.
const DefaultPoints = 2400

// Track collects a series in bounded memory: when it is full, each two
// neighbours become one point, and from then on each point stands for twice as
// many samples. Safe for concurrent use.
type Track struct {
	name, unit, group string
	points            int
	peaks             bool
	mu                struct {
		sync.Mutex
		at, value  []float64
		each       int // samples that make up a point
		n          int // samples in the point that is being made
		sumAt, sum float64
	}
}

// NewTrack makes a track of at most points points (0: DefaultPoints). A point
// of several samples is their mean, or, with peaks, their largest.
func NewTrack(name, unit, group string, points int, peaks bool) *Track {
	if points <= 0 {
		points = DefaultPoints
	}
	t := &Track{name: name, unit: unit, group: group, points: max(points+points%2, 4), peaks: peaks}
	t.mu.each = 1
	return t
}

// Add appends a sample. Samples come in order of time.
func (t *Track) Add(at time.Duration, v float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &t.mu
	m.sumAt += at.Seconds()
	switch {
	case !t.peaks:
		m.sum += v
	case m.n == 0 || v > m.sum:
		m.sum = v
	}
	if m.n++; m.n < m.each {
		return
	}
	if len(m.at) == t.points {
		t.halveLocked()
		if m.n < m.each { // the point being made now needs twice as many
			return
		}
	}
	t.pointLocked()
}

// pointLocked ends the point that is being made.
func (t *Track) pointLocked() {
	m := &t.mu
	v := m.sum
	if !t.peaks {
		v /= float64(m.n)
	}
	m.at, m.value = append(m.at, m.sumAt/float64(m.n)), append(m.value, v)
	m.n, m.sumAt, m.sum = 0, 0, 0
}

func (t *Track) halveLocked() {
	m := &t.mu
	half := len(m.at) / 2
	for i := range half {
		m.at[i] = (m.at[2*i] + m.at[2*i+1]) / 2
		if t.peaks {
			m.value[i] = max(m.value[2*i], m.value[2*i+1])
		} else {
			m.value[i] = (m.value[2*i] + m.value[2*i+1]) / 2
		}
	}
	m.at, m.value = m.at[:half], m.value[:half]
	m.each *= 2
}

// Series is a copy of what was collected.
func (t *Track) Series() Series {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Series{Name: t.name, Unit: t.unit, Group: t.group, At: append([]float64{}, t.mu.at...), Value: append([]float64{}, t.mu.value...)}
	if t.mu.n > 0 { // the last samples do not make a full point yet
		v := t.mu.sum
		if !t.peaks {
			v /= float64(t.mu.n)
		}
		s.At, s.Value = append(s.At, t.mu.sumAt/float64(t.mu.n)), append(s.Value, v)
	}
	return s
}

// Thin is the series in at most points points (at least 2), each the mean or,
// with peaks, the largest of its neighbours: for drawing.
func (s Series) Thin(points int, peaks bool) Series {
	points = max(points, 2)
	n := min(len(s.At), len(s.Value))
	out := Series{Name: s.Name, Unit: s.Unit, Group: s.Group, At: make([]float64, 0, points), Value: make([]float64, 0, points)}
	if n <= points {
		out.At, out.Value = append(out.At, s.At[:n]...), append(out.Value, s.Value[:n]...)
		return out
	}
	for p := range points {
		from, to := p*n/points, (p+1)*n/points
		at, v, top := 0.0, 0.0, s.Value[from]
		for i := from; i < to; i++ {
			at, v, top = at+s.At[i], v+s.Value[i], max(top, s.Value[i])
		}
		v /= float64(to - from)
		if peaks {
			v = top
		}
		out.At, out.Value = append(out.At, at/float64(to-from)), append(out.Value, v)
	}
	return out
}

// Mean is the average of the values, 0 without any.
func (s Series) Mean() float64 {
	sum := 0.0
	for _, v := range s.Value {
		sum += v
	}
	return sum / float64(max(len(s.Value), 1))
}

// Max is the largest value, 0 without any.
func (s Series) Max() float64 {
	if len(s.Value) == 0 {
		return 0
	}
	top := s.Value[0]
	for _, v := range s.Value {
		top = max(top, v)
	}
	return top
}
