package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/policy"
)

// WantArgs is cobra's argument check with an error that says what was wanted.
func WantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		return UsageError("%q takes %s, not %d\nUsage: %s", cmd.CommandPath(), argCount(least, most), len(args), cmd.UseLine())
	}
}

func argCount(least, most int) string {
	noun := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return fmt.Sprintf("%d arguments", n)
	}
	switch {
	case least == most && least == 0:
		return "no arguments"
	case least == most:
		return noun(least)
	case most < 0:
		return "at least " + noun(least)
	}
	return fmt.Sprintf("%d to %s", least, noun(most))
}

// DurationFlag adds a span of time written as everywhere else in the product:
// 30m, 2d, 1h30m.
func DurationFlag(cmd *cobra.Command, d *policy.Duration, name string, def time.Duration, usage string) {
	cmd.Flags().TextVar(d, name, policy.Duration(def), usage)
}

// When reads a moment: a span back from now (2h, 3d) or an RFC 3339 time.
func When(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	var d policy.Duration
	if err := d.UnmarshalText([]byte(s)); err != nil {
		return time.Time{}, UsageError("--%s %q: want a span back from now, as in 2h or 3d, or a time as in 2026-11-22T10:15:00Z", flag, s)
	}
	return now.Add(-d.D()), nil
}
