package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/human"
)

func newBlocklistCmd(c *cli) *cobra.Command {
	listed := false
	cmd := &cobra.Command{
		Use:   "blocklists",
		Short: "Show what DNS blocklists say of the sources",
		Long: `Nodes ask the DNS blocklists that policy names (kind Reputation, blocklists) every
15 minutes whether they list a source. None is asked unless it is named there:
most lists want to know who asks, and refuse those who come through a public
resolver. The exit code is 1 if a source is listed.`,
		GroupID: groupCluster,
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := c.mail(cmd.Context())
			if err != nil {
				return err
			}
			ls, err := m.blocklists(cmd.Context(), c.nodes)
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
			err = c.print(ls, func(w io.Writer) error {
				c.missing(ls.Coverage)
				return c.showListings(w, kept)
			})
			if err == nil && found {
				return &exitError{code: 1}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&listed, "listed", false, "only those that are listed")
	c.nodeFlag(cmd)
	return cmd
}

// blocklists asks all nodes, or the one that the server is.
func (m *mailbox) blocklists(ctx context.Context, nodes []string) (*policyapi.ClusterListings, error) {
	if m.cluster != nil {
		return m.cluster.Blocklists(ctx, nodes)
	}
	ls, err := m.node.Blocklists(ctx)
	if err != nil {
		return nil, err
	}
	return reshape[policyapi.ClusterListings](map[string]any{"items": ls})
}

func (c *cli) showListings(w io.Writer, ls []policyapi.NodeListing) error {
	var rows [][]string
	var nodes []string
	for i := range ls {
		l := &ls[i]
		nodes = append(nodes, l.Node)
		state := l.State
		switch l.State {
		case "clear":
			state = c.paint(state, green)
		case "listed":
			state = c.paint(state+" since "+human.Since(l.Since), red)
		case "refused", "failed":
			state = c.paint(state, yellow)
		}
		rows = append(rows, []string{l.Source, l.Address, l.Zone, state, human.Since(l.Checked), strings.Join(l.Means, ", "), l.Reason})
	}
	head, rows := withNode([]string{"SOURCE", "ADDRESS", "BLOCKLIST", "STATE", ">ASKED", "MEANS", "REASON"}, rows, nodes)
	return c.table(w, head, rows)
}
