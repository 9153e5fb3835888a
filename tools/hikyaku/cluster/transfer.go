package cluster

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newTransferCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transfer",
		Short: "List transfers between nodes whose outcome is not known; take one back",
		Long: `Nodes hand mail to each other when one drains, or has no source for it. Until it
is known which of the two has a delivery, it waits. Mostly that lasts seconds, or
until the other node is up again; it then says itself what it has.

A transfer is stuck when the answer will never come by itself: a node was rebuilt
under its old name, on another disk.`,
		GroupID: cli.GroupCluster,
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(newTransferListCmd(c), newTransferReclaimCmd(c))
	return cmd
}

func newTransferListCmd(c *cli.Call) *cobra.Command {
	stuck := false
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List transfers whose outcome is not known, oldest first", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			ts, err := askTransfers(cmd.Context(), m, c.Nodes)
			if err != nil {
				return err
			}
			if stuck {
				ts.Items = stuckOnly(ts.Items)
			}
			return c.Print(ts, func(w io.Writer) error {
				mailbox.Missing(c, ts.Coverage)
				return showTransfers(c, w, ts.Items)
			})
		},
	}
	cmd.Flags().BoolVar(&stuck, "stuck", false, "only those that need an operator")
	return cmd
}

func stuckOnly(ts []policyapi.NodeTransfer) []policyapi.NodeTransfer {
	out := []policyapi.NodeTransfer{}
	for _, t := range ts {
		if t.Stuck {
			out = append(out, t)
		}
	}
	return out
}

// askTransfers asks all nodes, or the one that the server is.
func askTransfers(ctx context.Context, m *mailbox.Mailbox, nodes []string) (*policyapi.ClusterTransfers, error) {
	if m.Cluster != nil {
		return m.Cluster.Transfers(ctx, nodes)
	}
	ts, err := m.Node.Transfers(ctx)
	if err != nil {
		return nil, err
	}
	return mailbox.Reshape[policyapi.ClusterTransfers](ts)
}

func showTransfers(c *cli.Call, w io.Writer, ts []policyapi.NodeTransfer) error {
	var rows [][]string
	var nodes []string
	for i := range ts {
		t := &ts[i]
		nodes = append(nodes, t.Node)
		state := c.Paint("waits", cli.Yellow)
		switch {
		case t.Stuck:
			state = c.Paint("stuck", cli.Red)
		case t.Why == "":
			state = "on the way"
		}
		rows = append(rows, []string{strconv.FormatUint(t.Number, 10), state, t.To, t.Spool, human.Since(&t.Created), human.Number(int64(t.Deliveries)), human.Number(int64(t.Recipients)), t.Why})
	}
	head, rows := mailbox.WithNode([]string{">TRANSFER", "STATE", "TO", "SPOOL", ">AGE", ">DELIVERIES", ">RECIPIENTS", "WHY"}, rows, nodes)
	return c.Table(w, head, rows)
}

// reclaimFlags are the flags of transfer reclaim.
type reclaimFlags struct {
	gone, reason string
	yes          bool
}

func newTransferReclaimCmd(c *cli.Call) *cobra.Command {
	var f reclaimFlags
	cmd := &cobra.Command{
		Use:   "reclaim NUMBER --gone SPOOL --reason WHY",
		Short: "Take back the deliveries of a transfer whose receiver is gone for good",
		Long: `Make the deliveries of a transfer active again at the node that offered them,
without asking the node that they were offered to.

WARNING: it may have them. If its spool still lives, or is ever started again, it
sends them too, and their recipients get the mail twice. Do this only when that
data directory is destroyed, and never because a node is slow or down: a node
that comes back answers by itself, and the transfer ends.

--gone repeats the id of the spool that is gone, as "hikyaku transfer list" shows
it. A spool that a live node has is refused.`,
		Example: `  hikyaku transfer list --stuck
  hikyaku transfer reclaim 7 --node tokyo-1 --gone 1f0c6d2e8b9a4753 --reason "disk of osaka-1 destroyed"`,
		Args: cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return runReclaim(cmd.Context(), c, args[0], &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.gone, "gone", "", "id of the `spool` that is gone for good")
	fl.StringVar(&f.reason, "reason", "", "how it is known that it is gone, for the audit log")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

func runReclaim(ctx context.Context, c *cli.Call, arg string, f *reclaimFlags) error {
	n, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || n == 0 {
		return cli.UsageError("transfer %q: want a number from \"hikyaku transfer list\"", arg)
	}
	if f.gone == "" || f.reason == "" {
		return cli.UsageError("--gone and --reason are needed: which spool is gone for good, and how it is known")
	}
	m, err := mailbox.Open(ctx, c)
	if err != nil {
		return err
	}
	if m.Cluster != nil && len(c.Nodes) != 1 {
		return cli.UsageError("--node is needed, once: each node numbers its own transfers")
	}
	fmt.Fprintf(c.Err, "warning: spool %s is not asked. If it still lives, or is ever started again, the recipients of transfer %d get their mail twice.\n", human.Clean(f.gone), n)
	if !f.yes {
		if err := c.Confirm(fmt.Sprintf("This takes transfer %d back from spool %s.", n, human.Clean(f.gone))); err != nil {
			return err
		}
	}
	t, err := askReclaim(ctx, m, c.Nodes, n, f)
	if cli.NotFound(err) {
		return cli.Hint(err, "\"hikyaku transfer list\" shows those that are open")
	}
	if err != nil {
		return err
	}
	return c.Print(t, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "reclaimed %s for %s, offered to %s; they are sent from here again\n",
			human.Count(int64(t.Deliveries), "delivery", "deliveries"), human.Count(int64(t.Recipients), "recipient", "recipients"), human.Clean(t.To))
		return err
	})
}

func askReclaim(ctx context.Context, m *mailbox.Mailbox, nodes []string, n uint64, f *reclaimFlags) (*policyapi.NodeTransfer, error) {
	if m.Cluster != nil {
		return m.Cluster.Reclaim(ctx, nodes[0], n, &policyapi.ReclaimOrder{Spool: f.gone, Reason: f.reason})
	}
	r, err := m.Node.Reclaim(ctx, n, &api.ReclaimRequest{Spool: f.gone, Reason: f.reason, Author: cli.Whoami()})
	if err != nil {
		return nil, err
	}
	return mailbox.Reshape[policyapi.NodeTransfer](r)
}
