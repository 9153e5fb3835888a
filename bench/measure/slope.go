package measure

import (
	"fmt"
	"math"
)

// Trend is how fast a series grows.
type Trend struct {
	Name      string  `json:"name"`
	Unit      string  `json:"unit"`
	PerHour   float64 `json:"per_hour"`
	PlusMinus float64 `json:"plus_minus"` // half of the 95 % confidence interval
	Points    int     `json:"points"`
	Effective float64 `json:"effective"` // independent points that those are worth
}

// Slope fits a line by least squares to the points of s at from and later
// (seconds: a warm-up is left out). Neighbours of a series of memory or queue
// depth are alike, so the interval of the textbook would be far too narrow: the
// points are counted for as many independent ones as the residuals' correlation
// with their neighbour leaves, n(1-r)/(1+r). It is ok when at least three points
// span some time.
func Slope(s Series, from float64) (t Trend, ok bool) {
	t = Trend{Name: s.Name, Unit: s.Unit}
	var x, y []float64
	for i := range min(len(s.At), len(s.Value)) {
		if s.At[i] >= from {
			x, y = append(x, s.At[i]/3600), append(y, s.Value[i])
		}
	}
	n := float64(len(x))
	if t.Points = len(x); t.Points < 3 {
		return t, false
	}
	mx, my := Series{Value: x}.Mean(), Series{Value: y}.Mean()
	var sxx, sxy float64
	for i := range x {
		sxx += (x[i] - mx) * (x[i] - mx)
		sxy += (x[i] - mx) * (y[i] - my)
	}
	if sxx == 0 {
		return t, false
	}
	t.PerHour = sxy / sxx
	var squares, next, before float64
	for i := range x {
		e := y[i] - my - t.PerHour*(x[i]-mx)
		squares += e * e
		if i > 0 {
			next += e * before
		}
		before = e
	}
	r := 0.0
	if squares > 1e-20*(my*my+t.PerHour*t.PerHour*sxx)*n { // less is the float's own noise
		r = min(max(next/squares, 0), 1)
	}
	t.Effective = max(n*(1-r)/(1+r), 3) // three give an interval so wide that it says "unknown"
	variance := squares / n * t.Effective / (t.Effective - 2)
	t.PlusMinus = student95(t.Effective-2) * math.Sqrt(variance/sxx*n/t.Effective)
	return t, true
}

// student95 is the two-sided 95 % point of Student's t distribution, by the
// expansion of Abramowitz and Stegun 26.7.5 around the normal distribution; the
// few degrees for which that is not exact enough are a table.
func student95(degrees float64) float64 {
	table := []float64{12.706, 4.303, 3.182, 2.776, 2.571}
	if degrees < float64(len(table)) {
		return table[max(int(degrees), 1)-1]
	}
	const z = 1.959964
	z3 := z * z * z
	return z + (z3+z)/(4*degrees) + (5*z3*z*z+16*z3+3*z)/(96*degrees*degrees)
}

// Grows reports that the series grows beyond what chance explains.
func (t Trend) Grows() bool { return t.PerHour-t.PlusMinus > 0 }

// String is "node: memory +1.20 ± 3.40 MiB/h".
func (t Trend) String() string {
	scale, unit := 1.0, t.Unit
	if unit == "bytes" {
		scale, unit = 1<<20, "MiB"
	}
	if unit != "" {
		unit = " " + unit
	}
	return fmt.Sprintf("%s %+.2f ± %.2f%s/h", t.Name, t.PerHour/scale, t.PlusMinus/scale, unit)
}
