package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/human"
)

func newWebhookCmd(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Show how webhooks stand; send one a ping",
		Long: `Webhooks are resources of policy (kind Webhook) that name URLs to which events are
posted. Each node posts its own events, at least once, in batches; what an
endpoint does not take is tried again for a day.`,
		GroupID: groupMail,
	}
	c.nodeFlag(cmd)
	cmd.AddCommand(newWebhookListCmd(c), newWebhookTestCmd(c))
	return cmd
}

func newWebhookListCmd(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List webhooks, how far they are behind and why", Args: wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := c.mail(cmd.Context())
			if err != nil {
				return err
			}
			ws, err := m.webhooks(cmd.Context(), c.nodes)
			if err != nil {
				return err
			}
			return c.print(ws, func(w io.Writer) error {
				c.missing(ws.Coverage)
				return c.showWebhooks(w, ws.Items)
			})
		},
	}
	return cmd
}

// webhooks asks all nodes, or the one that the server is.
func (m *mailbox) webhooks(ctx context.Context, nodes []string) (*policyapi.ClusterWebhooks, error) {
	if m.cluster != nil {
		return m.cluster.Webhooks(ctx, nodes)
	}
	ws, err := m.node.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	return reshape[policyapi.ClusterWebhooks](ws)
}

func (c *cli) showWebhooks(w io.Writer, ws []policyapi.NodeWebhook) error {
	var rows [][]string
	var nodes []string
	for i := range ws {
		h := &ws[i]
		nodes = append(nodes, h.Node)
		rows = append(rows, []string{
			h.Name, h.Tenant, h.Endpoint, c.webhookState(h), human.Number(int64(h.Behind)), age(h.BehindSeconds),
			human.Since(h.LastSuccess), human.Number(int64(h.Posted)), givenUp(h), h.LastError,
		})
	}
	head, rows := withNode([]string{"WEBHOOK", "TENANT", "ENDPOINT", "STATE", ">BEHIND", ">LAG", ">LAST TAKEN", ">POSTED", ">GIVEN UP", "LAST ERROR"}, rows, nodes)
	return c.table(w, head, rows)
}

// webhookState is the state, with how long it has lasted.
func (c *cli) webhookState(h *policyapi.NodeWebhook) string {
	text := h.State
	if h.Since != nil {
		text += " since " + human.Since(h.Since)
	}
	switch h.State {
	case "ok":
		return c.paint(text, green)
	case "retrying":
		return c.paint(text, yellow)
	case "disabled":
		return text
	}
	return c.paint(text, red)
}

// age is a span of seconds, "" for none.
func age(seconds float64) string {
	if seconds <= 0 {
		return ""
	}
	return human.Span(time.Duration(seconds * float64(time.Second)))
}

// givenUp counts what will not be posted, lost numbers among it.
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
	return text
}

func newWebhookTestCmd(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "test NAME", Short: "Post an event of the type ping, signed as others are", Args: wantArgs(1, 1),
		Long: `Post an event of the type ping to a webhook from each node, or from those that
--node names, and show the answers. A disabled webhook can be tested too. The
exit code is 1 if one ping was not taken.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := c.mail(cmd.Context())
			if err != nil {
				return err
			}
			ps, err := m.ping(cmd.Context(), c.nodes, args[0])
			if notFound(err) {
				return hint(err, "\"hikyaku webhook list\" shows those there are")
			}
			if err != nil {
				return err
			}
			err = c.print(ps, func(w io.Writer) error {
				c.missing(ps.Coverage)
				return c.showPings(w, ps.Items)
			})
			if err != nil {
				return err
			}
			for _, p := range ps.Items {
				if !p.OK {
					return &exitError{code: 1}
				}
			}
			return nil
		},
	}
}

func (m *mailbox) ping(ctx context.Context, nodes []string, name string) (*policyapi.ClusterPings, error) {
	if m.cluster != nil {
		return m.cluster.TestWebhook(ctx, nodes, name)
	}
	t, err := m.node.TestWebhook(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := reshape[policyapi.NodePing](t)
	if err != nil {
		return nil, err
	}
	return &policyapi.ClusterPings{Items: []policyapi.NodePing{*p}}, nil
}

func (c *cli) showPings(w io.Writer, ps []policyapi.NodePing) error {
	var rows [][]string
	var nodes []string
	for _, p := range ps {
		nodes = append(nodes, p.Node)
		state := c.paint("taken", green)
		if !p.OK {
			state = c.paint("not taken", red)
		}
		status := ""
		if p.HTTPStatus != 0 {
			status = fmt.Sprint(p.HTTPStatus)
		}
		rows = append(rows, []string{p.Name, state, status, human.Span(time.Duration(p.Seconds * float64(time.Second))), p.Error})
	}
	head, rows := withNode([]string{"WEBHOOK", "PING", ">STATUS", ">TOOK", "ERROR"}, rows, nodes)
	return c.table(w, head, rows)
}
