package report

import (
	"fmt"
	"math"
	"time"
)

// kind is how an axis maps a value to a place.
type kind string

const (
	linear kind = "linear"
	clocks kind = "time"  // linear, in seconds of the run
	logs   kind = "log"   // powers of ten
	nines  kind = "nines" // -log10(1-q): each further nine of a percentile has the same room
)

// axis is one axis of a plot.
type axis struct {
	kind     kind
	min, max float64 // values at the ends
	scale    scale
	ticks    []tick
}

// tick is a labelled place on an axis, in per cent of its length.
type tick struct {
	Pos   float64
	Label string
	Minor bool // may be left out where there is little room
}

// transform is the value in the measure in which the axis is even.
func (k kind) transform(v float64) float64 {
	switch k {
	case logs:
		return math.Log10(v)
	case nines:
		return -math.Log10(1 - min(v, 1-1e-12))
	}
	return v
}

// place is where v lies, 0 to 1; what is outside lies at the end.
func (a axis) place(v float64) float64 {
	lo, hi := a.kind.transform(a.min), a.kind.transform(a.max)
	if hi <= lo {
		return 0
	}
	return min(max((a.kind.transform(max(v, a.min))-lo)/(hi-lo), 0), 1)
}

func (a *axis) add(v float64, label string, minor bool) {
	a.ticks = append(a.ticks, tick{math.Round(a.place(v)*1e4) / 100, label, minor})
}

// step is the distance of at most n ticks up to top: 1, 2, 2.5 or 5 times a
// power of ten.
func step(top float64, n int) float64 {
	raw := top / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if raw <= m*power*1.0001 {
			return m * power
		}
	}
	return 10 * power
}

// upright is a y axis from 0 to at least top.
func upright(unit string, top float64) axis {
	if top <= 0 {
		top = 1
	}
	s := scaleOf(unit, top)
	d := step(top/s.div, 5)
	n := math.Ceil(top/s.div/d - 1e-9)
	a := axis{kind: linear, max: n * d * s.div, scale: s}
	for i := range int(n) + 1 {
		a.add(float64(i)*d*s.div, number(float64(i)*d), i%2 == 1)
	}
	return a
}

// upto is an x axis of time from 0 to the end.
func upto(end float64) axis {
	end = max(end, 1e-3)
	d := step(end, 6)
	if end > 60 && end < 1000*3600 {
		for _, d = range []float64{10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 4 * 3600, 8 * 3600, 24 * 3600, 240 * 3600} {
			if end/d <= 7 {
				break
			}
		}
	}
	a := axis{kind: clocks, max: end, scale: scale{1, timeUnit(end)}}
	for i := 0; float64(i)*d <= end*1.0001; i++ {
		a.add(float64(i)*d, timeLabel(float64(i)*d, end), i%2 == 1)
	}
	return a
}

// title is what stands beside the axis.
func (a axis) title() string {
	switch {
	case a.kind == clocks:
		return "time (" + a.scale.label + ")"
	case a.kind == nines:
		return "percentile"
	case a.kind == logs:
		return "duration (logarithmic)"
	case a.scale.label == "":
		return "number"
	}
	return a.scale.label
}

// timeUnit names the labels of a time axis that ends there.
func timeUnit(end float64) string {
	switch {
	case end <= 120:
		return "s"
	case end <= 3600:
		return "min:s"
	}
	return "h:min"
}

func timeLabel(v, end float64) string {
	s := int(math.Round(v))
	switch {
	case end <= 120:
		return number(v)
	case end <= 3600:
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/3600, s/60%60)
}

// powers is an axis of durations in seconds, logarithmic from low to high.
func powers(low, high float64) axis {
	low, high = max(low, 1e-6), max(high, 2e-6)
	a := axis{kind: logs, scale: scale{1, ""}}
	a.min = math.Pow(10, math.Floor(math.Log10(low)+1e-9))
	a.max = math.Pow(10, math.Ceil(math.Log10(high)-1e-9))
	if a.max <= a.min {
		a.max = a.min * 10
	}
	decades := int(math.Round(math.Log10(a.max / a.min)))
	marks := []float64{1}
	if decades <= 2 {
		marks = []float64{1, 2, 5}
	}
	for e := range decades + 1 {
		for _, m := range marks {
			v := a.min * math.Pow(10, float64(e)) * m
			if v > a.max*1.0001 {
				break
			}
			a.add(v, duration(time.Duration(math.Round(v*1e9))), m != 1 || decades > 5 && e%2 == 1)
		}
	}
	return a
}

// ninesAxis is the axis of a percentile curve for so many values: it ends where
// the last value stands for itself.
func ninesAxis(count uint64) axis {
	a := axis{kind: nines, max: 1 - 1/max(float64(count), 10)}
	labels := []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"}
	for i, l := range labels {
		if q := 1 - math.Pow(10, -float64(i)); q <= a.max+1e-12 {
			a.add(q, l, i > 2 && i%2 == 0)
		}
	}
	return a
}
