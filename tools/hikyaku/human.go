package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	nodeclient "hikyaku/node/api/client"
	"hikyaku/spool/message"
)

// node is the way to the node's half of the admin API.
func (c *cli) node() (*nodeclient.Client, error) {
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return nodeclient.New(cl), nil
}

// span is a duration for people: 850µs, 12ms, 3.2s, 3m12s, 2h05m, 3d4h.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
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

// since and until are spans from and to now; "" for no time, "now" for a time
// to come that has passed.
func since(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return span(max(0, time.Since(*t)))
}

func until(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	if d := time.Until(*t); d > 0 {
		return span(d)
	}
	return "now"
}

// stamp is a moment for people, in local time.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// size is bytes for people.
func size[N ~int | ~int64 | ~uint64](n N) string {
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

// perSecond is a rate for people.
func perSecond(v float64) string {
	switch {
	case v == 0:
		return "0/s"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + "/s"
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + "/s"
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// scopeFlags adds the flags that pick deliveries.
func scopeFlags(cmd *cobra.Command, s *api.Scope) {
	f := cmd.Flags()
	f.StringVar(&s.Destination, "destination", "", "recipient domain")
	f.StringVar(&s.Tenant, "tenant", "", "tenant")
	f.StringVar(&s.Stream, "stream", "", "stream")
	f.StringVar(&s.Pool, "pool", "", "pool")
	f.StringVar(&s.Job, "job", "", "job")
	f.StringVar(&s.Carrier, "carrier", "", "carrier")
	f.StringVar(&s.Source, "source", "", "source")
}

// destinationArg takes a destination given as an argument into the scope.
func destinationArg(s *api.Scope, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if s.Destination != "" {
		return usageError("the destination is given twice: %q and --destination %q", args[0], s.Destination)
	}
	s.Destination = args[0]
	return nil
}

// durationFlag adds a span of time written as everywhere else in the product:
// 30m, 2d, 1h30m.
func durationFlag(cmd *cobra.Command, d *policy.Duration, name string, def time.Duration, usage string) {
	cmd.Flags().TextVar(d, name, policy.Duration(def), usage)
}

// scopeText names a scope for people.
func scopeText(s api.Scope) string {
	var parts []string
	for _, p := range []struct{ name, v string }{
		{"destination", s.Destination}, {"tenant", s.Tenant}, {"stream", s.Stream}, {"pool", s.Pool},
		{"job", s.Job}, {"carrier", s.Carrier}, {"source", s.Source},
	} {
		if p.v != "" {
			parts = append(parts, p.name+" "+p.v)
		}
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, ", ")
}

// when reads a moment: a span back from now (2h, 3d) or an RFC 3339 time.
func when(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	var d policy.Duration
	if err := d.UnmarshalText([]byte(s)); err != nil {
		return time.Time{}, usageError("--%s %q: want a span back from now, as in 2h or 3d, or a time as in 2026-11-22T10:15:00Z", flag, s)
	}
	return now.Add(-d.D()), nil
}

// hint adds what to do about an error.
func hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\nhint: %s", err, fmt.Sprintf(format, args...))
}

// notFound reports whether the server said 404.
func notFound(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// confirm asks on a terminal before something that cannot be undone. Without a
// terminal there is nobody to ask: a script has said what it wants.
func (c *cli) confirm(question string) error {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return askYes(c.in, c.err, question)
}

// askYes takes nothing but yes for yes.
func askYes(in io.Reader, out io.Writer, question string) error {
	if _, err := fmt.Fprintf(out, "%s Type yes to go on: ", question); err != nil {
		return err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != "yes" {
		return errors.New("not confirmed, nothing was changed")
	}
	return nil
}

// replyText is a reply with the phase or fault it came in.
func replyText(r *message.Reply) string {
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

// state paints a state.
func (c *cli) state(s string) string { return c.paint(s, stateColor(s)) }

// stateColor is green for good, red for the end, yellow for waiting.
func stateColor(s string) color {
	switch s {
	case "delivered", "active", "accepted", "released", "healthy", "recover", "release":
		return green
	case "bounced", "expired", "cancelled", "suppressed", "rejected", "blocked", "retired", "block", "retire":
		return red
	case "deferred", "held", "paused", "resting", "slowed", "probation", "rest", "slow", "hold":
		return yellow
	}
	return "0"
}
