package sidebyside

import (
	"math"
	"slices"
)

// Spread is what several rounds gave.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"rounds"`
}

// spreadOf sums up the values; values that are no numbers are left out.
func spreadOf(values []float64) Spread {
	var vs []float64
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			vs = append(vs, v)
		}
	}
	if len(vs) == 0 {
		return Spread{}
	}
	slices.Sort(vs)
	m := vs[len(vs)/2]
	if len(vs)%2 == 0 {
		m = (vs[len(vs)/2-1] + m) / 2
	}
	return Spread{Median: m, Min: vs[0], Max: vs[len(vs)-1], N: len(vs)}
}

// overlaps reports whether the two ranges share a value: the difference of
// their medians is then within what the rounds of one of them differ by.
func (s Spread) overlaps(o Spread) bool {
	return s.N > 0 && o.N > 0 && s.Min <= o.Max && o.Min <= s.Max
}

// Values takes one number of each round.
func values[T any](rounds []T, of func(T) float64) []float64 {
	vs := make([]float64, len(rounds))
	for i, r := range rounds {
		vs[i] = of(r)
	}
	return vs
}
