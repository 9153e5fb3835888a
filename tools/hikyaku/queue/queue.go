package queue

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newQueueCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "queue",
		Short:   "List queues, say why they wait, act on them",
		GroupID: cli.GroupMail,
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(newQueueLsCmd(c), newQueueShowCmd(c), newQueueWhyCmd(c))
	for _, v := range verbs {
		cmd.AddCommand(newQueueVerbCmd(c, v))
	}
	return cmd
}

func newQueueLsCmd(c *cli.Call) *cobra.Command {
	var f api.QueueFilter
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List queues, the largest first",
		Example: `  hikyaku queue ls --tenant shop --sort age
  hikyaku queue ls --json --limit 1000`,
		Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			all, err := askQueues(cmd.Context(), m, c.Nodes, f)
			if err != nil {
				return err
			}
			return c.Print(all.raw, func(w io.Writer) error { return showQueues(c, w, all.list) })
		},
	}
	scopeFlags(cmd, &f.Scope)
	cmd.Flags().StringVar(&f.Sort, "sort", "size", "size, age, due or name")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "how many")
	return cmd
}

// collectQueues asks page by page until there are as many as wanted.
func collectQueues(ctx context.Context, ask func(context.Context, api.QueueFilter) (*api.QueueList, error), f api.QueueFilter) (*api.QueueList, error) {
	if f.Limit < 1 {
		return nil, cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	want, out := f.Limit, &api.QueueList{Queues: []api.Queue{}}
	for {
		f.Limit = min(want-len(out.Queues), mailbox.MaxPage)
		l, err := ask(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Queues = append(out.Queues, l.Queues...)
		out.Total, out.Next, out.Counted = l.Total, l.Next, l.Counted
		if f.Page = l.Next; f.Page == "" || len(out.Queues) >= want {
			return out, nil
		}
	}
}

// queues is a listing, and the answer that it was read from, for --json.
type queues struct {
	list *policyapi.ClusterQueues
	raw  any
}

func askQueues(ctx context.Context, m *mailbox.Mailbox, nodes []string, f api.QueueFilter) (*queues, error) {
	if m.Cluster == nil {
		all, err := collectQueues(ctx, m.Node.Queues, f)
		if err != nil {
			return nil, err
		}
		list, err := mailbox.Reshape[policyapi.ClusterQueues](all)
		return &queues{list, all}, err
	}
	if f.Limit < 1 {
		return nil, cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	out := &policyapi.ClusterQueues{Queues: []policyapi.NodeQueue{}}
	at := client.Where{Nodes: nodes}
	for first := true; first || at.Page != "" && len(out.Queues) < f.Limit; first = false {
		at.Limit = min(f.Limit-len(out.Queues), mailbox.MaxPage)
		l, err := m.Cluster.Queues(ctx, policyapi.MailScope(f.Scope), f.Sort, at)
		if err != nil {
			return nil, err
		}
		if first {
			out.Total, out.Counted = l.Total, l.Counted
		}
		out.Queues, out.Coverage = append(out.Queues, l.Queues...), mailbox.Gaps(out.Coverage, l.Coverage)
		at.Page, out.Next = l.Next, l.Next
	}
	return &queues{out, out}, nil
}

func showQueues(c *cli.Call, w io.Writer, l *policyapi.ClusterQueues) error {
	var rows [][]string
	var nodes []string
	for i := range l.Queues {
		q := &l.Queues[i]
		binding := q.Binding
		if binding != "" {
			binding = c.Paint(binding, cli.Yellow)
		}
		last := ""
		if q.Last != nil {
			last = human.ReplyText(&q.Last.Reply)
		}
		nodes = append(nodes, q.Node)
		rows = append(rows, []string{
			q.Destination, q.Priority, q.Tenant, q.Stream, q.Job, q.Carrier, human.Number(q.Queued), human.Number(q.InFlight),
			human.Since(q.Oldest), human.Until(q.NextDue), binding, last,
		})
	}
	head := []string{"DESTINATION", "PRIO", "TENANT", "STREAM", "JOB", "CARRIER", ">QUEUED", ">SENDING", ">OLDEST", ">DUE IN", "WAITS FOR", "LAST REPLY"}
	head, rows = mailbox.WithNode(head, rows, nodes)
	if err := c.Table(w, head, rows); err != nil {
		return err
	}
	if more := l.Total - len(l.Queues); more > 0 {
		fmt.Fprintf(c.Err, "%s more; --limit shows them\n", human.Count(int64(more), "queue", "queues"))
	}
	if !l.Counted {
		fmt.Fprintln(c.Err, "a node still counts after its start: sizes will grow")
	}
	mailbox.Missing(c, l.Coverage)
	return nil
}

func newQueueShowCmd(c *cli.Call) *cobra.Command {
	var f api.DeliveryFilter
	cmd := &cobra.Command{
		Use:   "show DESTINATION",
		Short: "List the deliveries queued for a destination",
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			f.Destination = args[0]
			out, raw, err := askDeliveries(cmd.Context(), m, c.Nodes, f)
			if err != nil {
				return err
			}
			return c.Print(raw, func(w io.Writer) error {
				if err := showDeliveries(c, w, out.Deliveries); err != nil {
					return err
				}
				if out.Next != "" {
					fmt.Fprintln(c.Err, "there are more; --limit shows them")
				}
				mailbox.Missing(c, out.Coverage)
				return nil
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Tenant, "tenant", "", "tenant")
	fl.StringVar(&f.Stream, "stream", "", "stream")
	fl.StringVar(&f.Pool, "pool", "", "pool")
	fl.StringVar(&f.Job, "job", "", "job")
	fl.IntVar(&f.Limit, "limit", 50, "how many")
	return cmd
}

func collectDeliveries(ctx context.Context, ask func(context.Context, api.DeliveryFilter) (*api.DeliveryList, error), f api.DeliveryFilter) (*api.DeliveryList, error) {
	if f.Limit < 1 {
		return nil, cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	want, out := f.Limit, &api.DeliveryList{Deliveries: []api.Delivery{}}
	for {
		f.Limit = min(want-len(out.Deliveries), mailbox.MaxPage)
		l, err := ask(ctx, f)
		if err != nil {
			return nil, err
		}
		out.Deliveries = append(out.Deliveries, l.Deliveries...)
		out.Next = l.Next
		if f.Page = l.Next; f.Page == "" || len(out.Deliveries) >= want {
			return out, nil
		}
	}
}

// askDeliveries gives the listing, and the answer that it was read from.
func askDeliveries(ctx context.Context, m *mailbox.Mailbox, nodes []string, f api.DeliveryFilter) (*policyapi.ClusterDeliveries, any, error) {
	if m.Cluster == nil {
		all, err := collectDeliveries(ctx, m.Node.Deliveries, f)
		if err != nil {
			return nil, nil, err
		}
		out, err := mailbox.Reshape[policyapi.ClusterDeliveries](all)
		return out, all, err
	}
	if f.Limit < 1 {
		return nil, nil, cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	out := &policyapi.ClusterDeliveries{Deliveries: []policyapi.NodeDelivery{}}
	at := client.Where{Nodes: nodes}
	for first := true; first || at.Page != "" && len(out.Deliveries) < f.Limit; first = false {
		at.Limit = min(f.Limit-len(out.Deliveries), mailbox.MaxPage)
		l, err := m.Cluster.Deliveries(ctx, policyapi.MailScope(f.Scope), at)
		if err != nil {
			return nil, nil, err
		}
		out.Deliveries, out.Coverage = append(out.Deliveries, l.Deliveries...), mailbox.Gaps(out.Coverage, l.Coverage)
		at.Page, out.Next = l.Next, l.Next
	}
	return out, out, nil
}

func showDeliveries(c *cli.Call, w io.Writer, ds []policyapi.NodeDelivery) error {
	var rows [][]string
	var nodes []string
	for i := range ds {
		d := &ds[i]
		last := ""
		if d.Last != nil {
			last = human.ReplyText(&d.Last.Reply)
		}
		for j, r := range d.Recipients {
			row := []string{d.ID, r.Address, c.State(r.State), human.Number(int64(d.Attempts)), human.Since(&d.Accepted), "", "", last}
			if r.State == "queued" {
				row[5], row[6] = human.Until(d.Due), human.Until(d.Expires)
			}
			if r.Reply != nil {
				row[7] = human.ReplyText(r.Reply)
			}
			if j > 0 {
				row[0] = ""
			}
			rows, nodes = append(rows, row), append(nodes, d.Node)
		}
	}
	head, rows := mailbox.WithNode([]string{"DELIVERY", "RECIPIENT", "STATE", ">TRIES", ">AGE", ">DUE IN", ">EXPIRES IN", "REPLY"}, rows, nodes)
	return c.Table(w, head, rows)
}

func newQueueWhyCmd(c *cli.Call) *cobra.Command {
	var s api.Scope
	cmd := &cobra.Command{
		Use:     "why [DESTINATION]",
		Short:   "Say which limits hold deliveries back",
		Example: "  hikyaku queue why docomo.ne.jp\n  hikyaku queue why --tenant shop --job news-1",
		Args:    cli.WantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := destinationArg(&s, args); err != nil {
				return err
			}
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			a, raw, err := askWhy(cmd.Context(), m, c.Nodes, s)
			if err != nil {
				return err
			}
			return c.Print(raw, func(w io.Writer) error { return showWhy(c, w, a) })
		},
	}
	scopeFlags(cmd, &s)
	return cmd
}

// askWhy gives the reasons, and the answer that they were read from.
func askWhy(ctx context.Context, m *mailbox.Mailbox, nodes []string, s api.Scope) (*policyapi.ClusterWhy, any, error) {
	if m.Cluster != nil {
		a, err := m.Cluster.Why(ctx, policyapi.MailScope(s), nodes)
		return a, a, err
	}
	raw, err := m.Node.Why(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	a, err := mailbox.Reshape[policyapi.ClusterWhy](raw)
	return a, raw, err
}

func showWhy(c *cli.Call, w io.Writer, a *policyapi.ClusterWhy) error {
	fmt.Fprintf(w, "%s queued for %s\n", human.Count(a.Queued, "delivery", "deliveries"), human.Clean(scopeText(api.Scope(a.Scope))))
	mailbox.Missing(c, a.Coverage)
	if len(a.Reasons) == 0 {
		_, err := fmt.Fprintln(w, "Nothing holds them back.")
		return err
	}
	var rows [][]string
	var nodes []string
	for _, r := range a.Reasons {
		nodes = append(nodes, r.Node)
		rows = append(rows, []string{c.Paint(r.Limit, cli.Yellow), r.Scope, r.Value, r.Used, human.Until(r.Until), r.Text})
	}
	head, rows := mailbox.WithNode([]string{"LIMIT", "ON", ">VALUE", ">USED", ">FREE IN", "WHY"}, rows, nodes)
	return c.Table(w, head, rows)
}
