package live

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Colours of a terminal, by their numbers (ECMA-48 SGR).
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
)

// piece is a part of a line: text and how it is painted.
type piece struct{ text, colour string }

// line joins pieces up to the width, in cells. Every rune that is written here
// is one cell wide: what comes from outside is made so by clean.
func (v *View) line(width int, pieces ...piece) string {
	var b strings.Builder
	for _, p := range pieces {
		text := p.text
		if n := utf8.RuneCountInString(text); n > width {
			text = string([]rune(text)[:max(width, 0)])
		}
		width -= utf8.RuneCountInString(text)
		if v.colour && p.colour != "" && text != "" {
			text = "\x1b[" + p.colour + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return b.String()
}

// clean keeps text to one line of runes that are one cell wide: neither control
// characters nor marks that join, and nothing of the wide East Asian blocks.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) || r >= 0x1100 && r != '…' && (r < 0x2000 || r > 0x2bff) {
			return '?'
		}
		return r
	}, s)
}

// draw is the state as lines that fit into the width.
func (v *View) draw(s State, width int) []string {
	width = max(width-1, 1) // in the last column some terminals wrap at once
	lines := []string{v.line(width, piece{clean(s.Phase), bold}, piece{"  " + clock(s.Elapsed), faint}, piece{errorsText(s.Errors), red})}
	if s.Total > 0 {
		lines = append(lines, v.bar(s, width))
	} else {
		lines = append(lines, v.line(width, piece{count(s.Done) + " done", ""}, piece{left(s), faint}))
	}
	facts := []string{"in " + rate(s.InRate), "out " + rate(s.OutRate), "queue " + count(s.Queue), "p50 " + short(s.P50), "p99 " + short(s.P99)}
	for _, l := range wrap(facts, width) {
		lines = append(lines, v.line(width, piece{l, ""}))
	}
	if len(v.out) > 1 {
		lines = append(lines, v.line(width, piece{"out ", faint}, piece{sparkline(v.out, width-4), green}))
	}
	if s.Note != "" {
		lines = append(lines, v.line(width, piece{clean(s.Note), faint}))
	}
	return lines
}

// bar is "████▌     42 %  1,234 of 5,678  0:12 left", as much of it as fits.
func (v *View) bar(s State, width int) string {
	share := min(max(float64(s.Done)/float64(s.Total), 0), 1)
	percent := fmt.Sprintf(" %3d %%", int(math.Floor(share*100)))
	texts := []string{"  " + count(s.Done) + " of " + count(s.Total), left(s)}
	const least = 10
	room := width - utf8.RuneCountInString(percent)
	rest := ""
	for _, t := range []string{texts[1], texts[0]} { // the time left matters more
		if n := utf8.RuneCountInString(t); room-n >= least {
			room -= n
			if t == texts[0] {
				rest = t + rest
			} else {
				rest += t
			}
		}
	}
	room = min(room, 50)
	return v.line(width, piece{blocks(share, room), green}, piece{percent, bold}, piece{rest, faint})
}

// blocks is a bar of eighths.
func blocks(share float64, width int) string {
	width = max(width, 0)
	eighths := int(math.Round(share * float64(width*8)))
	whole := eighths / 8
	b := strings.Repeat("█", whole)
	if part := eighths % 8; part > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[part-1])
		whole++
	}
	return b + strings.Repeat("·", width-whole)
}

// wrap puts the facts into as few lines as the width allows.
func wrap(facts []string, width int) []string {
	var lines []string
	for _, f := range facts {
		n := len(lines)
		if n > 0 && utf8.RuneCountInString(lines[n-1])+3+utf8.RuneCountInString(f) <= width {
			lines[n-1] += "   " + f
		} else {
			lines = append(lines, f)
		}
	}
	return lines
}

// sparkline draws the last values, the largest of them full height.
func sparkline(h []float64, width int) string {
	h = h[max(0, len(h)-max(width, 0)):]
	top := 0.0
	for _, x := range h {
		top = max(top, x)
	}
	steps := []rune("▁▂▃▄▅▆▇█")
	out := make([]rune, len(h))
	for i, x := range h {
		k := 0
		if top > 0 {
			k = min(max(int(x/top*float64(len(steps))), 0), len(steps)-1)
		}
		out[i] = steps[k]
	}
	return string(out)
}

// plain is the state as one line without colour or control, for files.
func plain(s State) string {
	done := count(s.Done) + " done"
	if s.Total > 0 {
		done = fmt.Sprintf("%s of %s (%.0f %%)", count(s.Done), count(s.Total), math.Floor(100*min(float64(s.Done)/float64(s.Total), 1)))
	}
	text := fmt.Sprintf("%s %s: %s, in %s, out %s, queue %s, p50 %s, p99 %s, errors %s", clock(s.Elapsed), clean(s.Phase), done,
		rate(s.InRate), rate(s.OutRate), count(s.Queue), short(s.P50), short(s.P99), count(s.Errors))
	if s.Note != "" {
		text += ", " + clean(s.Note)
	}
	return text
}

func errorsText(n int64) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "  1 error"
	}
	return "  " + count(n) + " errors"
}

// left is how long it will take still: what is said, or at the pace so far.
func left(s State) string {
	d := s.Left
	if d <= 0 && s.Done > 0 && s.Done < s.Total && s.Elapsed > 0 {
		// A float, because done times a long time overflows.
		d = time.Duration(min(float64(s.Elapsed)*float64(s.Total-s.Done)/float64(s.Done), float64(1000*time.Hour)))
	}
	if d <= 0 {
		return ""
	}
	return "  " + clock(d+time.Second-1) + " left"
}

func clock(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func rate(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "?"
	case v > 0 && v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
	}
	return count(int64(math.Round(v))) + "/s"
}

// short is a duration in three digits.
func short(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return strconv.FormatFloat(d.Seconds()*1000, 'g', 3, 64) + " ms"
	case d < 1000*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'g', 3, 64) + " s"
	}
	return clock(d)
}
