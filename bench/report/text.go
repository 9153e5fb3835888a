package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Print writes the report as aligned text: verdicts, figures, processes,
// latencies, carriers, ledger and notes. Series are left to the page.
func (r *Report) Print(w io.Writer) error {
	b := &printer{}
	b.row("%s (%s form), started %s, took %s, seed %d", clean(r.Scenario), r.Form, r.Started.Format("2006-01-02 15:04:05 -0700"), duration(r.Took), r.Seed)
	for _, v := range badges(r) {
		b.row("  %s", v.Text)
	}
	b.printFigures(r)
	b.printProcesses(r)
	b.printLatencies(r)
	b.printCarriers(r)
	b.printTreated(r)
	b.printTrends(r)
	b.printLedger(r.Ledger)
	if len(r.Notes) > 0 {
		b.row("\nwhat these figures do not say")
		for _, n := range r.Notes {
			b.row("  - %s", clean(n))
		}
	}
	_, err := io.WriteString(w, b.text.String())
	if err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

// printer collects tables. Cells of a table are parted by tabs; a cell that
// begins with > is aligned to the right.
type printer struct{ text strings.Builder }

func (b *printer) row(format string, args ...any) { fmt.Fprintf(&b.text, format+"\n", args...) }

// table writes rows under a title. Columns of numbers are aligned to the right
// by hand, because a tabwriter aligns all columns or none.
func (b *printer) table(rows [][]string) {
	width := map[int]int{}
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	tw := tabwriter.NewWriter(&b.text, 0, 1, 2, ' ', 0)
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			if text, right := strings.CutPrefix(c, ">"); right {
				c = strings.Repeat(" ", max(0, width[i]-len([]rune(c)))) + text
			}
			cells[i] = clean(c)
		}
		fmt.Fprintln(tw, strings.TrimRight("  "+strings.Join(cells, "\t"), " \t"))
	}
	_ = tw.Flush() // into memory
}

// clean replaces what could move the cursor of a terminal: names in a report
// may come from anywhere.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, s)
}

func (b *printer) printFigures(r *Report) {
	if len(r.Figures) == 0 {
		return
	}
	b.row("\nfigures")
	var rows [][]string
	for _, f := range r.Figures {
		v, verdict := withUnit(f.Value, f.Unit), f.Judge()
		if f.Without != "" {
			v, verdict = "-", verdict+": "+f.Without
		}
		if n := len(f.Runs); n > 1 {
			verdict = strings.TrimSpace(fmt.Sprintf("%s  %d rounds, %s to %s", verdict, n, number(least(f.Runs)), number(most(f.Runs))))
		}
		rows = append(rows, []string{f.Name, ">" + v, ">" + targetText(f), verdict})
	}
	b.table(rows)
}

func (b *printer) printProcesses(r *Report) {
	if len(r.Processes) == 0 {
		return
	}
	b.row("\nprocesses")
	rows := [][]string{{"", ">CPU a message", ">user", ">system", ">peak memory", ">written", ">a message byte"}}
	for _, p := range r.Processes {
		each, user, system := "-", duration(p.User), duration(p.System)
		if p.Messages > 0 {
			each, user, system = duration(p.Each()), duration(p.UserEach), duration(p.SystemEach)
		}
		wrote, perByte := "unknown", ""
		if p.IOKnown {
			wrote = withUnit(float64(p.Wrote), "bytes")
		}
		if p.WrotePerByte > 0 {
			perByte = number(p.WrotePerByte)
		}
		rows = append(rows, []string{p.Name, ">" + each, ">" + user, ">" + system, ">" + withUnit(float64(p.PeakRSS), "bytes"), ">" + wrote, ">" + perByte})
	}
	b.table(rows)
}

func (b *printer) printLatencies(r *Report) {
	if len(r.Latencies) == 0 {
		return
	}
	b.row("\nlatency")
	rows := [][]string{{"", ">count", ">p50", ">p90", ">p99", ">p99.9", ">max"}}
	for _, l := range r.Latencies {
		rows = append(rows, []string{l.Name, ">" + group(strconv.FormatUint(l.Count, 10)), ">" + duration(l.P50), ">" + duration(l.P90), ">" + duration(l.P99), ">" + duration(l.P999), ">" + duration(l.Max)})
	}
	b.table(rows)
}

func (b *printer) printCarriers(r *Report) {
	if len(r.Carriers) == 0 {
		return
	}
	b.row("\ncarriers (simulated: models, not measurements)")
	count := func(n int64) string { return ">" + group(strconv.FormatInt(n, 10)) }
	rows := [][]string{{"", ">offered", ">allowed", ">delivered", ">of allowed", ">deferred", ">refused", ">violations"}}
	for _, c := range r.Carriers {
		allowed := count(c.Allowed)
		if c.Unlimited {
			allowed = ">no limit"
		}
		rows = append(rows, []string{c.Name, count(c.Offered), allowed, count(c.Delivered), ">" + shareOf(c), count(c.Deferred), count(c.Refused), count(c.Broken)})
	}
	b.table(rows)
	for i, v := range r.Violations[:min(len(r.Violations), 10)] {
		if i == 0 {
			b.row("\nviolations: %d, the first of them", r.ViolationCount)
		}
		b.row("  %s %s from %s: %s, %d allowed, %d seen", clock(v.At), clean(v.Carrier), clean(v.Source), clean(v.Limit), v.Allowed, v.Seen)
	}
}

func (b *printer) printTrends(r *Report) {
	if len(r.Trends) > 0 {
		b.row("\ntrends (95 %%)")
	}
	for _, t := range r.Trends {
		verdict := "no growth beyond chance"
		if t.Grows() {
			verdict = "grows"
		}
		b.row("  %s: %s", clean(t.String()), verdict)
	}
}

func (b *printer) printLedger(l *Ledger) {
	if l == nil {
		return
	}
	b.row("\nledger, recipients")
	var rows [][]string
	for _, r := range l.Rows {
		note := ""
		if r.Fault && r.Count > 0 {
			note = "must be 0: " + idsText(r.IDs, r.Count)
		}
		rows = append(rows, []string{r.Name, ">" + group(strconv.Itoa(r.Count)), note})
	}
	b.table(rows)
	if l.Balanced {
		b.row("  balanced")
	}
	for _, why := range l.Reasons {
		b.row("  not balanced: %s", clean(why))
	}
}
