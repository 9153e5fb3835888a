package reputation

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

func newDecisionsCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use: "decisions", Aliases: []string{"decision"}, GroupID: cli.GroupCluster,
		Short: "List what was decided about sources and tenants, and why; take a decision back",
		Long: `The control plane slows a source at a carrier that throttles it, lets it rest when
it is blocked, steps its warm-up, and holds the mail of a tenant that harms all.
Each such decision is recorded with what was seen, the rule, and how long it
holds. "hikyaku queue why" names the decision that keeps mail back.`,
	}
	ls := newDecisionsListCmd(c)
	cmd.RunE, cmd.Args = ls.RunE, cli.WantArgs(0, 0)
	cmd.Flags().AddFlagSet(ls.Flags())
	cmd.AddCommand(ls, newDecisionsShowCmd(c), newDecisionsUndoCmd(c), newDecisionsReplayCmd(c))
	return cmd
}

func newDecisionsListCmd(c *cli.Call) *cobra.Command {
	var f state.DecisionFilter
	var from string
	watch := false
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List decisions, newest first, or follow them", Args: cli.WantArgs(0, 0),
		Example: `  hikyaku decisions --carrier docomo --action block --since 2h
  hikyaku decisions --watch --limit 10`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if watch && f.Page != "" {
				return cli.UsageError("--watch is about what is new: it goes without --page")
			}
			if f.Since, err = cli.When("since", from, time.Now()); err != nil {
				return err
			}
			cl, err := c.Control()
			if err != nil {
				return err
			}
			ask := func(ctx context.Context, f state.DecisionFilter) (*api.DecisionList, error) {
				l, err := cl.Decisions(ctx, f)
				return l, c.NoControl(err)
			}
			if watch {
				return (&follow{c: c, ask: ask, f: f}).run(cmd.Context())
			}
			l, err := ask(cmd.Context(), f)
			if err != nil {
				return err
			}
			return c.Print(l, func(w io.Writer) error {
				if l.Unreadable > 0 {
					fmt.Fprintf(c.Err, "%s cannot be read and are left out\n", human.Count(int64(l.Unreadable), "decision", "decisions"))
				}
				if err := showDecisions(c, w, l.Decisions); err != nil || l.Next == "" {
					return err
				}
				fmt.Fprintf(c.Err, "there are older ones: --page %s\n", human.Clean(l.Next))
				return nil
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Carrier, "carrier", "", "only about this carrier")
	fl.StringVar(&f.Source, "source", "", "only about this source")
	fl.StringVar(&f.Tenant, "tenant", "", "only about this tenant")
	fl.StringVar(&f.Action, "action", "", "only these: slow, raise, rest, block, probation, recover, retire, warm-up-day, hold, release, undo, …")
	fl.StringVar(&from, "since", "", "from then on: a span back (2h, 3d) or a time")
	fl.IntVarP(&f.Limit, "limit", "n", 50, "how many")
	fl.StringVar(&f.Page, "page", "", "go on after this `id`")
	fl.BoolVar(&watch, "watch", false, "go on: print new ones as they come, oldest first, one a line, until Ctrl-C; with --json an object a line")
	return cmd
}

func showDecisions(c *cli.Call, w io.Writer, ds []state.Decision) error {
	if len(ds) == 0 {
		fmt.Fprintln(c.Err, "nothing was decided")
		return nil
	}
	var rows [][]string
	for i := range ds {
		d := &ds[i]
		rows = append(rows, []string{human.Stamp(d.At), c.State(actionText(d)), subject(d), change(d), untilText(d.Until), d.Rule, d.ID})
	}
	return c.Table(w, []string{"TIME", "ACTION", "ABOUT", "CHANGE", "UNTIL", "RULE", "ID"}, rows)
}

// actionText is what was done, and whether it still is so.
func actionText(d *state.Decision) string {
	switch {
	case d.DryRun:
		return d.Action + " (dry run)"
	case d.UndoneBy != "":
		return d.Action + " (undone)"
	}
	return d.Action
}

// subject is what a decision is about: "source s1 at docomo".
func subject(d *state.Decision) string {
	var parts []string
	add := func(word, name string) {
		if name != "" {
			parts = append(parts, word+" "+name)
		}
	}
	add("source", d.Source)
	add("tenant", d.Tenant)
	add("stream", d.Stream)
	add("job", d.Job)
	add("at", d.Carrier)
	add("site", d.Site)
	return strings.Join(parts, " ")
}

func change(d *state.Decision) string {
	if d.From == "" {
		return d.To
	}
	return d.From + " → " + d.To
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return human.Stamp(t)
}

func newDecisionsShowCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a decision: what was seen, the rule, some replies", Args: cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			d, err := cl.Decision(cmd.Context(), args[0])
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(d, func(w io.Writer) error { return showDecision(c, w, d) })
		},
	}
}

func showDecision(c *cli.Call, w io.Writer, d *state.Decision) error {
	rows := [][2]string{
		{"decision", d.ID}, {"at", human.Stamp(d.At)}, {"action", actionText(d)}, {"about", subject(d)}, {"change", change(d)}, {"until", untilText(d.Until)},
		{"rule", d.Rule}, {"why", d.Why},
	}
	for _, r := range d.Replies {
		rows = append(rows, [2]string{"reply", r})
	}
	if d.UndoneBy != "" {
		rows = append(rows, [2]string{"undone", "by " + d.UndoneBy + ", " + human.Stamp(d.UndoneAt)})
	}
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s%s\n", c.Paint(fmt.Sprintf("%-10s", r[0]), cli.Dim), human.Clean(r[1])); err != nil {
			return err
		}
	}
	return nil
}

func newDecisionsUndoCmd(c *cli.Call) *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use: "undo ID", Short: "Take a decision back that is still in force", Args: cli.WantArgs(1, 1),
		Long: `A source is bounded by policy alone again, a hold ends, a day of a warm-up is as if
it had not been decided. What carriers say from now on counts as ever, so the
same may be decided again; change the settings (Reputation, or steering of a
Carrier) if it should not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			d, err := cl.UndoDecision(cmd.Context(), args[0], reason)
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(d, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "undone: %s of %s\n", human.Clean(d.Action), human.Clean(subject(d)))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	return cmd
}
