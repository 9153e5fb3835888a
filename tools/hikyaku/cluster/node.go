package cluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

func newNodeCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "List the nodes of the cluster, show one, remove a dead one", GroupID: cli.GroupCluster}
	ls := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List nodes", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			ns, err := cl.Nodes(cmd.Context())
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(ns, func(w io.Writer) error { return showNodes(c, w, ns) })
		},
	}
	show := &cobra.Command{
		Use: "show NODE", Short: "Show a node", Args: cli.WantArgs(1, 1), ValidArgsFunction: completeNode(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			n, err := cl.Node(cmd.Context(), args[0])
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(n, func(w io.Writer) error { return showNode(c, w, n) })
		},
	}
	cmd.AddCommand(ls, show, newNodeRemoveCmd(c))
	return cmd
}

func newNodeRemoveCmd(c *cli.Call) *cobra.Command {
	reason, yes := "", false
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "End the membership of a node that will not come back",
		Long: `End a node's membership: its share of every budget goes to the others. Mail that
lies in its data directory stays there; drain a node that can still run instead.
A live node is refused.`,
		Args: cli.WantArgs(1, 1), ValidArgsFunction: completeNode(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			if !yes {
				if err := c.Confirm(fmt.Sprintf("This removes node %s; mail in its data directory is not moved.", human.Clean(args[0]))); err != nil {
					return err
				}
			}
			if err := cl.RemoveNode(cmd.Context(), args[0], reason); err != nil {
				return c.NoControl(err)
			}
			return c.Print(map[string]string{"removed": args[0]}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "removed %s\n", human.Clean(args[0]))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// completeNode completes names of nodes.
func completeNode(c *cli.Call) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		cl, err := c.Control()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ns, err := cl.Nodes(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, n := range ns {
			names = append(names, n.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// nodeState is how a node is, in a word.
func nodeState(c *cli.Call, n *state.Node) string {
	switch {
	case !n.Live:
		return c.Paint("down", cli.Red)
	case n.Drain != "":
		return c.Paint(n.Drain, cli.Yellow)
	}
	return c.Paint("live", cli.Green)
}

// heard is when the leader last heard of a node.
func heard(n *state.Node) string {
	if n.ExchangeAge == nil {
		return ""
	}
	return human.Span(time.Duration(*n.ExchangeAge * float64(time.Second)))
}

func showNodes(c *cli.Call, w io.Writer, ns []state.Node) error {
	var rows [][]string
	for i := range ns {
		n := &ns[i]
		rows = append(rows, []string{n.Name, nodeState(c, n), n.Version, heard(n), human.Number(n.Revision), human.Number(int64(n.Sources)), human.Number(n.Queued), human.PerSecond(n.PerSecond),
			fmt.Sprintf("%.1f%%", n.Floor), n.Peer, c.Paint(human.Clean(strings.Join(n.Alarms, "; ")), cli.Red)})
	}
	return c.Table(w, []string{"NODE", "STATE", "VERSION", ">HEARD", ">REVISION", ">SOURCES", ">QUEUED", ">OUT", ">FLOOR", "PEER", "ALARMS"}, rows)
}

func showNode(c *cli.Call, w io.Writer, n *state.Node) error {
	labels := ""
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		labels += k + "=" + n.Labels[k] + " "
	}
	drain := n.Drain
	if drain != "" {
		drain += ", ordered " + human.Stamp(n.DrainAt)
	}
	for _, f := range [][2]string{
		{"node", n.Name}, {"state", nodeState(c, n)}, {"drain", drain}, {"version", n.Version}, {"joined", human.Stamp(n.Joined)}, {"started", stampOr(n.Started)},
		{"heard", heard(n)}, {"peer", n.Peer}, {"gossip", n.Gossip}, {"labels", strings.TrimSpace(labels)}, {"capacity", human.Number(int64(n.Capacity))},
		{"revision", human.Number(n.Revision)}, {"queued", human.Number(n.Queued)}, {"stranded", human.Number(n.Stranded)}, {"out", human.PerSecond(n.PerSecond)},
		{"disk free", fmt.Sprintf("%.0f%%", 100*n.SpoolFreePart)}, {"sources", human.Number(int64(n.Sources))}, {"to let go", human.Number(int64(n.SourcesLeft))},
		{"floor", fmt.Sprintf("%.2f%% (confirmed %.2f%%), rank %d", n.Floor, n.FloorConfirmed, n.Rank)}, {"spool id", n.NodeID}, {"lease", fmt.Sprintf("%x", n.Lease)},
	} {
		if f[1] != "" {
			fmt.Fprintf(w, "%-10s %s\n", f[0], c.Cell(f[1]))
		}
	}
	for _, a := range n.Alarms {
		fmt.Fprintf(w, "%-10s %s\n", "alarm", c.Paint(human.Clean(a), cli.Red))
	}
	return nil
}

// stampOr is stamp, "" for no time.
func stampOr(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return human.Stamp(t)
}

// drainFlags are the flags of drain.
type drainFlags struct {
	reason  string
	wait    bool
	timeout policy.Duration
}

func newDrainCmd(c *cli.Call) *cobra.Command {
	var f drainFlags
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Take a node's sources and mail away, as before an upgrade",
		Long: `The node takes no new mail, lets its movable sources go, and hands its mail to
nodes that have sources for it. It goes on running; "hikyaku undrain" lets it
take part again.`,
		Example: "  hikyaku drain tokyo-1 --wait --reason \"kernel update\"",
		GroupID: cli.GroupCluster, Args: cli.WantArgs(1, 1), ValidArgsFunction: completeNode(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			n, err := cl.Drain(cmd.Context(), args[0], f.reason)
			if err != nil {
				return c.NoControl(err)
			}
			if f.wait {
				if n, err = drained(cmd.Context(), c, cl, n, f.timeout.D()); err != nil {
					return err
				}
			}
			return c.Print(n, func(w io.Writer) error { return showNodes(c, w, []state.Node{*n}) })
		},
	}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for the audit log")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until the node has neither sources nor mail; exit code 3 if not")
	cli.DurationFlag(cmd, &f.timeout, "timeout", 10*time.Minute, "with --wait: give up after this `time`")
	return cmd
}

// drainLook is how often a drain is looked at.
const drainLook = 500 * time.Millisecond

// drained waits until a node is empty.
func drained(ctx context.Context, c *cli.Call, cl *client.Cluster, n *state.Node, timeout time.Duration) (*state.Node, error) {
	most := n.Queued
	var bar *progressbar.ProgressBar
	if cli.IsTerminal(c.Err) {
		bar = progressbar.NewOptions64(max(1, most), progressbar.OptionSetWriter(c.Err), progressbar.OptionSetDescription("draining "+human.Clean(n.Name)),
			progressbar.OptionShowCount(), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish())
	}
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	end := time.Now().Add(timeout)
	for name := n.Name; ; {
		if n.Drain == "drained" {
			if bar != nil {
				_ = bar.Finish() // decoration
			}
			return n, nil
		}
		if bar != nil {
			if n.Queued > most { // it was told of late, or mail came in between
				most = n.Queued
				bar.ChangeMax64(most)
			}
			_ = bar.Set64(most - n.Queued)
		}
		if time.Now().After(end) {
			return n, &cli.ExitError{Code: cli.ExitPartly, Text: fmt.Sprintf("not empty after %s: %s queued (%d without a source here), %s to let go\nhint: it goes on; \"hikyaku node show %s\" shows how far it is, \"hikyaku queue ls --node %s\" what is left",
				human.Span(timeout), human.Count(n.Queued, "delivery", "deliveries"), n.Stranded, human.Count(int64(n.SourcesLeft), "source", "sources"), name, name)}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n, ctx.Err()
		}
		next, err := cl.Node(ctx, name)
		if err != nil {
			return n, err
		}
		n = next
	}
}

func newUndrainCmd(c *cli.Call) *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use: "undrain NODE", Short: "Let a drained node take part again", GroupID: cli.GroupCluster, Args: cli.WantArgs(1, 1), ValidArgsFunction: completeNode(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			n, err := cl.Undrain(cmd.Context(), args[0], reason)
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(n, func(w io.Writer) error { return showNodes(c, w, []state.Node{*n}) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	return cmd
}
