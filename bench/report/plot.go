package report

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"hikyaku/bench/measure"
)

// plot is one diagram, ready for the template.
type plot struct {
	Title, Help    string
	XTicks, YTicks []tick
	XTitle, YTitle string
	Lines          []line
	Violations     string // path of the marks at the foot
	Marks          string // path of the upright lines
	Legend         bool
	Small          bool // one of many
	Data           plotData
}

// line is one curve or area. Colour and Dash are classes of the style sheet.
type line struct {
	Name, Path, Stats string
	Colour, Dash      int
	Area              bool
}

// plotData is what the page's script needs to show the values under the pointer.
type plotData struct {
	Kind  kind       `json:"kind"`
	Min   float64    `json:"min"`
	Max   float64    `json:"max"`
	XUnit string     `json:"xunit"`
	Unit  string     `json:"unit"`
	Lines []plotLine `json:"lines"`
}

type plotLine struct {
	Name string    `json:"name"`
	X    []float64 `json:"x"`
	Y    []float64 `json:"y"` // in the unit of the axis
}

// The drawing's own measure: a plot is 10,000 wide and high and is stretched.
const (
	side    = 10000
	colours = 8
	dashes  = 4
)

// coordinate appends a place of 0 to 1.
func coordinate(b []byte, v float64) []byte {
	return strconv.AppendInt(b, int64(math.Round(v*side)), 10)
}

// path draws a line through the points. A gap of the sampling breaks it: what
// nobody saw is not drawn.
func path(x, y axis, xs, ys []float64) string {
	gap := widestGap(x, xs)
	var b []byte
	for i := range xs {
		op := byte('L')
		if i == 0 || xs[i]-xs[i-1] > gap {
			op = 'M'
		}
		b = append(b, op)
		b = coordinate(b, x.place(xs[i]))
		b = append(b, ' ')
		b = coordinate(b, 1-y.place(ys[i]))
		// A lone point has no length; a line to itself with round ends shows it.
		if op == 'M' && (i+1 == len(xs) || xs[i+1]-xs[i] > gap) {
			b = append(b, "h1"...)
		}
	}
	return string(b)
}

// widestGap is five times the usual distance of the points of a time axis.
func widestGap(x axis, xs []float64) float64 {
	if x.kind != clocks || len(xs) < 3 {
		return math.Inf(1)
	}
	d := make([]float64, len(xs)-1)
	for i := range d {
		d[i] = xs[i+1] - xs[i]
	}
	slices.Sort(d)
	return 5 * max(d[len(d)/2], x.max/1000)
}

// short keeps four significant digits: the data under the pointer need no more.
func short(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return r
}

func shortAll(vs []float64, div float64) []float64 {
	out := make([]float64, len(vs))
	for i, v := range vs {
		out[i] = short(v / div)
	}
	return out
}

// add draws a curve into the plot.
func (p *plot) add(l line, x, y axis, xs, ys []float64) {
	l.Path = path(x, y, xs, ys)
	p.Lines = append(p.Lines, l)
	p.Data.Lines = append(p.Data.Lines, plotLine{l.Name, shortAll(xs, 1), shortAll(ys, y.scale.div)})
	p.Legend = len(p.Lines) > 1 || l.Stats != ""
}

// frame takes the axes over.
func (p *plot) frame(x, y axis) {
	p.XTicks, p.YTicks = x.ticks, y.ticks
	p.XTitle, p.YTitle = x.title(), y.title()
	if y.kind == logs {
		y.scale.label = "s"
	}
	p.Data.Kind, p.Data.Min, p.Data.Max, p.Data.XUnit, p.Data.Unit = x.kind, x.min, x.max, x.scale.label, y.scale.label
}

// timeline is a plot of series over the time of the run.
type timeline struct {
	title, help string
	series      []measure.Series
	end         float64
	points      int
	upto        float64 // of the y axis at least, so that small multiples can share one
	small       bool
	violations  []Violation
	marks       []Mark
	colourOf    func(i int, name string) (colour, dash int)
}

// plot draws it. Series of latencies are drawn on a logarithmic axis when they
// span more than a factor of 20: p50 and p99 would not fit on another.
func (t timeline) plot() plot {
	p := plot{Title: t.title, Help: t.help, Small: t.small}
	top, low, unit := t.upto, math.Inf(1), ""
	for _, s := range t.series {
		unit = s.Unit
		top = max(top, s.Max())
		for _, v := range s.Value {
			if v > 0 {
				low = min(low, v)
			}
		}
	}
	x, y := upto(t.end), upright(unit, top)
	if unit == "s" && top > 20*low {
		y = powers(low, top)
	}
	p.frame(x, y)
	pick := t.colourOf
	if pick == nil {
		pick = func(i int, _ string) (int, int) { return i % colours, i / colours % dashes }
	}
	for i, s := range t.series {
		// Peaks are kept where a short one matters, and means where a sum does.
		s = s.Thin(t.points, s.Group == measure.GroupLatency || s.Group == measure.GroupMemory)
		l := line{Name: s.Name}
		l.Colour, l.Dash = pick(i, s.Name)
		if !t.small {
			l.Stats = "mean " + withUnit(s.Mean(), unit) + ", max " + withUnit(s.Max(), unit)
		}
		p.add(l, x, y, s.At, s.Value)
	}
	p.Violations = feet(x, t.violations)
	p.Marks = uprights(x, t.marks)
	return p
}

// feet are short lines at the foot of the plot, one for each violation.
func feet(x axis, vs []Violation) string {
	var b []byte
	last := int64(-1)
	for _, v := range vs {
		at := int64(math.Round(x.place(v.At) * side))
		if at == last {
			continue
		}
		last = at
		b = append(strconv.AppendInt(append(b, 'M'), at, 10), " 10000V9200"...)
	}
	return string(b)
}

func uprights(x axis, ms []Mark) string {
	var b []byte
	for _, m := range ms {
		b = append(coordinate(append(b, 'M'), x.place(m.At)), " 0V10000"...)
	}
	return string(b)
}

// byProcess gives the series of one process ("node: user", "node: system") one
// colour and tells them apart by their dashes.
func byProcess() func(i int, name string) (colour, dash int) {
	order, used := map[string]int{}, map[string]int{}
	return func(_ int, name string) (int, int) {
		process, _, _ := strings.Cut(name, ": ")
		if _, ok := order[process]; !ok {
			order[process] = len(order)
		}
		used[process]++
		return order[process] % colours, (used[process] - 1) % dashes
	}
}

// named is a histogram with the name of what it counts.
type named struct {
	name string
	h    *measure.Histogram
}

// spread draws histograms: the share of the values in each range of a
// logarithmic axis.
func spread(title string, hs []named) plot {
	p := plot{Title: title, Help: "share of all in each tenth of a power of ten"}
	low, high, top := math.Inf(1), 0.0, 0.0
	bars := make([][]measure.Bar, len(hs))
	for i, n := range hs {
		bars[i] = n.h.Bars(10)
		for _, b := range bars[i] {
			top = max(top, 100*float64(b.Count)/float64(n.h.Count()))
			if b.Count > 0 {
				low, high = min(low, max(b.From.Seconds(), 1e-6)), max(high, b.To.Seconds())
			}
		}
	}
	x, y := powers(low, high), upright("%", top)
	p.frame(x, y)
	for i, n := range hs {
		var xs, ys []float64
		for _, bar := range bars[i] {
			share := 100 * float64(bar.Count) / float64(n.h.Count())
			from, to := max(bar.From.Seconds(), 1e-6), bar.To.Seconds()
			xs, ys = append(xs, math.Sqrt(from*to)), append(ys, share)
		}
		p.add(line{Name: n.name, Colour: i % colours, Dash: i / colours % dashes, Area: true}, x, y, xs, ys)
		p.Lines[i].Path = staircase(x, y, bars[i], n.h.Count())
	}
	return p
}

// staircase is the outline of the bars, closed at the foot.
func staircase(x, y axis, bars []measure.Bar, count uint64) string {
	var b []byte
	for i, bar := range bars {
		if i == 0 {
			b = append(coordinate(append(b, 'M'), x.place(max(bar.From.Seconds(), 1e-6))), " 10000"...)
		}
		b = coordinate(append(b, 'V'), 1-y.place(100*float64(bar.Count)/float64(count)))
		b = coordinate(append(b, 'H'), x.place(bar.To.Seconds()))
	}
	return string(append(b, "V10000Z"...))
}

// percentiles draws the curves in HdrHistogram's way.
func percentiles(title string, hs []named) plot {
	p := plot{Title: title, Help: "the time within which the share of all lies"}
	low, high, most := math.Inf(1), 0.0, uint64(0)
	for _, n := range hs {
		low, high, most = min(low, max(n.h.Min().Seconds(), 1e-6)), max(high, n.h.Max().Seconds()), max(most, n.h.Count())
	}
	x, y := ninesAxis(most), upright("s", high)
	if high > 20*low {
		y = powers(low, high)
	}
	p.frame(x, y)
	for i, n := range hs {
		var xs, ys []float64
		for _, s := range n.h.Curve(8) {
			xs, ys = append(xs, min(s.Quantile, x.max)), append(ys, s.Value.Seconds())
		}
		q := func(q float64) string { return duration(n.h.Quantile(q)) }
		stats := "p50 " + q(0.5) + ", p99 " + q(0.99) + ", max " + q(1)
		p.add(line{Name: n.name, Colour: i % colours, Dash: i / colours % dashes, Stats: stats}, x, y, xs, ys)
		last := &p.Data.Lines[len(p.Data.Lines)-1]
		last.X = append([]float64{}, xs...) // four digits are too few nines
	}
	return p
}
