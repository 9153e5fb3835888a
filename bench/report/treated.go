package report

import (
	"slices"
	"strconv"
	"time"

	"hikyaku/bench/measure"
)

// Treated is a carrier, or all together, that was treated in several ways over
// the same simulated time.
type Treated struct {
	Carrier string      `json:"carrier"`
	Model   string      `json:"model,omitempty"` // in words: what it is shaped after
	Rows    []Treatment `json:"rows"`            // in the same order at every carrier
	// Series are what was sent in each way, named as its row, and SeriesAllowed.
	Series []measure.Series `json:"series,omitempty"`
}

// Treatment is what came of one way to treat a carrier.
type Treatment struct {
	Name        string `json:"name"`
	Deliverable int64  `json:"deliverable"` // recipients who exist and take mail
	Delivered   int64  `json:"delivered"`   // of them
	// OfBest is the part of what was delivered in the best way there is, by who
	// knows all limits; 0 where nobody does.
	OfBest     float64       `json:"of_best,omitempty"`
	Within     time.Duration `json:"within_ns"` // in which 95 % of them had been delivered; 0: never, negative: not measured
	Attempts   int64         `json:"attempts"`
	Violations int64         `json:"violations"`
	Blocks     int64         `json:"blocks"`
	BlockedFor time.Duration `json:"blocked_ns"`
	Reputation float64       `json:"reputation"`         // 0 to 100
	Suppressed int64         `json:"suppressed"`         // negative: not measured
	Wrong      int64         `json:"wrongly_suppressed"` // likewise
}

// treatedHead is the head of the table, on the page and in text.
var treatedHead = []string{"delivered", "of the best", "95 % within", "attempts", "violations", "blocks", "blocked for", "reputation", "suppressed", "wrongly"}

// Cells are the row as text.
func (t Treatment) Cells() []string {
	part := func(p float64) string { return strconv.FormatFloat(100*p, 'f', 1, 64) + " %" }
	count := func(n int64) string {
		if n < 0 {
			return "-"
		}
		return group(strconv.FormatInt(n, 10))
	}
	share, best, within := "-", "-", "never"
	if t.Deliverable > 0 {
		share = part(float64(t.Delivered) / float64(t.Deliverable))
	}
	if t.OfBest > 0 {
		best = part(t.OfBest)
	}
	switch {
	case t.Within > 0:
		within = clock(t.Within.Seconds())
	case t.Within < 0:
		within = "-"
	}
	return []string{
		share, best, within, count(t.Attempts), count(t.Violations), count(t.Blocks), clock(t.BlockedFor.Seconds()),
		strconv.FormatFloat(t.Reputation, 'f', 0, 64), count(t.Suppressed), count(t.Wrong),
	}
}

func (b *printer) printTreated(r *Report) {
	if len(r.Treated) == 0 {
		return
	}
	b.row("\ncarriers, treated in each way")
	rows := [][]string{append([]string{"", ""}, rightward(treatedHead)...)}
	for _, c := range r.Treated {
		for i, t := range c.Rows {
			name := ""
			if i == 0 {
				name = c.Carrier
			}
			rows = append(rows, append([]string{name, t.Name}, rightward(t.Cells())...))
		}
	}
	b.table(rows)
}

func rightward(cells []string) []string {
	out := slices.Clone(cells)
	for i := range out {
		out[i] = ">" + out[i]
	}
	return out
}

// treatedPlots are small multiples: what was sent in each way, against what was
// allowed.
func treatedPlots(r *Report, points int) []plot {
	var out []plot
	for _, c := range r.Treated {
		if !slices.ContainsFunc(c.Series, func(s measure.Series) bool { return len(s.At) > 0 }) {
			continue
		}
		end := 0.0
		for _, s := range c.Series {
			if n := len(s.At); n > 0 {
				end = max(end, s.At[n-1])
			}
		}
		out = append(out, timeline{title: c.Carrier, series: c.Series, end: end, points: points, small: true, colourOf: treatedColour}.plot())
	}
	return out
}

// treatedColour draws what is allowed as the plots of carriers do, and the ways
// in colours that are easy to tell apart.
func treatedColour(i int, name string) (colour, dash int) {
	if name == SeriesAllowed {
		return 2, 1
	}
	return []int{1, 3, 0, 7, 4, 5, 6}[max(0, i-1)%7], 0
}
