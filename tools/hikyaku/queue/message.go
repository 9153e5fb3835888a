package queue

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newMessageCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "message",
		Short:   "Show a message and where its recipients stand; cancel it",
		GroupID: cli.GroupMail,
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(newMessageShowCmd(c), newMessageCancelCmd(c))
	return cmd
}

func newMessageShowCmd(c *cli.Call) *cobra.Command {
	o := api.MessageOptions{Limit: 100}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a message, given its id or that of one of its deliveries",
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			m, raw, err := askMessage(cmd.Context(), from, c.Nodes, args[0], o)
			if cli.NotFound(err) {
				return cli.Hint(err, "a message is kept for a while after its end; \"hikyaku events search --id %s\" has its whole story", args[0])
			}
			if err != nil {
				return err
			}
			return c.Print(raw, func(w io.Writer) error {
				for i := range m.Messages {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := showMessage(c, w, &m.Messages[i], o.Content); err != nil {
						return err
					}
				}
				mailbox.Missing(c, m.Coverage)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&o.Content, "content", false, "with the stored content")
	cmd.Flags().IntVar(&o.From, "from", 0, "first delivery shown")
	cmd.Flags().IntVar(&o.Limit, "limit", 100, "how many deliveries, at most 1000")
	return cmd
}

// askMessage gives what each node knows of it, and the answer that it was read
// from.
func askMessage(ctx context.Context, m *mailbox.Mailbox, nodes []string, id string, o api.MessageOptions) (*policyapi.ClusterMessage, any, error) {
	if m.Cluster != nil {
		out, err := m.Cluster.Message(ctx, id, client.MessageOptions{Content: o.Content, From: o.From, Limit: o.Limit, Nodes: nodes})
		return out, out, err
	}
	raw, err := m.Node.Message(ctx, id, o)
	if err != nil {
		return nil, nil, err
	}
	one, err := mailbox.Reshape[policyapi.NodeMessage](raw)
	if err != nil {
		return nil, nil, err
	}
	return &policyapi.ClusterMessage{Messages: []policyapi.NodeMessage{*one}}, raw, nil
}

func showMessage(c *cli.Call, w io.Writer, m *policyapi.NodeMessage, content bool) error {
	sender, bytes := m.Sender, human.Size(m.Size)
	switch {
	case m.Via == "": // no longer stored
		sender, bytes = "", ""
	case sender == "":
		sender = "<> (null sender)"
	}
	for _, f := range []struct{ name, v string }{
		{"node", m.Node}, {"message", m.ID}, {"sender", sender}, {"tenant", m.Tenant}, {"stream", m.Stream}, {"pool", m.Pool}, {"job", m.Job},
		{"priority", m.Priority}, {"tags", strings.Join(m.Tags, " ")}, {"accepted", human.Stamp(m.Accepted) + ", " + human.Since(&m.Accepted) + " ago"},
		{"via", strings.TrimSpace(m.Via + " " + m.From)}, {"size", bytes},
	} {
		if f.v != "" {
			fmt.Fprintf(w, "%-9s %s\n", f.name, human.Clean(f.v))
		}
	}
	fmt.Fprintln(w)
	if err := showDeliveries(c, w, m.Deliveries); err != nil {
		return err
	}
	if m.Via == "" {
		fmt.Fprintf(c.Err, "sender and content are kept until the last delivery has ended; \"hikyaku events search --id %s\" has the whole story\n", human.Clean(m.ID))
	}
	if m.Next > 0 {
		fmt.Fprintf(c.Err, "%s in all; --from %d shows the next\n", human.Count(int64(m.Count), "delivery", "deliveries"), m.Next)
	}
	if !content {
		return nil
	}
	switch {
	case m.Template != nil:
		fmt.Fprintln(w, "\nTemplate:")
		return c.PrintJSON(m.Template)
	case len(m.Raw) > 0:
		// Mail is text from elsewhere: control bytes must not reach a terminal.
		_, err := fmt.Fprintf(w, "\n%s", human.Clean(strings.ReplaceAll(string(m.Raw), "\r\n", "\n")))
		return err
	}
	return nil
}

func newMessageCancelCmd(c *cli.Call) *cobra.Command {
	var f actFlags
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel what is still queued of a message or of one delivery",
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Verb, f.Message = api.VerbCancel, args[0]
			return act(cmd.Context(), c, verb{name: api.VerbCancel, done: "cancelled", final: true}, &f)
		},
	}
	cmd.Flags().StringVar(&f.Reason, "reason", "", "why, for those who come after")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	orderFlags(cmd, &f)
	return cmd
}
