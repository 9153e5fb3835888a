package report

import (
	"fmt"

	"hikyaku/bench/measure"
)

// compareView is what the page of a comparison is drawn from.
type compareView struct {
	frameOf
	C         *Comparison
	A, B      string
	Tables    []ratioTable
	Time      []plot
	Latencies []plot
}

// Page draws the comparison as one HTML file, each series and each percentile
// curve of both reports in one plot.
func (c *Comparison) Page() ([]byte, error) {
	return fitting(func(points int) ([]byte, error) {
		v := compareView{frameOf: newFrame(c.A.Scenario + ": comparison, Hikyaku load suite"), C: c, A: c.A.text(), B: c.B.text(), Tables: c.tables()}
		end := max(runEnd(c.a), runEnd(c.b))
		for _, both := range c.overlay() {
			t := timeline{title: both[0].Name, end: end, points: points, colourOf: sideColour}
			for i, s := range both {
				s.Name = sideNames[i]
				t.series = append(t.series, s)
			}
			v.Time = append(v.Time, t.plot())
		}
		var err error
		v.Latencies, err = c.latencyPlots()
		if err != nil {
			return nil, err
		}
		return execute("comparison", v)
	})
}

var sideNames = []string{"A", "B"}

// sideColour draws A whole and B dashed, so that they are told apart on paper.
func sideColour(i int, _ string) (colour, dash int) { return i, i }

func (c *Comparison) latencyPlots() ([]plot, error) {
	var out []plot
	for _, a := range c.a.Latencies {
		for _, b := range c.b.Latencies {
			if a.Name != b.Name || a.Count == 0 || b.Count == 0 {
				continue
			}
			var both []named
			for i, l := range []Latency{a, b} {
				h, err := measure.DecodeHistogram(l.HDR)
				if err != nil {
					return nil, fmt.Errorf("latency %q: %w", l.Name, err)
				}
				both = append(both, named{sideNames[i], h})
			}
			out = append(out, spread("Histogram: "+a.Name, both), percentiles("Percentiles: "+a.Name, both))
			break
		}
	}
	return out, nil
}

// RatioClass is the colour of a verdict.
func (r Ratio) RatioClass() string {
	return map[string]string{IsBetter: "good", IsWorse: "bad", InNoise: "quiet"}[r.Verdict]
}
