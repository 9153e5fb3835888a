package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/bench/carriers"
	"hikyaku/bench/fault"
	"hikyaku/bench/load"
	"hikyaku/bench/load/mix"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/bench"
	"hikyaku/tools/hikyaku/cli"
)

// devCluster holds the flags of "dev cluster".
type devCluster struct {
	nodes, members, sources int
	rate                    float64
	carriers                []string
	dir                     string
	duration                policy.Duration
	seed                    uint64
}

func newDevClusterCmd(c *cli.Call) *cobra.Command {
	d := &devCluster{}
	cmd := &cobra.Command{
		Use: "cluster", Short: "Run a whole cluster on this machine, with simulated carriers", Args: cli.WantArgs(0, 0),
		Long: `Starts etcd members, nodes and the simulated carriers of the load suite on
loopback addresses, sends mail through them and shows what each carrier gets,
until Ctrl-C. Every carrier enforces its limits: change one with "hikyaku
throttle" as printed, and see what arrives. Everything is thrown away at the end.`,
		Example: `  hikyaku dev cluster
  hikyaku dev cluster --nodes 5 --carriers gmail,docomo --rate 500`,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context(), c) },
	}
	f := cmd.Flags()
	f.IntVar(&d.nodes, "nodes", 3, "nodes, each with a control plane")
	f.IntVar(&d.members, "etcd", 3, "etcd members: an odd number")
	f.IntVar(&d.sources, "sources", 6, "sending addresses")
	f.Float64Var(&d.rate, "rate", 100, "messages a second that are handed in; 0 is none")
	f.StringSliceVar(&d.carriers, "carriers", []string{"gmail", "docomo", "yahoo-japan", "sink"}, "profiles of carriers (see bench farm)")
	f.StringVar(&d.dir, "dir", "", "keep the data in this `directory` (default: a fresh one, thrown away)")
	f.Uint64Var(&d.seed, "seed", 1, "of all chance")
	cli.DurationFlag(cmd, &d.duration, "for", 24*time.Hour, "end after this `time`")
	return cmd
}

func (d *devCluster) run(ctx context.Context, c *cli.Call) (err error) {
	ctx, cancel := context.WithTimeout(ctx, d.duration.D())
	defer cancel()
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "hikyaku-cluster-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	profiles, err := carriers.Pick(d.carriers, nil)
	if err != nil {
		return err
	}
	farm, err := carriers.Start(ctx, carriers.FarmOptions{Profiles: profiles, Seed: d.seed})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, farm.Close()) }()
	text, err := farm.Policy(carriers.PolicyOptions{Sources: d.sources})
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "starting %d etcd members and %d nodes …\n", d.members, d.nodes)
	cl, err := fault.StartCluster(ctx, fault.Options{
		Binary: binary, Dir: d.dir, Nodes: d.nodes, Members: d.members, Resolver: farm.DNS, Port: farm.Port, Policy: string(text), Direct: true,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.Close()) }()
	if err := d.introduce(c, cl); err != nil {
		return err
	}
	var source sync.WaitGroup
	source.Go(func() { d.send(ctx, c, cl, profiles) })
	d.follow(ctx, c, farm)
	cancel()
	source.Wait()
	return c.Print(farm.Metrics(), func(w io.Writer) error { return bench.CarrierTable(c, w, farm.Metrics()) })
}

// introduce says where everything is and what to try.
func (d *devCluster) introduce(c *cli.Call, cl *fault.Cluster) error {
	var rows [][]string
	for _, n := range cl.Nodes {
		rows = append(rows, []string{n.ID, n.SMTP, n.HTTP, "http://" + n.Admin, filepath.Join(n.Dir, "hikyaku.yaml")})
	}
	if err := c.Table(c.Err, []string{"NODE", "SMTP", "HTTP", "ADMIN", "CONFIGURATION"}, rows); err != nil {
		return err
	}
	at := "http://" + cl.Nodes[0].Admin
	fmt.Fprintf(c.Err, `
in another terminal:
  export HIKYAKU_API=%s
  hikyaku node list
  hikyaku source list
  hikyaku throttle %s --rate 10/s --for 10m --wait --reason "trying it out"
  hikyaku grants --carrier %s
  hikyaku top
  hikyaku drain %s --wait

`, at, d.carriers[0], d.carriers[0], cl.Nodes[len(cl.Nodes)-1].ID)
	return nil
}

// send hands mail in at all nodes in turn.
func (d *devCluster) send(ctx context.Context, c *cli.Call, cl *fault.Cluster, profiles []*carriers.Profile) {
	if d.rate == 0 {
		return
	}
	var to mix.Destinations
	for _, p := range profiles {
		for _, name := range p.Domains {
			if !strings.HasPrefix(name, "*") {
				to.Names = append(to.Names, mix.Domain{Name: name, Weight: 1})
			}
		}
	}
	var addrs []string
	for _, n := range cl.Nodes {
		addrs = append(addrs, n.SMTP)
	}
	_, err := load.Run(ctx, load.Options{
		Mix:   &mix.Mix{Seed: d.seed, Recipients: int(min(d.rate*d.duration.D().Seconds()+1, 50_000_000)), Destinations: to},
		Addrs: addrs, Connections: 2 * len(addrs), Rate: d.rate, Poisson: true, GiveUp: d.duration.D(),
	})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(c.Err, "the source of mail has ended: %v\n", err)
	}
}

// follow shows once a second what the carriers get.
func (d *devCluster) follow(ctx context.Context, c *cli.Call, farm *carriers.Farm) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown := 0
	before := map[string]int64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ms := farm.Metrics()
		var rows [][]string
		for _, m := range ms {
			broken := strconv.FormatInt(m.Violations, 10)
			if m.Violations > 0 {
				broken = c.Paint(broken, cli.Red)
			}
			rows = append(rows, []string{m.Carrier, strconv.FormatInt(m.Delivered-before[m.Carrier], 10), strconv.FormatInt(m.Delivered, 10), strconv.FormatInt(m.Connections, 10), broken})
			before[m.Carrier] = m.Delivered
		}
		if !cli.IsTerminal(c.Err) {
			continue
		}
		if shown > 0 {
			fmt.Fprintf(c.Err, "\x1b[%dA\x1b[J", shown)
		}
		shown = len(rows) + 1
		if err := c.Table(c.Err, []string{"CARRIER", ">DELIVERED/S", ">DELIVERED", ">CONNS", ">VIOLATIONS"}, rows); err != nil {
			return
		}
	}
}
