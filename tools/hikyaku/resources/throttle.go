package resources

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// throttleFlags are the flags of throttle.
type throttleFlags struct {
	policyapi.ThrottleRequest
	lasts policy.Duration
	until string
	clear bool
	waiting
}

func (f *throttleFlags) sets() bool {
	return f.Rate != "" || f.PerDay != 0 || f.Connections != 0 || f.ConnectionRate != ""
}

func newThrottleCmd(c *cli.Call) *cobra.Command {
	var f throttleFlags
	cmd := &cobra.Command{
		Use:   "throttle CARRIER",
		Short: "Give a carrier other limits for a while; show or clear them",
		Long: `Without a limit, show what limits the carrier now. With one, set a throttle: it
takes the place of the carrier's own limits that it names, lower or higher, until
it ends or is cleared. A second one on the same scope replaces the first whole.

--pool, --source or --tenant narrow it. The carrier "default" is all mail that
belongs to no other.`,
		Example: `  hikyaku throttle docomo --rate 50/s --for 2h --reason "complaints" --wait
  hikyaku throttle docomo --pool bulk --connections 4
  hikyaku throttle docomo --rate 0/s --until 2026-11-22T18:00:00+09:00
  hikyaku throttle docomo --clear`,
		GroupID: cli.GroupPolicy,
		Args:    cli.WantArgs(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return throttle(c, cmd, args[0], &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Rate, "rate", "", "messages, as in 50/s or 3000/h,burst=10; 0/s stops them")
	fl.Int64Var(&f.PerDay, "per-day", 0, "messages in any 24 hours")
	fl.IntVar(&f.Connections, "connections", 0, "open connections")
	fl.StringVar(&f.ConnectionRate, "connection-rate", "", "new connections, as in 100/m")
	fl.StringVar(&f.Pool, "pool", "", "only the sources of this pool, together")
	fl.StringVar(&f.Source, "source", "", "only this source")
	fl.StringVar(&f.Tenant, "tenant", "", "only what this tenant sends there")
	cli.DurationFlag(cmd, &f.lasts, "for", 0, "end by itself after this `time`, as in 2h or 1d")
	fl.StringVar(&f.until, "until", "", "end by itself at this time, as in 2026-11-22T18:00:00+09:00 or 18:00")
	fl.BoolVar(&f.clear, "clear", false, "end the throttle")
	fl.StringVar(&f.Reason, "reason", "", "why, for the history and whoever sees it")
	fl.BoolVar(&f.DryRun, "dry-run", false, "say what would happen and change nothing")
	f.flags(cmd)
	return cmd
}

func throttle(c *cli.Call, cmd *cobra.Command, carrier string, f *throttleFlags) error {
	p, err := c.Policy()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	on := policyapi.Narrow{Pool: f.Pool, Source: f.Source, Tenant: f.Tenant}
	var r *policyapi.ThrottleChange
	switch {
	case f.clear && (f.sets() || f.lasts != 0 || f.until != ""):
		return cli.UsageError("--clear goes without limits and times")
	case f.clear:
		r, err = p.ClearThrottle(ctx, carrier, on, f.Reason, f.DryRun)
		if cli.NotFound(err) {
			return cli.Hint(err, "\"hikyaku throttle %s\" shows the throttles of the carrier; --pool, --source and --tenant must be given as they were set", carrier)
		}
	case !f.sets():
		if on != (policyapi.Narrow{}) || f.lasts != 0 || f.until != "" || f.Reason != "" {
			return cli.UsageError("throttle to what? Give --rate, --per-day, --connections or --connection-rate, or --clear")
		}
		v, err := p.Throttles(ctx, carrier)
		return showThrottles(c, v, err)
	default:
		if err := f.times(time.Now()); err != nil {
			return err
		}
		r, err = p.Throttle(ctx, carrier, &f.ThrottleRequest)
	}
	if err != nil {
		return err
	}
	if err := c.Print(r, func(w io.Writer) error { return showThrottled(c, w, r) }); err != nil {
		return err
	}
	return applied(ctx, c, &f.waiting, r.Revision, r.DryRun)
}

// times reads --for and --until.
func (f *throttleFlags) times(now time.Time) error {
	if f.lasts != 0 {
		f.For = f.lasts.String()
	}
	if f.until == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, f.until)
	if err != nil {
		clock, cerr := time.ParseInLocation("15:04", f.until, time.Local)
		if cerr != nil {
			return cli.UsageError("--until %q: want a time of day as in 18:00, or a time as in 2026-11-22T18:00:00+09:00", f.until)
		}
		at = time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, time.Local)
		if !at.After(now) {
			at = at.AddDate(0, 0, 1)
		}
	}
	f.Expires = at.Format(time.RFC3339)
	return nil
}

func showThrottled(c *cli.Call, w io.Writer, r *policyapi.ThrottleChange) error {
	for _, e := range r.Effects {
		fmt.Fprintf(w, "%s  %s/%s\n", e.Action, human.Clean(e.Kind), human.Clean(e.Name))
	}
	if r.DryRun {
		_, err := fmt.Fprintf(w, "nothing was changed (dry run); the policy is at revision %d\n", r.Revision)
		return err
	}
	if t := r.Throttle; t != nil {
		fmt.Fprintf(w, "%s: %s, %s\n", human.Clean(t.On().String()), limitsText(t.Limits()), lasting(t.Expires))
	}
	_, err := fmt.Fprintf(w, "revision %d\n", r.Revision)
	return err
}

// lasting says until when.
func lasting(e policy.Instant) string {
	if e.IsZero() {
		return "until cleared"
	}
	return "until " + human.Stamp(e.Time())
}

// limitsText is limits on one line, "no limit" for none.
func limitsText(l policy.Limits) string {
	text := ""
	add := func(s string) {
		if text != "" {
			text += ", "
		}
		text += s
	}
	if l.Rate != nil {
		add(l.Rate.String())
	}
	if l.PerDay != 0 {
		add(fmt.Sprintf("%d a day", l.PerDay))
	}
	if l.Connections != 0 {
		add(human.Count(int64(l.Connections), "connection", "connections"))
	}
	if l.ConnectionRate != nil {
		add("new connections " + l.ConnectionRate.String())
	}
	return cmp.Or(text, "no limit")
}

func showThrottles(c *cli.Call, v *policyapi.CarrierThrottles, err error) error {
	if cli.NotFound(err) {
		return cli.Hint(err, "\"hikyaku get carriers\" lists those that policy names")
	}
	if err != nil {
		return err
	}
	return c.Print(v, func(w io.Writer) error {
		fmt.Fprintf(w, "carrier %s, over all sources: %s", human.Clean(v.Carrier), limitsText(v.Limits))
		if own := limitsText(v.Own); own != limitsText(v.Limits) {
			fmt.Fprintf(w, " (its own: %s)", own)
		}
		fmt.Fprintln(w)
		if len(v.Throttles) == 0 {
			_, err := fmt.Fprintln(w, "no throttle")
			return err
		}
		var rows [][]string
		for _, r := range v.Throttles {
			t, ok := r.Spec.(*policy.Throttle)
			if !ok {
				continue
			}
			at := t.Expires.Time()
			ends := human.Until(&at)
			if t.Expires.IsZero() {
				ends = "never"
			}
			rows = append(rows, []string{r.Name, t.On().String(), limitsText(t.Limits()), ends, human.Number(r.Revision), t.Reason})
		}
		return c.Table(w, []string{"NAME", "ON", "LIMITS", ">ENDS IN", ">REVISION", "WHY"}, rows)
	})
}
