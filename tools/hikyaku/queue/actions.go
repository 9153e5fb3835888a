package queue

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newActionsCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "actions",
		Short:   "List holds and cancels that stand, and end them",
		GroupID: cli.GroupMail,
	}
	ls := &cobra.Command{
		Use:   "ls",
		Short: "List holds and cancels that stand",
		Args:  cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			as, raw, err := askActions(cmd.Context(), m, c.Nodes)
			if err != nil {
				return err
			}
			return c.Print(raw, func(w io.Writer) error {
				mailbox.Missing(c, as.Coverage)
				var rows [][]string
				var nodes []string
				for _, a := range as.Items {
					nodes = append(nodes, strings.Join(a.On, " "))
					on := scopeText(api.Scope(a.Scope))
					if a.Message != "" {
						on = "message " + a.Message
					}
					rows = append(rows, []string{a.ID, a.Verb, on, human.Since(&a.Created), human.Until(a.Expires), a.Author, a.Reason})
				}
				head, rows := mailbox.WithNode([]string{"ID", "ACTION", "ON", ">AGE", ">ENDS IN", "BY", "REASON"}, rows, nodes)
				return c.Table(w, head, rows)
			})
		},
	}
	rm := &cobra.Command{
		Use:   "rm ID",
		Short: "End a hold",
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			if m.Cluster != nil {
				return endEverywhere(cmd.Context(), c, m, args[0])
			}
			r, err := m.Node.DeleteAction(cmd.Context(), args[0])
			if cli.NotFound(err) {
				return cli.Hint(err, "\"hikyaku actions ls\" lists what stands")
			}
			if err != nil {
				return err
			}
			return c.Print(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "ended %s of %s\n", human.Clean(r.Verb), human.Clean(scopeText(r.Scope)))
				return err
			})
		},
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(ls, rm)
	return cmd
}

// askActions gives what stands, and the answer that it was read from.
func askActions(ctx context.Context, m *mailbox.Mailbox, nodes []string) (*policyapi.ClusterActions, any, error) {
	if m.Cluster != nil {
		out, err := m.Cluster.Actions(ctx, nodes)
		return out, out, err
	}
	raw, err := m.Node.Actions(ctx)
	if err != nil {
		return nil, nil, err
	}
	out, err := mailbox.Reshape[policyapi.ClusterActions](map[string]any{"items": raw})
	return out, raw, err
}

// endEverywhere takes an action back on all nodes.
func endEverywhere(ctx context.Context, c *cli.Call, m *mailbox.Mailbox, id string) error {
	r, err := m.Cluster.DeleteAction(ctx, id, c.Nodes)
	if cli.NotFound(err) {
		return cli.Hint(err, "\"hikyaku actions ls\" lists what stands")
	}
	if err != nil {
		return err
	}
	if err := c.Print(r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ended on %s\n", human.Count(int64(len(r.Acknowledged)), "node", "nodes"))
		return err
	}); err != nil || r.Complete {
		return err
	}
	mailbox.Missing(c, r.Coverage)
	return &cli.ExitError{Code: cli.ExitPartly, Text: "not everywhere: give the command again when the missing nodes are back; that is harmless"}
}
