package reputation

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newBlocklistCmd(c *cli.Call) *cobra.Command {
	listed := false
	cmd := &cobra.Command{
		Use:   "blocklists",
		Short: "Show what DNS blocklists say of the sources",
		Long: `Nodes ask the DNS blocklists that policy names (kind Reputation, blocklists) every
15 minutes whether they list a source. None is asked unless it is named there:
most lists want to know who asks, and refuse those who come through a public
resolver. The exit code is 1 if a source is listed.`,
		GroupID: cli.GroupCluster,
		Args:    cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			ls, err := askBlocklists(cmd.Context(), m, c.Nodes)
			if err != nil {
				return err
			}
			found := false
			kept := []policyapi.NodeListing{}
			for _, l := range ls.Items {
				found = found || l.State == "listed"
				if !listed || l.State == "listed" {
					kept = append(kept, l)
				}
			}
			ls.Items = kept
			err = c.Print(ls, func(w io.Writer) error {
				mailbox.Missing(c, ls.Coverage)
				return showListings(c, w, kept)
			})
			if err == nil && found {
				return &cli.ExitError{Code: 1}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&listed, "listed", false, "only those that are listed")
	mailbox.NodeFlag(c, cmd)
	return cmd
}

// askBlocklists asks all nodes, or the one that the server is.
func askBlocklists(ctx context.Context, m *mailbox.Mailbox, nodes []string) (*policyapi.ClusterListings, error) {
	if m.Cluster != nil {
		return m.Cluster.Blocklists(ctx, nodes)
	}
	ls, err := m.Node.Blocklists(ctx)
	if err != nil {
		return nil, err
	}
	return mailbox.Reshape[policyapi.ClusterListings](map[string]any{"items": ls})
}

func showListings(c *cli.Call, w io.Writer, ls []policyapi.NodeListing) error {
	var rows [][]string
	var nodes []string
	for i := range ls {
		l := &ls[i]
		nodes = append(nodes, l.Node)
		state := l.State
		switch l.State {
		case "clear":
			state = c.Paint(state, cli.Green)
		case "listed":
			state = c.Paint(state+" since "+human.Since(l.Since), cli.Red)
		case "refused", "failed":
			state = c.Paint(state, cli.Yellow)
		}
		rows = append(rows, []string{l.Source, l.Address, l.Zone, state, human.Since(l.Checked), strings.Join(l.Means, ", "), l.Reason})
	}
	head, rows := mailbox.WithNode([]string{"SOURCE", "ADDRESS", "BLOCKLIST", "STATE", ">ASKED", "MEANS", "REASON"}, rows, nodes)
	return c.Table(w, head, rows)
}
