package reputation

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// columns are those of the table, in their order.
var columns = [...]string{"delivered", "of the oracle's", "95 % within", "attempts", "violations", "blocks", "blocked for", "reputation", "suppressed", "wrongly"}

// cells are a row of the table; of is the oracle's account, or nil.
func (a *Account) cells(of *Account) []string {
	share := "-"
	if of != nil && of.Delivered > 0 {
		share = percent(float64(a.Delivered) / float64(of.Delivered))
	}
	within := "never"
	if a.Within > 0 {
		within = hours(a.Within)
	}
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	return []string{
		percent(a.Share()), share, within, count(a.Attempts), count(a.Violations), count(a.Blocks), hours(a.BlockedFor),
		strconv.FormatFloat(a.Reputation, 'f', 0, 64), count(a.Suppressed), count(a.Wrong),
	}
}

func percent(part float64) string { return strconv.FormatFloat(100*part, 'f', 1, 64) + " %" }

// hours is a span as h:mm.
func hours(d time.Duration) string {
	m := int(d.Round(time.Minute) / time.Minute)
	return fmt.Sprintf("%d:%02d", m/60, m%60)
}

// Print writes the comparison as a table: all carriers together, then each.
func (r *Result) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "a day of %d messages, %d sources, %s from %s, seed %d\n", r.Options.Messages, r.Options.Sources, r.Options.Span, r.Start.Format("15:04"), r.Options.Seed)
	fmt.Fprintf(&b, "\n%-14s%-20s", "carrier", "treated with")
	for _, c := range columns {
		fmt.Fprintf(&b, "%*s", max(11, len(c)+2), c)
	}
	b.WriteByte('\n')
	oracle := r.Of(Oracle)
	for i := -1; i < len(r.Runs[0].Carriers); i++ {
		for n, run := range r.Runs {
			a, of := run.Total, (*Account)(nil)
			if oracle != nil {
				of = oracle.Total
			}
			if i >= 0 {
				a = run.Carriers[i]
				if oracle != nil {
					of = oracle.Carriers[i]
				}
			}
			name := ""
			if n == 0 {
				name = a.Carrier
			}
			fmt.Fprintf(&b, "%-14s%-20s", name, run.Mind)
			for c, text := range a.cells(of) {
				fmt.Fprintf(&b, "%*s", max(11, len(columns[c])+2), text)
			}
			b.WriteByte('\n')
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print comparison: %w", err)
	}
	return nil
}

// Verdict is the comparison with what is asked for.
type Verdict struct {
	Delivered float64 // ours, as a part of what the oracle delivered
	Blocks    float64 // ours, as a part of those that text rules suffered
	Wrong     int64   // recipients that ours suppressed wrongly
}

// The targets.
const (
	LeastDelivered = 0.95
	MostBlocks     = 0.05
)

// Judge compares a mind with the oracle and with text rules. Without blocks of
// the text rules, each of the mind's own counts as all of them.
func (r *Result) Judge(mind string) (v Verdict, ok bool) {
	m, o, t := r.Of(mind), r.Of(Oracle), r.Of(TextRules)
	if m == nil || o == nil || t == nil || o.Total.Delivered == 0 {
		return v, false
	}
	return Verdict{
		Delivered: float64(m.Total.Delivered) / float64(o.Total.Delivered),
		Blocks:    float64(m.Total.Blocks) / float64(max(1, t.Total.Blocks)),
		Wrong:     m.Total.Wrong,
	}, true
}

// Met reports whether the verdict is within the targets.
func (v Verdict) Met() bool {
	return v.Delivered >= LeastDelivered && v.Blocks < MostBlocks && v.Wrong == 0
}
