package webhook

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newWebhookCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Show how webhooks stand; send one a ping",
		Long: `Webhooks are resources of policy (kind Webhook) that name URLs to which events are
posted. Each node posts its own events, at least once, in batches; what an
endpoint does not take is tried again for a day.`,
		GroupID: cli.GroupMail,
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(newWebhookListCmd(c), newWebhookTestCmd(c))
	return cmd
}

func newWebhookListCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List webhooks, how far they are behind and why", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			ws, err := askWebhooks(cmd.Context(), m, c.Nodes)
			if err != nil {
				return err
			}
			return c.Print(ws, func(w io.Writer) error {
				mailbox.Missing(c, ws.Coverage)
				return showWebhooks(c, w, ws.Items)
			})
		},
	}
	return cmd
}

// askWebhooks asks all nodes, or the one that the server is.
func askWebhooks(ctx context.Context, m *mailbox.Mailbox, nodes []string) (*policyapi.ClusterWebhooks, error) {
	if m.Cluster != nil {
		return m.Cluster.Webhooks(ctx, nodes)
	}
	ws, err := m.Node.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	return mailbox.Reshape[policyapi.ClusterWebhooks](ws)
}

func showWebhooks(c *cli.Call, w io.Writer, ws []policyapi.NodeWebhook) error {
	var rows [][]string
	var nodes []string
	for i := range ws {
		h := &ws[i]
		nodes = append(nodes, h.Node)
		rows = append(rows, []string{
			h.Name, h.Tenant, h.Endpoint, webhookState(c, h), human.Number(int64(h.Behind)), age(h.BehindSeconds),
			human.Since(h.LastSuccess), human.Number(int64(h.Posted)), givenUp(h), h.LastError,
		})
	}
	head, rows := mailbox.WithNode([]string{"WEBHOOK", "TENANT", "ENDPOINT", "STATE", ">BEHIND", ">LAG", ">LAST TAKEN", ">POSTED", ">GIVEN UP", "LAST ERROR"}, rows, nodes)
	return c.Table(w, head, rows)
}

// webhookState is the state, with how long it has lasted.
func webhookState(c *cli.Call, h *policyapi.NodeWebhook) string {
	text := h.State
	if h.Since != nil {
		text += " since " + human.Since(h.Since)
	}
	switch h.State {
	case "ok":
		return c.Paint(text, cli.Green)
	case "retrying":
		return c.Paint(text, cli.Yellow)
	case "disabled":
		return text
	}
	return c.Paint(text, cli.Red)
}

// age is a span of seconds, "" for none.
func age(seconds float64) string {
	if seconds <= 0 {
		return ""
	}
	return human.Span(time.Duration(seconds * float64(time.Second)))
}

// givenUp counts what will not be posted, lost and unreadable lines of the event
// log among it.
func givenUp(h *policyapi.NodeWebhook) string {
	text := ""
	if h.GivenUp > 0 {
		text = human.Number(int64(h.GivenUp))
	}
	if h.Lost > 0 {
		if text != "" {
			text += " + "
		}
		text += human.Number(int64(h.Lost)) + " lost"
	}
	if h.Unreadable > 0 {
		if text != "" {
			text += " + "
		}
		text += human.Number(int64(h.Unreadable)) + " unreadable"
	}
	return text
}

func newWebhookTestCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use: "test NAME", Short: "Post an event of the type ping, signed as others are", Args: cli.WantArgs(1, 1),
		Long: `Post an event of the type ping to a webhook from each node, or from those that
--node names, and show the answers. A disabled webhook can be tested too. The
exit code is 1 if one ping was not taken.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			ps, err := ping(cmd.Context(), m, c.Nodes, args[0])
			if cli.NotFound(err) {
				return cli.Hint(err, "\"hikyaku webhook list\" shows those there are")
			}
			if err != nil {
				return err
			}
			err = c.Print(ps, func(w io.Writer) error {
				mailbox.Missing(c, ps.Coverage)
				return showPings(c, w, ps.Items)
			})
			if err != nil {
				return err
			}
			for _, p := range ps.Items {
				if !p.OK {
					return &cli.ExitError{Code: 1}
				}
			}
			return nil
		},
	}
}

func ping(ctx context.Context, m *mailbox.Mailbox, nodes []string, name string) (*policyapi.ClusterPings, error) {
	if m.Cluster != nil {
		return m.Cluster.TestWebhook(ctx, nodes, name)
	}
	t, err := m.Node.TestWebhook(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := mailbox.Reshape[policyapi.NodePing](t)
	if err != nil {
		return nil, err
	}
	return &policyapi.ClusterPings{Items: []policyapi.NodePing{*p}}, nil
}

func showPings(c *cli.Call, w io.Writer, ps []policyapi.NodePing) error {
	var rows [][]string
	var nodes []string
	for _, p := range ps {
		nodes = append(nodes, p.Node)
		state := c.Paint("taken", cli.Green)
		if !p.OK {
			state = c.Paint("not taken", cli.Red)
		}
		status := ""
		if p.HTTPStatus != 0 {
			status = fmt.Sprint(p.HTTPStatus)
		}
		rows = append(rows, []string{p.Name, state, status, human.Span(time.Duration(p.Seconds * float64(time.Second))), p.Error})
	}
	head, rows := mailbox.WithNode([]string{"WEBHOOK", "PING", ">STATUS", ">TOOK", "ERROR"}, rows, nodes)
	return c.Table(w, head, rows)
}
