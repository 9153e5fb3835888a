package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"hikyaku/bench/measure"
)

// Comparison is two reports side by side. Ratios are B over A.
type Comparison struct {
	A Side `json:"a"`
	B Side `json:"b"`
	// Warnings are the differences that CompareAnyway was told to accept.
	Warnings  []string `json:"warnings,omitempty"`
	Figures   []Ratio  `json:"figures"`
	Latencies []Ratio  `json:"latencies"`
	Processes []Ratio  `json:"processes"`
	a, b      *Report
}

// Side is whose report it is.
type Side struct {
	Scenario string            `json:"scenario"`
	Form     string            `json:"form"`
	Started  time.Time         `json:"started"`
	Versions map[string]string `json:"versions"`
	Balanced bool              `json:"balanced"`
}

// Verdicts of a ratio.
const (
	IsBetter = "better"
	IsWorse  = "worse"
	InNoise  = "within noise"
)

// Ratio is one value of both reports.
type Ratio struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"`
	Better string   `json:"better,omitempty"`
	A      *float64 `json:"a"` // nil: it has none
	B      *float64 `json:"b"`
	Ratio  *float64 `json:"ratio"` // nil when it would say nothing: a side is missing, or A is 0
	// Noise is the share by which runs differ without a reason. Measured says
	// that it comes from the rounds of both reports; else AssumedNoise is taken.
	Noise    float64 `json:"noise"`
	Measured bool    `json:"noise_measured"`
	Verdict  string  `json:"verdict,omitempty"`
}

// AssumedNoise is taken where a figure has too few rounds to say how far they
// lie apart.
const AssumedNoise = 0.10

// UnlikeError says why two reports are not compared.
type UnlikeError struct{ Differences []string }

func (e *UnlikeError) Error() string {
	return "these runs are not alike, a ratio would say nothing:\n  " + strings.Join(e.Differences, "\n  ")
}

// Compare puts two reports side by side. It refuses, with an UnlikeError that
// names each difference, runs of unlike machines (processor, cores, kernel's
// major version, data device) or modes (scenario, form, flags, fsync, TLS, …).
func Compare(a, b *Report) (*Comparison, error) {
	if d := differences(a, b); len(d) > 0 {
		return nil, &UnlikeError{d}
	}
	return compare(a, b), nil
}

// CompareAnyway does it all the same; the differences stay in the result.
func CompareAnyway(a, b *Report) *Comparison {
	c := compare(a, b)
	c.Warnings = differences(a, b)
	return c
}

func differences(a, b *Report) []string {
	var out []string
	add := func(name, x, y string) {
		if x != y {
			if x == "" {
				x = "not given"
			}
			if y == "" {
				y = "not given"
			}
			out = append(out, fmt.Sprintf("%s: %s, %s", name, x, y))
		}
	}
	add("scenario", a.Scenario, b.Scenario)
	add("form", a.Form, b.Form)
	addAll := func(what string, x, y map[string]string) {
		all := maps.Clone(x)
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, y)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			add(what+" "+k, x[k], y[k])
		}
	}
	addAll("flag", a.Flags, b.Flags)
	addAll("mode", a.Mode, b.Mode)
	m, n := a.Machine, b.Machine
	add("processor", m.CPU, n.CPU)
	add("cores", fmt.Sprint(m.Cores), fmt.Sprint(n.Cores))
	add("CPU limit", number(m.Quota), number(n.Quota))
	add("architecture", m.Arch, n.Arch)
	add("kernel", major(m.Kernel), major(n.Kernel))
	add("data device", m.Device+" "+m.FileSystem, n.Device+" "+n.FileSystem)
	return out
}

func major(kernel string) string {
	v, _, _ := strings.Cut(kernel, ".")
	return v
}

func compare(a, b *Report) *Comparison {
	c := &Comparison{A: sideOf(a), B: sideOf(b), a: a, b: b}
	for _, p := range pair(a.Figures, b.Figures, func(f Figure) string { return f.Name }) {
		c.Figures = append(c.Figures, figureRatio(p.a, p.b))
	}
	for _, p := range pair(a.Latencies, b.Latencies, func(l Latency) string { return l.Name }) {
		c.Latencies = append(c.Latencies, latencyRatios(p)...)
	}
	for _, p := range pair(a.Processes, b.Processes, func(p Process) string { return p.Name }) {
		c.Processes = append(c.Processes, processRatios(p)...)
	}
	return c
}

func sideOf(r *Report) Side {
	return Side{r.Scenario, r.Form, r.Started, r.Versions, r.Ledger == nil || r.Ledger.Balanced}
}

// couple is what both reports have under a name; one of them may have nothing.
type couple[T any] struct {
	name string
	a, b *T
}

// pair joins two lists by name, in the order of the first, then what only the
// second has.
func pair[T any](a, b []T, name func(T) string) []couple[T] {
	var out []couple[T]
	at := map[string]int{}
	for i := range a {
		at[name(a[i])] = len(out)
		out = append(out, couple[T]{name: name(a[i]), a: &a[i]})
	}
	for i := range b {
		if k, ok := at[name(b[i])]; ok {
			out[k].b = &b[i]
		} else {
			out = append(out, couple[T]{name: name(b[i]), b: &b[i]})
		}
	}
	return out
}

func figureRatio(a, b *Figure) Ratio {
	f := a
	if f == nil {
		f = b
	}
	r := Ratio{Name: f.Name, Unit: f.Unit, Better: f.Better}
	var runs [][]float64
	for _, side := range []struct {
		f  *Figure
		to **float64
	}{{a, &r.A}, {b, &r.B}} {
		if side.f != nil && side.f.Without == "" && side.f.Unit == f.Unit {
			v := side.f.Value
			*side.to = &v
			runs = append(runs, side.f.Runs)
		}
	}
	r.judge(noiseOf(runs))
	return r
}

// noiseOf is the larger half distance between the rounds of a side, as a share
// of their middle. It needs three rounds of both.
func noiseOf(runs [][]float64) (share float64, measured bool) {
	if len(runs) != 2 {
		return AssumedNoise, false
	}
	for _, r := range runs {
		low, high := least(r), most(r)
		if len(r) < 3 || low+high == 0 {
			return AssumedNoise, false
		}
		share = max(share, math.Abs((high-low)/(high+low)))
	}
	return share, true
}

func least(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	return slices.Min(vs)
}

func most(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	return slices.Max(vs)
}

// judge fills in the ratio and what it means.
func (r *Ratio) judge(noise float64, measured bool) {
	r.Noise, r.Measured = noise, measured
	if r.A == nil || r.B == nil || *r.A == 0 || (*r.A < 0) != (*r.B < 0) {
		return
	}
	v := *r.B / *r.A
	r.Ratio = &v
	switch {
	case r.Better == "":
	case v <= 1+noise && v >= 1/(1+noise):
		r.Verdict = InNoise
	case (v > 1) == (r.Better == Higher):
		r.Verdict = IsBetter
	default:
		r.Verdict = IsWorse
	}
}

// lower makes a ratio of something of which less is better.
func lower(name, unit string, a, b *float64) Ratio {
	r := Ratio{Name: name, Unit: unit, Better: Lower, A: a, B: b}
	r.judge(AssumedNoise, false)
	return r
}

// of reads a value if there is something to read it from.
func of[T any](from *T, read func(*T) float64) *float64 {
	if from == nil {
		return nil
	}
	v := read(from)
	return &v
}

// beyond is how many values have to lie above a percentile in both reports
// before a difference of it is judged: fewer are chance.
const beyond = 30

func latencyRatios(l couple[Latency]) []Ratio {
	var rows []Ratio
	for _, p := range []struct {
		name     string
		quantile float64
		read     func(*Latency) float64
	}{
		{"p50", 0.5, func(l *Latency) float64 { return l.P50.Seconds() }},
		{"p90", 0.9, func(l *Latency) float64 { return l.P90.Seconds() }},
		{"p99", 0.99, func(l *Latency) float64 { return l.P99.Seconds() }},
		{"p99.9", 0.999, func(l *Latency) float64 { return l.P999.Seconds() }},
		{"max", 1, func(l *Latency) float64 { return l.Max.Seconds() }}, // one value: never judged
	} {
		r := lower(l.name+" "+p.name, "s", of(l.a, p.read), of(l.b, p.read))
		if l.a != nil && l.b != nil && float64(min(l.a.Count, l.b.Count))*(1-p.quantile) < beyond {
			r.Verdict = ""
		}
		rows = append(rows, r)
	}
	return rows
}

func processRatios(p couple[Process]) []Ratio {
	var rows []Ratio
	for _, v := range []struct {
		name, unit string
		read       func(*Process) float64
	}{
		{"CPU per message", "s", func(p *Process) float64 { return p.Each().Seconds() }},
		{"user CPU per message", "s", func(p *Process) float64 { return p.UserEach.Seconds() }},
		{"system CPU per message", "s", func(p *Process) float64 { return p.SystemEach.Seconds() }},
		{"peak memory", "bytes", func(p *Process) float64 { return float64(p.PeakRSS) }},
		{"bytes written per message byte", "", func(p *Process) float64 { return p.WrotePerByte }},
	} {
		a, b := of(p.a, v.read), of(p.b, v.read)
		if a != nil && *a == 0 && (b == nil || *b == 0) || a == nil && b != nil && *b == 0 {
			continue // not measured, or not divided by any work
		}
		rows = append(rows, lower(p.name+": "+v.name, v.unit, a, b))
	}
	return rows
}

// JSON is the comparison for programs.
func (c *Comparison) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("comparison: %w", err)
	}
	return append(b, '\n'), nil
}

// Print writes the comparison as aligned text.
func (c *Comparison) Print(w io.Writer) error {
	b := &printer{}
	b.row("A  %s", clean(c.A.text()))
	b.row("B  %s", clean(c.B.text()))
	for i, d := range c.Warnings {
		if i == 0 {
			b.row("\nwarning: not alike, the ratios may say nothing about the program")
		}
		b.row("  %s", clean(d))
	}
	for _, t := range c.tables() {
		b.row("\n%s", t.Title)
		rows := [][]string{{"", ">A", ">B", ">B / A", "verdict"}}
		for _, r := range t.Rows {
			rows = append(rows, []string{r.Name, ">" + r.Value(r.A), ">" + r.Value(r.B), ">" + r.Factor(), r.Meaning()})
		}
		b.table(rows)
	}
	if _, err := io.WriteString(w, b.text.String()); err != nil {
		return fmt.Errorf("print comparison: %w", err)
	}
	return nil
}

func (s Side) text() string {
	t := fmt.Sprintf("%s (%s form), %s", s.Scenario, s.Form, s.Started.Format("2006-01-02 15:04:05 -0700"))
	for _, k := range slices.Sorted(maps.Keys(s.Versions)) {
		t += ", " + k + " " + s.Versions[k]
	}
	if !s.Balanced {
		t += ", LEDGER NOT BALANCED"
	}
	return t
}

// ratioTable is one section of a comparison.
type ratioTable struct {
	Title string
	Rows  []Ratio
}

func (c *Comparison) tables() []ratioTable {
	return slices.DeleteFunc([]ratioTable{{"figures", c.Figures}, {"latency", c.Latencies}, {"processes", c.Processes}}, func(t ratioTable) bool { return len(t.Rows) == 0 })
}

// Value writes one side in the ratio's unit, "-" where it has none.
func (r Ratio) Value(v *float64) string {
	if v == nil {
		return "-"
	}
	return withUnit(*v, r.Unit)
}

// Factor writes the ratio.
func (r Ratio) Factor() string {
	if r.Ratio == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *r.Ratio)
}

// Meaning is the verdict and what it rests on.
func (r Ratio) Meaning() string {
	switch {
	case r.Verdict == "":
		return ""
	case r.Measured:
		return fmt.Sprintf("%s (rounds differ by %.0f %%)", r.Verdict, 100*r.Noise)
	}
	return fmt.Sprintf("%s (%.0f %% assumed)", r.Verdict, 100*r.Noise)
}

// overlay is the series of both reports that have one name and unit.
func (c *Comparison) overlay() [][]measure.Series {
	var out [][]measure.Series
	for _, a := range c.a.Series {
		for _, b := range c.b.Series {
			if a.Name == b.Name && a.Unit == b.Unit && len(a.At) > 0 && len(b.At) > 0 {
				out = append(out, []measure.Series{a, b})
				break
			}
		}
	}
	return out
}
