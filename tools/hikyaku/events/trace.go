package events

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newTraceCmd(c *cli.Call) *cobra.Command {
	var f api.TraceFilter
	var d policy.Duration
	var lines int
	cmd := &cobra.Command{
		Use:   "trace [DESTINATION]",
		Short: "Watch SMTP sessions live",
		Long: `Watch SMTP sessions as they happen, in both directions. Content is not shown
and credentials are replaced. A node under load drops lines rather than slow
down.`,
		Example: `  hikyaku trace docomo.ne.jp
  hikyaku trace --direction in --host 192.0.2.7
  hikyaku trace --recipient user@example.com --for 10m`,
		GroupID: cli.GroupMail,
		Args:    cli.WantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if f.Destination != "" {
					return cli.UsageError("the destination is given twice: %q and --destination %q", args[0], f.Destination)
				}
				f.Destination = args[0]
			}
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			if m.Cluster == nil {
				return ended(cmd.Context(), m.Node.Trace(cmd.Context(), f, d.D(), lines, traceLines(c)))
			}
			return traceAll(cmd.Context(), c, m, f, d.D(), lines)
		},
	}
	mailbox.NodeFlag(c, cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.Direction, "direction", "", "in or out; both if not given")
	fl.StringVar(&f.Destination, "destination", "", "recipient domain")
	fl.StringVar(&f.Host, "host", "", "name or address of the peer")
	fl.StringVar(&f.Sender, "sender", "", "envelope sender")
	fl.StringVar(&f.Recipient, "recipient", "", "recipient")
	cli.DurationFlag(cmd, &d, "for", time.Minute, "end after this `time`, at most 1h")
	fl.IntVar(&lines, "count", 10000, "end after this many lines")
	return cmd
}

// traceAll follows the sessions of all nodes. A line's peer begins with the
// node's name.
func traceAll(ctx context.Context, c *cli.Call, m *mailbox.Mailbox, f api.TraceFilter, d time.Duration, count int) error {
	q := url.Values{"seconds": {strconv.Itoa(int((d + time.Second - 1) / time.Second))}, "count": {strconv.Itoa(count)}}
	for _, p := range [][2]string{{"direction", f.Direction}, {"destination", f.Destination}, {"host", f.Host}, {"sender", f.Sender}, {"recipient", f.Recipient}} {
		if p[1] != "" {
			q.Set(p[0], p[1])
		}
	}
	show := traceLines(c)
	end, err := m.Cluster.Trace(ctx, q, c.Nodes, func(line []byte) error {
		if c.JSON {
			_, err := fmt.Fprintf(c.Out, "%s\n", line)
			return err
		}
		t, err := client.DecodeTrace(line)
		if err != nil {
			return err
		}
		return show(&api.TraceLine{Time: t.Time, Session: t.Session, Direction: t.Direction, Kind: t.Kind, Text: t.Text, Peer: strings.TrimSpace(t.Node + " " + t.Peer)})
	})
	streamMissing(c, end)
	return ended(ctx, err)
}

// traceLines prints lines, each with the time since the line of its session
// that was shown before: that is where a slow peer is seen.
func traceLines(c *cli.Call) func(*api.TraceLine) error {
	last := map[string]time.Time{} // at most as many as lines are shown
	return func(t *api.TraceLine) error {
		var since time.Duration
		if at, ok := last[t.Session]; ok {
			since = max(0, t.Time.Sub(at))
		}
		last[t.Session] = t.Time
		return traceLine(c, t, since)
	}
}

// traceLine prints one line: session, time since its last line, direction and
// text.
func traceLine(c *cli.Call, t *api.TraceLine, since time.Duration) error {
	if c.JSON {
		b, err := json.Marshal(t)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s\n", b)
		return err
	}
	arrow, col := "--", cli.Dim
	switch t.Kind {
	case "sent":
		arrow, col = "->", cli.Cyan
	case "received":
		arrow, col = "<-", cli.Green
	}
	where := t.Peer
	_, err := fmt.Fprintf(c.Out, "%s %s %-3s %s %8s %s %s\n", t.Time.Local().Format("15:04:05.000"), human.Clean(t.Session), human.Clean(t.Direction),
		human.Clean(where), "+"+human.Span(since), c.Paint(arrow, col), c.Paint(human.Clean(strings.ReplaceAll(t.Text, "\n", " ")), col))
	return err
}
