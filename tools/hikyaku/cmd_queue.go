package main

import (
	"context"
	"fmt"
	"io"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
)

func newQueueCmd(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "queue",
		Short:   "List queues, say why they wait, act on them",
		GroupID: groupMail,
	}
	cmd.AddCommand(newQueueLsCmd(c), newQueueShowCmd(c), newQueueWhyCmd(c))
	for _, v := range verbs {
		cmd.AddCommand(newQueueVerbCmd(c, v))
	}
	return cmd
}

func newQueueLsCmd(c *cli) *cobra.Command {
	var f api.QueueFilter
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List queues, the largest first",
		Example: `  hikyaku queue ls --tenant shop --sort age
  hikyaku queue ls --json --limit 1000`,
		Args: wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := c.node()
			if err != nil {
				return err
			}
			all, err := collectQueues(cmd.Context(), n.Queues, f)
			if err != nil {
				return err
			}
			return c.print(all, func(w io.Writer) error { return c.showQueues(w, all) })
		},
	}
	scopeFlags(cmd, &f.Scope)
	cmd.Flags().StringVar(&f.Sort, "sort", "size", "size, age, due or name")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "how many")
	return cmd
}

// maxPage is how many the API gives at once.
const maxPage = 1000

// collectQueues asks page by page until there are as many as wanted.
func collectQueues(ctx context.Context, ask func(context.Context, api.QueueFilter) (*api.QueueList, error), f api.QueueFilter) (*api.QueueList, error) {
	if f.Limit < 1 {
		return nil, usageError("--limit %d: want at least 1", f.Limit)
	}
	want, out := f.Limit, &api.QueueList{Queues: []api.Queue{}}
	for {
		f.Limit = min(want-len(out.Queues), maxPage)
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

func (c *cli) showQueues(w io.Writer, l *api.QueueList) error {
	var rows [][]string
	for i := range l.Queues {
		q := &l.Queues[i]
		binding := q.Binding
		if binding != "" {
			binding = c.paint(binding, yellow)
		}
		last := ""
		if q.Last != nil {
			last = replyText(&q.Last.Reply)
		}
		rows = append(rows, []string{
			q.Destination, q.Priority, q.Tenant, q.Stream, q.Job, q.Carrier, number(q.Queued), number(q.InFlight),
			since(q.Oldest), until(q.NextDue), binding, last,
		})
	}
	head := []string{"DESTINATION", "PRIO", "TENANT", "STREAM", "JOB", "CARRIER", ">QUEUED", ">SENDING", ">OLDEST", ">DUE IN", "WAITS FOR", "LAST REPLY"}
	if err := c.table(w, head, rows); err != nil {
		return err
	}
	if more := l.Total - len(l.Queues); more > 0 {
		fmt.Fprintf(c.err, "%s more; --limit shows them\n", count(int64(more), "queue", "queues"))
	}
	if !l.Counted {
		fmt.Fprintln(c.err, "the node still counts after its start: sizes will grow")
	}
	return nil
}

func newQueueShowCmd(c *cli) *cobra.Command {
	var f api.DeliveryFilter
	cmd := &cobra.Command{
		Use:   "show DESTINATION",
		Short: "List the deliveries queued for a destination",
		Args:  wantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := c.node()
			if err != nil {
				return err
			}
			f.Destination = args[0]
			out, err := collectDeliveries(cmd.Context(), n.Deliveries, f)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) error {
				if err := c.showDeliveries(w, out.Deliveries); err != nil {
					return err
				}
				if out.Next != "" {
					fmt.Fprintln(c.err, "there are more; --limit shows them")
				}
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
		return nil, usageError("--limit %d: want at least 1", f.Limit)
	}
	want, out := f.Limit, &api.DeliveryList{Deliveries: []api.Delivery{}}
	for {
		f.Limit = min(want-len(out.Deliveries), maxPage)
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

func (c *cli) showDeliveries(w io.Writer, ds []api.Delivery) error {
	var rows [][]string
	for i := range ds {
		d := &ds[i]
		last := ""
		if d.Last != nil {
			last = replyText(&d.Last.Reply)
		}
		for j, r := range d.Recipients {
			row := []string{d.ID, r.Address, c.state(r.State), number(int64(d.Attempts)), since(&d.Accepted), "", "", last}
			if r.State == "queued" {
				row[5], row[6] = until(d.Due), until(d.Expires)
			}
			if r.Reply != nil {
				row[7] = replyText(r.Reply)
			}
			if j > 0 {
				row[0] = ""
			}
			rows = append(rows, row)
		}
	}
	return c.table(w, []string{"DELIVERY", "RECIPIENT", "STATE", ">TRIES", ">AGE", ">DUE IN", ">EXPIRES IN", "REPLY"}, rows)
}

func newQueueWhyCmd(c *cli) *cobra.Command {
	var s api.Scope
	cmd := &cobra.Command{
		Use:     "why [DESTINATION]",
		Short:   "Say which limits hold deliveries back",
		Example: "  hikyaku queue why docomo.ne.jp\n  hikyaku queue why --tenant shop --job news-1",
		Args:    wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := destinationArg(&s, args); err != nil {
				return err
			}
			n, err := c.node()
			if err != nil {
				return err
			}
			a, err := n.Why(cmd.Context(), s)
			if err != nil {
				return err
			}
			return c.print(a, func(w io.Writer) error { return c.showWhy(w, a) })
		},
	}
	scopeFlags(cmd, &s)
	return cmd
}

func (c *cli) showWhy(w io.Writer, a *api.WhyAnswer) error {
	fmt.Fprintf(w, "%s queued for %s\n", count(a.Queued, "delivery", "deliveries"), clean(scopeText(a.Scope)))
	if len(a.Reasons) == 0 {
		_, err := fmt.Fprintln(w, "Nothing holds them back.")
		return err
	}
	var rows [][]string
	for _, r := range a.Reasons {
		rows = append(rows, []string{c.paint(r.Limit, yellow), r.Scope, r.Value, r.Used, until(r.Until), r.Text})
	}
	return c.table(w, []string{"LIMIT", "ON", ">VALUE", ">USED", ">FREE IN", "WHY"}, rows)
}

// verb is one action with the words for it.
type verb struct {
	name, done, short string
	final             bool // cannot be undone: asks first
}

var verbs = []verb{
	{api.VerbHold, "held", "Stop sending until released", false},
	{api.VerbRelease, "released", "End a hold", false},
	{api.VerbRetry, "to be tried now", "Try again now instead of waiting", false},
	{api.VerbCancel, "cancelled", "Take deliveries out of the queue, without a notice", true},
	{api.VerbExpire, "expired", "End deliveries as if their time were up, with a notice", true},
}

// actFlags are the flags of every verb.
type actFlags struct {
	api.ActionRequest
	lasts policy.Duration
	yes   bool
}

func newQueueVerbCmd(c *cli, v verb) *cobra.Command {
	var f actFlags
	cmd := &cobra.Command{
		Use:     v.name + " [DESTINATION]",
		Short:   v.short,
		Example: fmt.Sprintf("  hikyaku queue %s docomo.ne.jp\n  hikyaku queue %s --tenant shop --job news-1 --reason \"wrong link\"", v.name, v.name),
		Args:    wantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := destinationArg(&f.Scope, args); err != nil {
				return err
			}
			if f.Scope == (api.Scope{}) && !f.All {
				return usageError("%s of what? Name a destination or give --tenant, --stream, --pool, --job, --carrier or --source.\nhint: --all means all mail of the node", v.name)
			}
			f.Verb = v.name
			return c.act(cmd.Context(), v, &f)
		},
	}
	scopeFlags(cmd, &f.Scope)
	cmd.Flags().BoolVar(&f.All, "all", false, "all mail of the node")
	cmd.Flags().StringVar(&f.Reason, "reason", "", "why, for those who come after")
	if v.name == api.VerbHold {
		durationFlag(cmd, &f.lasts, "for", 0, "release by itself after this `time`, as in 30m or 2d")
	}
	if v.final {
		cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	}
	return cmd
}

// act carries out an action and says what it did.
func (c *cli) act(ctx context.Context, v verb, f *actFlags) error {
	n, err := c.node()
	if err != nil {
		return err
	}
	if v.final && !f.yes {
		what := "message " + f.Message
		if f.Message == "" {
			a, err := n.Why(ctx, f.Scope)
			if err != nil {
				return err
			}
			what = count(a.Queued, "delivery", "deliveries") + " (" + scopeText(f.Scope) + ")"
		}
		if err := c.confirm(fmt.Sprintf("This will %s %s for good.", v.name, clean(what))); err != nil {
			return err
		}
	}
	if f.lasts > 0 {
		at := time.Now().Add(f.lasts.D())
		f.Expires = &at
	}
	if u, err := user.Current(); err == nil {
		f.Author = u.Username
	}
	r, err := n.Act(ctx, &f.ActionRequest)
	if err != nil {
		return err
	}
	return c.print(r, func(w io.Writer) error { return c.showAction(w, v, r) })
}

func (c *cli) showAction(w io.Writer, v verb, r *api.ActionResult) error {
	if v.name == api.VerbHold && r.Affected == 0 {
		fmt.Fprintf(w, "nothing is queued now; mail that comes for %s will wait\n", clean(scopeText(r.Scope)))
	} else {
		fmt.Fprintf(w, "%s %s\n", count(r.Affected, "delivery", "deliveries"), v.done)
	}
	if r.TooLate > 0 {
		fmt.Fprintf(w, "%s being sent: too late, the outcome stands\n", count(r.TooLate, "delivery is", "deliveries are"))
	}
	if r.Running {
		fmt.Fprintln(w, "The rest is done in the background; \"hikyaku actions ls\" shows what stands.")
	}
	if v.name != api.VerbHold {
		return nil
	}
	_, err := fmt.Fprintf(w, "action %s; \"hikyaku actions rm %s\" ends it\n", clean(r.ID), clean(r.ID))
	return err
}
