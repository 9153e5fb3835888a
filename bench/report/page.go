package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"hikyaku/bench/measure"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

// MaxPageBytes is what a page stays below: curves are drawn of fewer points
// until it does.
const MaxPageBytes = 2 << 20

const (
	mostPoints  = 600 // of a curve: more than a plot has pixels to tell apart
	fewPoints   = 40
	smallShare  = 3 // small multiples get a third of the points
	manyEntries = 25
	curvesEach  = 4 // latencies in one plot
)

// frameOf is what every page has around its content.
type frameOf struct {
	Title, Policy string
	Style         template.CSS
	Script        template.JS
}

// newFrame allows the page's own style and script, and nothing else: no
// network, no other script, even if something slipped through the escaping.
// Style attributes place the labels, so styles are allowed inline.
func newFrame(title string) frameOf {
	sum := sha256.Sum256([]byte(pageJS))
	policy := "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	// Both are files of this package, not values from anywhere.
	return frameOf{Title: title, Policy: policy, Style: template.CSS(pageCSS), Script: template.JS(pageJS)}
}

// badge is a verdict in the head of the page.
type badge struct{ Class, Text string }

// fact is a line of the method.
type fact struct{ Name, Text string }

type pageView struct {
	frameOf
	R                             *Report
	Badges                        []badge
	Time, Spread, Carriers        []plot
	Treated                       []plot
	TreatedHead                   []string
	Method                        []fact
	MoreViolations, FewViolations bool
}

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"number": number, "value": withUnit, "duration": duration, "clock": clock, "target": targetText, "class": classOf, "share": shareOf,
	"count": func(n any) string { return group(fmt.Sprint(n)) },
	"bytes": func(n uint64) string { return withUnit(float64(n), "bytes") },
	"when":  func(t time.Time) string { return t.Format("2 January 2006, 15:04:05 -0700") },
	"ids":   idsText,
	"over":  func(v Violation) string { return group(strconv.FormatInt(v.Seen-v.Allowed, 10)) },
}).Parse(pageHTML))

// Page draws the report as one HTML file, below MaxPageBytes for every report
// that a scenario writes.
func (r *Report) Page() ([]byte, error) {
	return fitting(func(points int) ([]byte, error) {
		v := pageView{frameOf: newFrame(r.Scenario + ": Hikyaku load suite"), R: r, Badges: badges(r), Method: method(r)}
		v.Time, v.Carriers = timePlots(r, points), carrierPlots(r, max(points/smallShare, fewPoints))
		v.Treated, v.TreatedHead = treatedPlots(r, max(points/smallShare, fewPoints)), treatedHead
		var err error
		if v.Spread, err = latencyPlots(r.Latencies); err != nil {
			return nil, err
		}
		v.MoreViolations, v.FewViolations = r.ViolationCount > len(r.Violations), len(r.Violations) <= manyEntries
		return execute("page", v)
	})
}

// fitting draws with fewer points until the page is small enough.
func fitting(draw func(points int) ([]byte, error)) ([]byte, error) {
	for points := mostPoints; ; points /= 2 {
		page, err := draw(points)
		if err != nil {
			return nil, fmt.Errorf("draw page: %w", err)
		}
		if len(page) < MaxPageBytes || points/2 < fewPoints {
			return page, nil
		}
	}
}

func execute(name string, v any) ([]byte, error) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func badges(r *Report) []badge {
	var out []badge
	if l := r.Ledger; l != nil {
		if l.Balanced {
			out = append(out, badge{"good", "ledger balanced"})
		} else {
			out = append(out, badge{"bad", "ledger not balanced"})
		}
	}
	met, missed, without := r.Targets()
	if met > 0 || missed > 0 {
		b := badge{"good", fmt.Sprintf("%d of %d targets met", met, met+missed)}
		if missed > 0 {
			b.Class = "bad"
		}
		out = append(out, b)
	}
	if without > 0 {
		out = append(out, badge{"warn", fmt.Sprintf("%d not applicable", without)})
	}
	switch {
	case r.ViolationCount > 0:
		out = append(out, badge{"bad", group(strconv.Itoa(r.ViolationCount)) + " violations"})
	case len(r.Carriers) > 0:
		out = append(out, badge{"good", "no violations"})
	}
	return out
}

func targetText(f Figure) string {
	switch {
	case f.Target == nil:
		return ""
	case f.Better == Lower:
		return "≤ " + withUnit(*f.Target, f.Unit)
	}
	return "≥ " + withUnit(*f.Target, f.Unit)
}

func classOf(f Figure) string {
	return map[string]string{Met: "good", Missed: "bad", NotApplicable: "warn"}[f.Judge()]
}

// shareOf is how much of what it allowed a carrier was delivered.
func shareOf(c Carrier) string {
	if c.Unlimited || c.Allowed == 0 {
		return ""
	}
	return number(100*float64(c.Delivered)/float64(c.Allowed)) + " %"
}

// idsText lists the first numbers of a fault.
func idsText(ids []int, count int) string {
	var out []string
	for _, n := range ids[:min(len(ids), manyEntries)] {
		out = append(out, strconv.Itoa(n))
	}
	if count > len(out) && len(out) > 0 {
		out = append(out, fmt.Sprintf("… and %s more", group(strconv.Itoa(count-len(out)))))
	}
	return strings.Join(out, ", ")
}

// timeGroups are the plots over time in their order. Series of another group
// come after them.
var timeGroups = []struct{ group, title, help string }{
	{measure.GroupRate, "Rates", ""},
	{measure.GroupLatency, "Latency over time", "percentiles of each second"},
	{measure.GroupQueue, "Queue", ""},
	{measure.GroupCPU, "CPU", "one core is 1"},
	{measure.GroupMemory, "Memory", "resident, of each process"},
	{measure.GroupDisk, "Disk", "written by each process"},
	{measure.GroupFiles, "Descriptors, threads, goroutines", ""},
}

// runEnd is the right end of the time axes.
func runEnd(r *Report) float64 {
	end := r.Took.Seconds()
	for _, s := range r.Series {
		if n := len(s.At); n > 0 {
			end = max(end, s.At[n-1])
		}
	}
	return end
}

// timePlots draws each group of series, one plot for each unit in it.
func timePlots(r *Report, points int) []plot {
	var out []plot
	rest := slices.Clone(r.Series)
	draw := func(title, help string, pick func(measure.Series) bool) {
		for _, same := range byUnit(take(&rest, pick)) {
			t := timeline{title: title, help: help, series: same, end: runEnd(r), points: points, marks: r.Marks}
			switch same[0].Group {
			case measure.GroupCPU, measure.GroupMemory, measure.GroupDisk, measure.GroupFiles:
				t.colourOf = byProcess()
			case measure.GroupRate:
				t.violations = r.Violations
			}
			out = append(out, t.plot())
		}
	}
	for _, g := range timeGroups {
		draw(g.title, g.help, func(s measure.Series) bool { return s.Group == g.group })
	}
	for len(rest) > 0 {
		first := rest[0].Group
		title := first
		if title == "" {
			title = rest[0].Name
		}
		draw(title, "", func(s measure.Series) bool { return s.Group == first })
	}
	return out
}

// take moves what is picked out of the list. Series without points are dropped.
func take(from *[]measure.Series, pick func(measure.Series) bool) []measure.Series {
	var taken, left []measure.Series
	for _, s := range *from {
		switch {
		case !pick(s):
			left = append(left, s)
		case len(s.At) > 0:
			taken = append(taken, s)
		}
	}
	*from = left
	return taken
}

func byUnit(all []measure.Series) [][]measure.Series {
	var out [][]measure.Series
	for _, s := range all {
		i := slices.IndexFunc(out, func(o []measure.Series) bool { return o[0].Unit == s.Unit })
		if i < 0 {
			i, out = len(out), append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

func latencyPlots(ls []Latency) ([]plot, error) {
	var hs []named
	for _, l := range ls {
		h, err := measure.DecodeHistogram(l.HDR)
		if err != nil {
			return nil, fmt.Errorf("latency %q: %w", l.Name, err)
		}
		if h.Count() > 0 {
			hs = append(hs, named{l.Name, h})
		}
	}
	var out []plot
	for some := range slices.Chunk(hs, curvesEach) {
		out = append(out, spread("Histogram", some), percentiles("Percentiles", some))
	}
	return out, nil
}

// carrierPlots are small multiples: one a carrier, all with the same time axis.
// Each has its own height: carriers differ by factors of a thousand.
func carrierPlots(r *Report, points int) []plot {
	var out []plot
	end := runEnd(r)
	for _, c := range r.Carriers {
		if !slices.ContainsFunc(c.Series, func(s measure.Series) bool { return len(s.At) > 0 }) {
			continue
		}
		t := timeline{title: c.Name, series: c.Series, end: end, points: points, small: true, marks: r.Marks, colourOf: carrierColour}
		for _, v := range r.Violations {
			if v.Carrier == c.Name {
				t.violations = append(t.violations, v)
			}
		}
		out = append(out, t.plot())
	}
	return out
}

// carrierColour is the same for the same thing in all the small plots.
func carrierColour(i int, name string) (colour, dash int) {
	switch name {
	case SeriesDelivered:
		return 0, 0
	case SeriesAllowed:
		return 2, 1
	case SeriesOffered:
		return 1, 2
	}
	return (i + 3) % colours, 3
}

// method says on what and how was measured.
func method(r *Report) []fact {
	m := r.Machine
	cores := fmt.Sprintf("%d × %s", m.Cores, m.CPU)
	if m.Virtual {
		cores += ", virtual"
	}
	if m.Quota > 0 {
		cores += ", limited to " + number(m.Quota) + " cores"
	}
	memory := withUnit(float64(m.Memory), "bytes")
	if m.MemoryLimit > 0 {
		memory += ", limited to " + withUnit(float64(m.MemoryLimit), "bytes")
	}
	out := []fact{
		{"processors", cores}, {"memory", memory}, {"kernel", strings.TrimSpace(m.Kernel + " " + m.Arch)}, {"system", m.OS},
		{"disk", strings.Join(nonEmpty(m.Device, m.FileSystem, m.Mount, m.WriteCache), ", ")},
		{"load at start", fmt.Sprintf("%.2f, %.2f, %.2f", m.Load[0], m.Load[1], m.Load[2])},
	}
	if d := r.Disk; d.Count > 0 {
		out = append(out, fact{"disk sync", fmt.Sprintf("p50 %s, p90 %s, p99 %s, max %s (write of %d bytes and fdatasync, %d times)",
			duration(d.P50), duration(d.P90), duration(d.P99), duration(d.Max), d.Bytes, d.Count)})
	}
	for _, part := range []struct {
		name string
		from map[string]string
	}{{"mode", r.Mode}, {"flag", r.Flags}, {"version", r.Versions}} {
		for _, k := range slices.Sorted(maps.Keys(part.from)) {
			out = append(out, fact{part.name + " " + k, part.from[k]})
		}
	}
	return slices.DeleteFunc(out, func(f fact) bool { return f.Text == "" })
}

func nonEmpty(s ...string) []string {
	return slices.DeleteFunc(s, func(s string) bool { return s == "" })
}

// WidestY is the longest label of the y axis: it makes room for all of them.
func (p plot) WidestY() string {
	widest := ""
	for _, t := range p.YTicks {
		if len([]rune(t.Label)) > len([]rune(widest)) {
			widest = t.Label
		}
	}
	return widest
}

// Grid is the path of the lines at the ticks, and of both axes.
func (p plot) Grid() string {
	b := []byte("M0 0V10000H10000")
	for _, t := range p.XTicks {
		b = append(coordinate(append(b, 'M'), t.Pos/100), " 0V10000"...)
	}
	for _, t := range p.YTicks {
		b = append(coordinate(append(b, "M0 "...), 1-t.Pos/100), "H10000"...)
	}
	return string(b)
}

// Spoken says the plot in words, for those who do not see it.
func (p plot) Spoken() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %s", p.Title, p.YTitle)
	for _, l := range p.Lines {
		fmt.Fprintf(&s, "; %s %s", l.Name, l.Stats)
	}
	return s.String()
}
