package top

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
	"hikyaku/tools/hikyaku/screen"
)

func newTopCmd(c *cli.Call) *cobra.Command {
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the cluster or a node: rates, queues, what waits for what, latency, errors",
		Long: `Watch all nodes together and each in a line, or the one node that the server
is. Without a terminal, and with --once or --json, one look is
printed. Keys: q ends, p pauses, + and - change the interval.`,
		GroupID: cli.GroupMail,
		Args:    cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond || every > time.Hour {
				return cli.UsageError("--interval %s: want 100ms to 1h", every)
			}
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			look := askOverview(m, c.Nodes)
			in, live := screen.Terminal(c)
			if once || c.JSON || !live {
				o, err := look(cmd.Context())
				if err != nil {
					return err
				}
				return c.Print(o.raw, func(w io.Writer) error {
					_, err := io.WriteString(w, topView(c, &topState{now: o.Overview, each: o.each, lacks: o.lacks, alarms: o.alarms, width: 120}, false))
					return err
				})
			}
			return screen.Watch(cmd.Context(), c, in, every, &model{c: c, look: look})
		},
	}
	mailbox.NodeFlag(c, cmd)
	cmd.Flags().BoolVar(&once, "once", false, "print one look and end")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "time between looks")
	return cmd
}

// topLook is one look: at a node, or at all with a line for each.
type topLook struct {
	*api.Overview
	each  []policyapi.NodeSummary
	lacks policyapi.Coverage
	// alarms are the leader's, of the cluster as a whole: sources that a carrier
	// blocks, held tenants, sources without a node.
	alarms []string
	raw    any // the answer that it was read from
}

// askOverview is how to look. The leader is asked beside the nodes, and may be
// away: they say so themselves.
func askOverview(m *mailbox.Mailbox, nodes []string) func(context.Context) (*topLook, error) {
	if m.Cluster == nil {
		return func(ctx context.Context) (*topLook, error) {
			o, err := m.Node.Overview(ctx)
			if err != nil {
				return nil, err
			}
			return &topLook{Overview: o, raw: o}, nil
		}
	}
	return func(ctx context.Context) (*topLook, error) {
		all, err := m.Cluster.Overview(ctx, nodes)
		if err != nil {
			return nil, err
		}
		o, err := mailbox.Reshape[api.Overview](all)
		if err != nil {
			return nil, err
		}
		o.Node = fmt.Sprintf("cluster, %d of %s", all.Answered, human.Count(int64(all.Nodes), "node", "nodes"))
		for i := range all.Gates {
			o.Gates[i].Name = all.Gates[i].Name + " of " + all.Gates[i].Node
		}
		look := &topLook{Overview: o, each: all.Each, lacks: all.Coverage, raw: all}
		if l, err := m.Cluster.Leader(ctx); err == nil {
			look.alarms = l.Alarms
		}
		return look, nil
	}
}
