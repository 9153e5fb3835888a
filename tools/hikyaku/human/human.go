package human

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// Span is a duration for people: 850µs, 12ms, 3.2s, 3m12s, 2h05m, 3d4h.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second && d%time.Second != 0:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Since is the span from a time to now; "" for no time.
func Since(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return Span(max(0, time.Since(*t)))
}

// Until is the span from now to a time; "" for no time, "now" for one that has
// passed.
func Until(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	if d := time.Until(*t); d > 0 {
		return Span(d)
	}
	return "now"
}

// Stamp is a moment for people, in local time.
func Stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// Size is bytes for people.
func Size[N ~int | ~int64 | ~uint64](n N) string {
	v, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", uint64(n))
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}

// PerSecond is a rate for people.
func PerSecond(v float64) string {
	switch {
	case v == 0:
		return "0/s"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + "/s"
}

// Number is a count without its noun.
func Number(n int64) string { return strconv.FormatInt(n, 10) }

// ReplyText is a reply with the phase or fault it came in.
func ReplyText(r *message.Reply) string {
	if r == nil || r.Code == 0 {
		return ""
	}
	where := r.Phase.String()
	if f := r.Fault.String(); f != "" {
		where = strings.TrimSpace(where + " " + f)
	}
	if where == "" {
		return r.String()
	}
	return r.String() + " (" + where + ")"
}

// Clean makes text from elsewhere harmless on a terminal: control bytes but
// newline and tab are shown as \xNN.
func Clean(s string) string {
	bad := func(r rune) bool { return (r < 0x20 && r != '\n' && r != '\t') || (r >= 0x7f && r < 0xa0) }
	if strings.IndexFunc(s, bad) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if bad(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Count is "1 delivery", "2 deliveries".
func Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// YesNo is a truth in a word.
func YesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
