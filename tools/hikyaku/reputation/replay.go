package reputation

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/reputation/steer"
	"hikyaku/spool/message"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/eventlog"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/manifests"
)

// replay is what would have been decided on a recorded day.
type replay struct {
	files  []string
	filter state.DecisionFilter
	limit  int
}

func newDecisionsReplayCmd(c *cli.Call) *cobra.Command {
	o := &replay{}
	cmd := &cobra.Command{
		Use: "replay FILE", Short: "Show what would have been decided on a recorded day, under other settings", Args: cli.WantArgs(1, 1),
		Long: `Reads an event log again, as the nodes' replies would have come to the leader, and
shows what would have been decided by the carriers that ship and the resources
given with -f (Reputation, Carrier, Tenant, WarmUp, …). FILE is the event log as
JSON lines, a segment or a directory of segments of a node, or - for standard
input. Nothing is asked and nothing is changed.

What is decided here does not change what was recorded after it: of a source at a
carrier only the first decisions are those that would have come, and the others
show for how long the signs went on.`,
		Example: `  hikyaku events search --since 1d --json | hikyaku decisions replay - -f steering.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), c, args[0])
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.files, "file", "f", nil, "file or directory of resources to decide by; may be repeated")
	f.StringVar(&o.filter.Carrier, "carrier", "", "only about this carrier")
	f.StringVar(&o.filter.Source, "source", "", "only about this source")
	f.StringVar(&o.filter.Tenant, "tenant", "", "only about this tenant")
	f.StringVar(&o.filter.Action, "action", "", "only these, as block or hold")
	f.IntVarP(&o.limit, "limit", "n", 50, "show at most this many decisions; the counts are of all")
	if err := cmd.MarkFlagFilename("file", "yaml", "yml"); err != nil {
		panic("BUG: " + err.Error())
	}
	return cmd
}

// replayed is the answer.
type replayed struct {
	Events int       `json:"events"`
	From   time.Time `json:"from,omitzero"`
	To     time.Time `json:"to,omitzero"`
	// Counts of decisions, those with the gravest first.
	Counts    []replayCount    `json:"counts"`
	Decisions []state.Decision `json:"decisions"`
	// Omitted are decisions beyond those that are shown.
	Omitted int `json:"omitted,omitempty"`
}

// replayCount is what was decided about one source at a carrier, or one tenant.
type replayCount struct {
	About   string         `json:"about"`
	Actions map[string]int `json:"actions"`
}

func (o *replay) run(ctx context.Context, c *cli.Call, path string) error {
	if o.limit < 0 {
		return cli.UsageError("--limit %d: want 0 or more", o.limit)
	}
	set, err := o.policy(c)
	if err != nil {
		return err
	}
	out := &replayed{Counts: []replayCount{}, Decisions: []state.Decision{}}
	ds := steer.Replay(func(yield func(message.EventRecord) bool) {
		err = eventlog.Read(ctx, c, path, func(rec *message.EventRecord) bool {
			if out.Events++; out.From.IsZero() {
				out.From = rec.Time
			}
			out.To = rec.Time
			return yield(*rec)
		})
	}, set, nil)
	if err != nil {
		return err
	}
	if len(ds) >= steer.MaxReplay {
		fmt.Fprintf(c.Err, "the first %d decisions; the events after %s are left out\n", steer.MaxReplay, human.Stamp(out.To))
	}
	o.pick(out, ds)
	return c.Print(out, func(w io.Writer) error { return printReplayed(c, w, out) })
}

// policy is what to decide by.
func (o *replay) policy(c *cli.Call) (*policy.Set, error) {
	var rs []policy.Resource
	locate := policy.Problems.Err
	if len(o.files) > 0 {
		f, err := manifests.Read(c, o.files)
		if err != nil {
			return nil, err
		}
		rs, locate = f.Resources, f.Locate
	}
	set, problems := policy.New(catalogue.Over(rs))
	return set, locate(problems)
}

// pick takes the decisions that are asked for.
func (o *replay) pick(out *replayed, ds []keyspace.Decision) {
	counts := map[string]map[string]int{}
	for i := range ds {
		d := (*state.Decision)(&ds[i])
		for _, x := range [...][2]string{{o.filter.Carrier, d.Carrier}, {o.filter.Source, d.Source}, {o.filter.Tenant, d.Tenant}, {o.filter.Action, d.Action}} {
			if x[0] != "" && x[0] != x[1] {
				d = nil
				break
			}
		}
		if d == nil {
			continue
		}
		about := subject(d)
		if counts[about] == nil {
			counts[about] = map[string]int{}
		}
		counts[about][d.Action]++
		if len(out.Decisions) < o.limit {
			out.Decisions = append(out.Decisions, *d)
		} else {
			out.Omitted++
		}
	}
	for about, actions := range counts {
		out.Counts = append(out.Counts, replayCount{about, actions})
	}
	slices.SortFunc(out.Counts, func(a, b replayCount) int {
		for _, grave := range [...]string{"block", "hold", "rest", "slow"} {
			if n := cmp.Compare(b.Actions[grave], a.Actions[grave]); n != 0 {
				return n
			}
		}
		return strings.Compare(a.About, b.About)
	})
}

func printReplayed(c *cli.Call, w io.Writer, r *replayed) error {
	fmt.Fprintf(w, "%s, %s to %s\n", human.Count(int64(r.Events), "event", "events"), human.Stamp(r.From), human.Stamp(r.To))
	if len(r.Counts) == 0 {
		fmt.Fprintln(w, "nothing would have been decided")
		return nil
	}
	var rows [][]string
	for _, x := range r.Counts {
		var parts []string
		for _, action := range slices.Sorted(maps.Keys(x.Actions)) {
			parts = append(parts, fmt.Sprintf("%d %s", x.Actions[action], action))
		}
		rows = append(rows, []string{x.About, strings.Join(parts, ", ")})
	}
	if err := c.Table(w, []string{"ABOUT", "DECIDED"}, rows); err != nil || len(r.Decisions) == 0 {
		return err
	}
	fmt.Fprintln(w)
	rows = rows[:0]
	for i := range r.Decisions {
		d := &r.Decisions[i]
		rows = append(rows, []string{human.Stamp(d.At), c.State(actionText(d)), subject(d), change(d), untilText(d.Until), d.Rule + ": " + d.Why})
	}
	if err := c.Table(w, []string{"TIME", "ACTION", "ABOUT", "CHANGE", "UNTIL", "WHY"}, rows); err != nil || r.Omitted == 0 {
		return err
	}
	fmt.Fprintf(w, "and %s more\n", human.Count(int64(r.Omitted), "decision", "decisions"))
	return nil
}
