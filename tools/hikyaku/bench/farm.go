package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/bench/carriers"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
)

// benchFarm holds the flags of "bench farm".
type benchFarm struct {
	o        carriers.FarmOptions
	names    []string
	files    []string
	policy   string
	sources  int
	duration policy.Duration
}

func newBenchFarmCmd(c *cli.Call) *cobra.Command {
	b := &benchFarm{}
	cmd := &cobra.Command{
		Use:   "farm",
		Short: "Run the simulated carriers alone, for a node or a cluster of your own",
		Long: `Runs the simulated carriers of the load suite on 127.64.0.0/10 with a name server
of their own, until Ctrl-C. Point a node at it: delivery.resolver and
delivery.port as printed, and the policy that --policy writes, which holds the
carriers' limits. Each carrier enforces its limits and counts who breaks them;
at the end, and on a terminal while it runs, a table says what each has seen.`,
		Example: `  hikyaku bench farm --policy farm.yaml
  hikyaku bench farm --carriers gmail,docomo --port 2600 --dns 127.0.0.1:5300`,
		Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd.Context(), c) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&b.names, "carriers", nil, "profiles, by name (default all that are shipped)")
	f.StringSliceVar(&b.files, "profiles", nil, "`files` with profiles of your own")
	f.StringVar(&b.policy, "policy", "", "write the policy that keeps to the carriers' limits to this `file`")
	f.IntVar(&b.sources, "sources", 2, "sending addresses in that policy")
	f.IntVar(&b.o.Port, "port", 0, "of all MX hosts (default a free one)")
	f.StringVar(&b.o.DNS, "dns", "127.0.0.1:0", "address of the name server")
	f.Uint64Var(&b.o.Seed, "seed", 1, "of all chance")
	f.StringVar(&b.o.Notices.SMTP, "notices", "", "`host:port` that late bounces and complaints are mailed to (default they are only counted)")
	cli.DurationFlag(cmd, &b.duration, "for", 24*time.Hour, "end after this `time`")
	return cmd
}

func (b *benchFarm) run(ctx context.Context, c *cli.Call) error {
	ctx, cancel := context.WithTimeout(ctx, b.duration.D())
	defer cancel()
	var err error
	if b.o.Profiles, err = carriers.Pick(b.names, b.files); err != nil {
		return err
	}
	farm, err := carriers.Start(ctx, b.o)
	if err != nil {
		return err
	}
	defer func() { _ = farm.Close() }() // on the way out by an error; else it is closed below
	if b.policy != "" {
		text, err := farm.Policy(carriers.PolicyOptions{Sources: b.sources})
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.policy, text, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(c.Err, "policy    %s\n", b.policy)
	}
	fmt.Fprintf(c.Err, "resolver  %s\nport      %d\n", farm.DNS, farm.Port)
	b.follow(ctx, c, farm)
	return errors.Join(c.Print(farm.Metrics(), func(w io.Writer) error { return CarrierTable(c, w, farm.Metrics()) }), farm.Close())
}

// follow shows the table once a second on a terminal.
func (b *benchFarm) follow(ctx context.Context, c *cli.Call, farm *carriers.Farm) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !cli.IsTerminal(c.Err) {
			continue
		}
		if shown > 0 {
			fmt.Fprintf(c.Err, "\x1b[%dA\x1b[J", shown)
		}
		shown = len(farm.Metrics()) + 1
		if err := CarrierTable(c, c.Err, farm.Metrics()); err != nil {
			return
		}
	}
}

// CarrierTable is what each carrier has seen.
func CarrierTable(c *cli.Call, w io.Writer, ms []carriers.Metric) error {
	var rows [][]string
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	for _, m := range ms {
		allowed := n(m.Allowed)
		if m.Unlimited {
			allowed = "-"
		}
		broken := n(m.Violations)
		if m.Violations > 0 {
			broken = c.Paint(broken, cli.Red)
		}
		rows = append(rows, []string{m.Carrier, n(m.Connections), n(m.Offered), allowed, n(m.Delivered), n(m.Deferred), n(m.Refused), n(m.Blocks), broken})
	}
	return c.Table(w, []string{"CARRIER", ">CONNS", ">OFFERED", ">ALLOWED", ">DELIVERED", ">DEFERRED", ">REFUSED", ">BLOCKS", ">VIOLATIONS"}, rows)
}
