package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/bench/simulate"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// benchSimulate is one call of "bench simulate".
type benchSimulate struct {
	c     *cli.Call
	o     simulate.Options
	seeds int
	calm  bool
}

func newBenchSimulateCmd(c *cli.Call) *cobra.Command {
	b := &benchSimulate{c: c}
	cmd := &cobra.Command{
		Use: "simulate", Short: "Run the control plane's decisions for a cluster of any size, in virtual time, with faults", Args: cli.WantArgs(0, 0),
		Long: `Runs the allocator, the budgets and the leases of a cluster in virtual time, with
processes that die, stop and are cut off, clocks that are wrong and messages that
are lost, and checks at each step that no source is used from two nodes and that
no budget is exceeded. It says how long decisions take on this machine and how
much is written to etcd: the plan for a cluster larger than the machine. The same
seed is the same run. Exit code 1 if anything was violated.`,
		Example: `  hikyaku bench simulate --nodes 1000 --sources 10000 --carriers 300 --reach 30 --duration 150s
  hikyaku bench simulate --nodes 12 --seeds 20`,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	f := cmd.Flags()
	f.Uint64Var(&b.o.Seed, "seed", 1, "the first seed")
	f.IntVar(&b.seeds, "seeds", 1, "how many seeds, one after the other")
	f.IntVar(&b.o.Nodes, "nodes", 5, "nodes")
	f.IntVar(&b.o.Controls, "controls", 3, "control planes")
	f.IntVar(&b.o.Sources, "sources", 0, "sending addresses; 0 is four for each node")
	f.IntVar(&b.o.Carriers, "carriers", 6, "carriers")
	f.IntVar(&b.o.Reach, "reach", 0, "carriers that each node has mail for; 0 is all")
	f.DurationVar(&b.o.Duration, "duration", 4*time.Minute, "virtual time of a run")
	f.DurationVar(&b.o.Calm, "calm", 90*time.Second, "how much of it, at the end, is without faults")
	f.Float64Var(&b.o.Faults.Level, "faults", 1, "how often things go wrong, as a multiple of the usual")
	f.BoolVar(&b.calm, "no-faults", false, "nothing goes wrong")
	return cmd
}

func (b *benchSimulate) run(cmd *cobra.Command) error {
	for _, n := range []struct {
		name              string
		have, least, most int
	}{
		{"nodes", b.o.Nodes, 1, 5000}, {"controls", b.o.Controls, 1, 9}, {"sources", b.o.Sources, 0, 50_000},
		{"carriers", b.o.Carriers, 1, 1000}, {"reach", b.o.Reach, 0, 1000}, {"seeds", b.seeds, 1, 100_000},
	} {
		if n.have < n.least || n.have > n.most {
			return cli.UsageError("%s: %d is out of range: want %d to %d", n.name, n.have, n.least, n.most)
		}
	}
	if b.o.Duration < 10*time.Second || b.o.Calm < 0 || b.o.Calm > b.o.Duration {
		return cli.UsageError("duration: want at least 10s, and calm not longer than that")
	}
	b.o.Faults.None = b.calm
	red := 0
	for i := range b.seeds {
		o := b.o
		o.Seed += uint64(i)
		r, err := simulate.Run(cmd.Context(), o)
		if err != nil {
			return err
		}
		if r.Total > 0 {
			red++
		}
		if err := b.show(cmd.OutOrStdout(), r); err != nil {
			return err
		}
	}
	if red > 0 {
		return fmt.Errorf("%d of %d runs violated what must always hold", red, b.seeds)
	}
	return nil
}

func (b *benchSimulate) show(w io.Writer, r *simulate.Result) error {
	if b.c.JSON {
		return json.NewEncoder(w).Encode(r)
	}
	o := &r.Options
	fmt.Fprintf(w, "%s\n\n", b.c.Paint(fmt.Sprintf("seed %d: %d nodes, %d sources, %d carriers, %s", o.Seed, o.Nodes, o.Sources, o.Carriers, o.Duration), cli.Bold))
	rows := [][]string{
		{"one decision", fmt.Sprintf("%s, at most %s", r.DecisionMean.Round(time.Microsecond), r.DecisionMax.Round(time.Microsecond))},
		{"one report", r.ReportMean.Round(time.Microsecond).String()},
		{"writes to etcd", fmt.Sprintf("%.1f transactions a second (%.1f records), at most %d in a second", r.WritesPerSecond, r.RecordsPerSecond, r.MostWrites)},
		{"leaders", fmt.Sprint(r.Elections)},
		{"sources taken over", fmt.Sprintf("%d, of them to another node %d", r.Takeovers, r.Moves)},
		{"all held again after", r.HeldAfter.Round(time.Millisecond).String()},
		{"limits used when calm", fmt.Sprintf("%.1f %%; where nodes take turns %.1f %%", r.UseFull*100, r.UseTurns*100)},
		{"messages sent", fmt.Sprint(r.Sent)},
		{"real time", fmt.Sprintf("%s for %d events", r.Took.Round(time.Millisecond), r.Events)},
		{"run", r.Hash},
	}
	if err := b.c.Table(w, []string{"what", "seen"}, rows); err != nil {
		return err
	}
	if r.Total == 0 {
		_, err := fmt.Fprintf(w, "\n%s\n\n", b.c.Paint("nothing was violated", cli.Green))
		return err
	}
	var list []string
	for _, v := range r.Violations {
		list = append(list, "- "+human.Clean(v.String()))
	}
	_, err := fmt.Fprintf(w, "\n%s\n%s\n\n", b.c.Paint(fmt.Sprintf("%d VIOLATIONS; the first of them:", r.Total), cli.Red), strings.Join(list, "\n"))
	return err
}
