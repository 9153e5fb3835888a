package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/bench/carriers"
	"hikyaku/bench/plan"
	"hikyaku/bench/report"
	"hikyaku/bench/sidebyside"
	"hikyaku/controlplane/catalogue"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/manifests"
)

// benchPlan is one call of "bench plan".
type benchPlan struct {
	c                 *cli.Call
	target, mix       string
	from              []string
	policies          []string
	overrides         []string
	cpu               time.Duration
	size              string
	diskPerMessage    string
	messagesPerSync   float64
	cores             float64
	syncLatency       time.Duration
	disk, network     string
	sourcesPerNode    int
	distance          plan.Distance
	headRoom          float64
	spare             int
	hours             float64
	networkPerMessage string
}

func newBenchPlanCmd(c *cli.Call) *cobra.Command {
	b := &benchPlan{c: c}
	cmd := &cobra.Command{
		Use: "plan", Short: "Say how many nodes and sending addresses a target needs, and what binds first", Args: cli.WantArgs(0, 0),
		Long: `Works out how many nodes and sending IP addresses a target needs and what binds
first: CPU, the disk's syncs, its bandwidth, the network, or a limit of a
carrier. The costs of a message come from reports (--from: a JSON file of "bench
run" or of "bench peers -o") or from flags; the limits of carriers from the
simulated carriers' profiles, which are models, or from Carrier resources of a
policy (--policy). All that is taken for granted stands in the output.`,
		Example: `  hikyaku bench plan --target 30M/h --mix gmail=40%,outlook=30%,docomo=30% --from peers.json --cores 8 --disk 500M --network 10G
  hikyaku bench plan --target 8500/s --mix default=100% --policy policy.yaml --cpu 180us --disk-per-message 8k`,
		RunE: func(*cobra.Command, []string) error { return b.run() },
	}
	f := cmd.Flags()
	f.StringVar(&b.target, "target", "", "messages in a time: 30M/h, 8500/s, 500M/d")
	f.StringVar(&b.mix, "mix", "", "carriers and their percent: gmail=40%,docomo=10%,…")
	f.StringArrayVar(&b.from, "from", nil, "report to take costs and the machine from; of several the last that knows a figure counts")
	f.StringArrayVarP(&b.policies, "policy", "f", nil, "file with Carrier resources; they win over profiles of the same name")
	f.StringArrayVar(&b.overrides, "carrier", nil, "change limits: gmail:rate=100/s,connections=20,transaction=300ms,total_rate=none (again for more)")
	f.DurationVar(&b.cpu, "cpu", 0, "CPU time of a message on a node")
	f.StringVar(&b.size, "size", "", "bytes of a message, for the network, where no report says it")
	f.StringVar(&b.diskPerMessage, "disk-per-message", "", "bytes written to disk for a message")
	f.StringVar(&b.networkPerMessage, "network-per-message", "", "bytes of a message on the network, in each direction")
	f.Float64Var(&b.messagesPerSync, "messages-per-sync", 0, "messages that share a sync of the disk")
	f.Float64Var(&b.cores, "cores", 0, "cores of a node (default those of the report)")
	f.DurationVar(&b.syncLatency, "sync", 0, "time of a sync of a node's disk (default that of the report)")
	f.StringVar(&b.disk, "disk", "", "bytes a second that a node's disk writes: 500M")
	f.StringVar(&b.network, "network", "1G", "bits a second of a node's network, in each direction: 10G")
	f.IntVar(&b.sourcesPerNode, "sources-per-node", 0, "addresses a node can hold; 0 is no bound")
	f.DurationVar(&b.distance.RoundTrip, "rtt", 30*time.Millisecond, "round trip to the carriers")
	f.DurationVar(&b.distance.Answer, "answer", 200*time.Millisecond, "how long a carrier of a policy takes to answer a message, beside the round trips")
	f.Float64Var(&b.headRoom, "head-room", 30, "percent of every resource and every limit of an address that stays free")
	f.IntVar(&b.spare, "spare", 1, "nodes that may be down with the target still met")
	f.Float64Var(&b.hours, "hours", 24, "hours a day at the target, for daily caps")
	for _, name := range []string{"target", "mix"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	return cmd
}

func (b *benchPlan) run() error {
	in, err := b.input()
	if err != nil {
		return cli.UsageError("%v", err)
	}
	p, err := plan.Make(in)
	if err != nil {
		return cli.UsageError("%v", err)
	}
	return b.c.Print(p, func(w io.Writer) error { return b.show(w, p) })
}

func (b *benchPlan) input() (in plan.Input, err error) {
	if in.PerHour, err = plan.ParseTarget(b.target); err != nil {
		return in, err
	}
	if in.Mix, err = plan.ParseMix(b.mix); err != nil {
		return in, err
	}
	for _, path := range b.from {
		cost, node, err := readCosts(path)
		if err != nil {
			return in, err
		}
		in.Cost.Take(cost)
		in.Node = node
	}
	if err := b.flags(&in); err != nil {
		return in, err
	}
	if in.Carriers, err = b.carriers(in.Mix); err != nil {
		return in, err
	}
	// The zero of an Input stands for its default; here zero is zero.
	in.HeadRoom, in.Spare, in.Hours = b.headRoom/100, b.spare, b.hours
	if in.HeadRoom == 0 {
		in.HeadRoom = -1
	}
	if in.Spare == 0 {
		in.Spare = -1
	}
	return in, nil
}

// readCosts reads a report, of either kind.
func readCosts(path string) (plan.Cost, plan.Node, error) {
	fail := func(err error) (plan.Cost, plan.Node, error) {
		return plan.Cost{}, plan.Node{}, fmt.Errorf("%s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return plan.Cost{}, plan.Node{}, err
	}
	var kind struct {
		Scenario string          `json:"scenario"`
		Rows     json.RawMessage `json:"rows"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return fail(err)
	}
	var cost plan.Cost
	var node plan.Node
	switch {
	case kind.Rows != nil:
		var r sidebyside.Result
		if err := json.Unmarshal(text, &r); err != nil {
			return fail(err)
		}
		cost, node, err = plan.FromPeers(&r)
	case kind.Scenario != "":
		r, err2 := report.Read(path)
		if err2 != nil {
			return fail(err2)
		}
		cost, node, err = plan.FromReport(r)
	default:
		err = errors.New("neither a report of \"bench run\" nor of \"bench peers\"")
	}
	if err != nil {
		return fail(err)
	}
	return cost, node, nil
}

// flags takes what was typed over what reports say.
func (b *benchPlan) flags(in *plan.Input) error {
	amount := func(name, text string, set func(float64)) error {
		if text == "" {
			return nil
		}
		v, err := plan.ParseBytes(text)
		if err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
		set(v)
		return nil
	}
	typed := plan.Cost{CPU: b.cpu, MessagesPerSync: b.messagesPerSync, From: "flags"}
	err := errors.Join(
		amount("size", b.size, func(v float64) { typed.NetworkBytes = plan.NetworkBytes(v) }),
		amount("disk-per-message", b.diskPerMessage, func(v float64) { typed.DiskBytes = v }),
		amount("network-per-message", b.networkPerMessage, func(v float64) { typed.NetworkBytes = v }),
		amount("disk", b.disk, func(v float64) { in.Node.DiskBytes = v }),
		amount("network", b.network, func(v float64) { in.Node.NetworkBits = v }),
	)
	in.Cost.Take(typed)
	if b.cores != 0 {
		in.Node.Cores = b.cores
	}
	if b.syncLatency > 0 {
		in.Node.Syncs = float64(time.Second) / float64(b.syncLatency)
	}
	in.Node.SourcesPerNode = b.sourcesPerNode
	return err
}

// carriers are the limits of those in the mix: of the policy if it has them,
// else of the profiles, changed by --carrier.
func (b *benchPlan) carriers(mix []plan.Share) ([]plan.Carrier, error) {
	known := map[string]plan.Carrier{}
	profiles, err := carriers.Shipped()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range profiles {
		known[p.Name] = plan.FromProfile(p, b.distance)
		names = append(names, p.Name)
	}
	if len(b.policies) > 0 {
		f, err := manifests.Read(b.c, b.policies)
		if err != nil {
			return nil, err
		}
		for _, v := range catalogue.View(f.Resources) {
			if v.Origin != catalogue.Shipped { // a model says more than starting points
				known[v.Name] = plan.FromPolicy(v.Name, *v.InForce, b.distance)
				names = append(names, v.Name)
			}
		}
	}
	for _, o := range b.overrides {
		name, limits, ok := strings.Cut(o, ":")
		if !ok {
			return nil, fmt.Errorf("--carrier %q: want name:key=value,…", o)
		}
		c, ok := known[name]
		if !ok {
			c = plan.Carrier{Name: name, From: "flags"}
		}
		if err := c.Override(limits); err != nil {
			return nil, err
		}
		known[name] = c
	}
	var out []plan.Carrier
	for _, s := range mix {
		c, ok := known[s.Carrier]
		if !ok {
			return nil, fmt.Errorf("no carrier %q: there are %s; give its limits with --policy or --carrier", s.Carrier, strings.Join(names, ", "))
		}
		out = append(out, c)
	}
	return out, nil
}

func (b *benchPlan) show(w io.Writer, p *plan.Plan) error {
	fmt.Fprintf(w, "%s: %.0f messages a second\n\n", b.c.Paint("target "+b.target, cli.Bold), p.PerSecond)
	fmt.Fprintf(w, "nodes              %d (%d and %d spare), bound by %s\n", p.Nodes, p.Nodes-p.Spare, p.Spare, p.NodesBind)
	fmt.Fprintf(w, "sending addresses  %d, bound by %s\n", p.Sources, p.SourcesBind)
	fmt.Fprintf(w, "binds first        %s\n\n", p.First)
	var rows [][]string
	for _, r := range p.PerNode {
		rows = append(rows, []string{r.Name, fmt.Sprintf("%.0f", r.PerSecond), fmt.Sprint(r.Nodes), r.Why})
	}
	if err := b.c.Table(w, []string{"one node", ">msg/s", ">nodes", "because"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, n := range p.Carriers {
		each, because := "no limit", ""
		if n.Each > 0 {
			each = fmt.Sprintf("%.4g", n.Each)
		}
		for _, l := range n.Limits {
			if l.Name == n.Binds {
				because = l.Why
			}
		}
		rows = append(rows, []string{n.Carrier, fmt.Sprintf("%.4g %%", n.Share*100), fmt.Sprintf("%.0f", n.PerSecond), each, fmt.Sprint(n.Sources), n.Binds, because})
	}
	fmt.Fprintln(w)
	if err := b.c.Table(w, []string{"carrier", ">share", ">msg/s", ">an address", ">addresses", "bound by", "because"}, rows); err != nil {
		return err
	}
	for _, s := range p.Impossible {
		fmt.Fprintf(w, "\n%s\n", b.c.Paint("NOT POSSIBLE: "+human.Clean(s), cli.Red))
	}
	fmt.Fprintln(w, "\nassumed:")
	for _, a := range p.Assumptions {
		fmt.Fprintln(w, "- "+human.Clean(a))
	}
	return nil
}
