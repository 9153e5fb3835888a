package queue

import (
	"context"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

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
	order string
	retry policy.Duration
}

func newQueueVerbCmd(c *cli.Call, v verb) *cobra.Command {
	var f actFlags
	cmd := &cobra.Command{
		Use:     v.name + " [DESTINATION]",
		Short:   v.short,
		Example: fmt.Sprintf("  hikyaku queue %s docomo.ne.jp\n  hikyaku queue %s --tenant shop --job news-1 --reason \"wrong link\"", v.name, v.name),
		Args:    cli.WantArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := destinationArg(&f.Scope, args); err != nil {
				return err
			}
			if f.Scope == (api.Scope{}) && !f.All {
				return cli.UsageError("%s of what? Name a destination or give --tenant, --stream, --pool, --job, --carrier or --source.\nhint: --all means all mail", v.name)
			}
			f.Verb = v.name
			return act(cmd.Context(), c, v, &f)
		},
	}
	scopeFlags(cmd, &f.Scope)
	cmd.Flags().BoolVar(&f.All, "all", false, "all mail")
	cmd.Flags().StringVar(&f.Reason, "reason", "", "why, for those who come after")
	if v.name == api.VerbHold {
		cli.DurationFlag(cmd, &f.lasts, "for", 0, "release by itself after this `time`, as in 30m or 2d")
	}
	orderFlags(cmd, &f)
	if v.final {
		cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	}
	return cmd
}

// orderFlags are for orders that have not reached every node.
func orderFlags(cmd *cobra.Command, f *actFlags) {
	cmd.Flags().StringVar(&f.order, "order", "", "repeat the order of this `id` with the same scope; harmless where it was carried out")
	cli.DurationFlag(cmd, &f.retry, "retry-missing", 0, "ask nodes that have not acknowledged again for this `time`, as in 10m")
}

// act carries out an action and says what it did.
func act(ctx context.Context, c *cli.Call, v verb, f *actFlags) error {
	m, err := mailbox.Open(ctx, c)
	if err != nil {
		return err
	}
	if v.final && !f.yes {
		what := "message " + f.Message
		if f.Message == "" {
			a, _, err := askWhy(ctx, m, c.Nodes, f.Scope)
			if err != nil {
				return err
			}
			what = human.Count(a.Queued, "delivery", "deliveries") + " (" + scopeText(f.Scope) + ")"
		}
		if err := c.Confirm(fmt.Sprintf("This will %s %s for good.", v.name, human.Clean(what))); err != nil {
			return err
		}
	}
	if f.lasts > 0 {
		at := time.Now().Add(f.lasts.D())
		f.Expires = &at
	}
	if m.Cluster != nil {
		return orderAll(ctx, c, m, v, f)
	}
	if u, err := user.Current(); err == nil {
		f.Author = u.Username
	}
	f.ID = f.order
	r, err := m.Node.Act(ctx, &f.ActionRequest)
	if err != nil {
		return err
	}
	return c.Print(r, func(w io.Writer) error { return showAction(c, w, v, r) })
}

// orderAll gives an order to all nodes, and again to those that are missing.
func orderAll(ctx context.Context, c *cli.Call, m *mailbox.Mailbox, v verb, f *actFlags) error {
	o := &policyapi.MailOrder{Verb: f.Verb, Scope: policyapi.MailScope(f.Scope), Message: f.Message, Reason: f.Reason, Expires: f.Expires, All: f.All, ID: f.order, Nodes: c.Nodes}
	r, err := m.Cluster.Act(ctx, o)
	if err != nil {
		return err
	}
	o.ID = r.ID
	for end := time.Now().Add(f.retry.D()); r.Status != policyapi.Everywhere && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryEvery):
		}
		o.Nodes = nil
		for _, n := range r.Missing {
			o.Nodes = append(o.Nodes, n.Node)
		}
		again, err := m.Cluster.Act(ctx, o)
		if err != nil {
			fmt.Fprintf(c.Err, "again: %v\n", err)
			continue
		}
		r = joinOrdered(r, again)
	}
	if err := c.Print(r, func(w io.Writer) error { return showOrdered(c, w, v, r) }); err != nil {
		return err
	}
	if r.Status == policyapi.Everywhere {
		return nil
	}
	return &cli.ExitError{Code: cli.ExitPartly, Text: partlyText(c, v, f, r)}
}

// retryEvery is how long nodes that are missing are left alone.
const retryEvery = 2 * time.Second

// joinOrdered adds the answers of nodes that were missing.
func joinOrdered(r, again *policyapi.Ordered) *policyapi.Ordered {
	out := *r
	out.Acknowledged = append(slices.Clone(r.Acknowledged), again.Acknowledged...)
	out.Affected, out.TooLate, out.Running = r.Affected+again.Affected, r.TooLate+again.TooLate, r.Running || again.Running
	out.Answered, out.Missing = r.Answered+again.Answered, again.Missing
	out.Complete, out.Status = again.Complete, again.Status
	return &out
}

func showOrdered(c *cli.Call, w io.Writer, v verb, r *policyapi.Ordered) error {
	if v.name == api.VerbHold && r.Affected == 0 {
		fmt.Fprintf(w, "nothing is queued now; mail that comes for %s will wait\n", human.Clean(scopeText(api.Scope(r.Scope))))
	} else {
		fmt.Fprintf(w, "%s %s on %s\n", human.Count(r.Affected, "delivery", "deliveries"), v.done, human.Count(int64(len(r.Acknowledged)), "node", "nodes"))
	}
	if r.TooLate > 0 {
		fmt.Fprintf(w, "%s being sent: too late, the outcome stands\n", human.Count(r.TooLate, "delivery is", "deliveries are"))
	}
	var rows [][]string
	for _, k := range r.Acknowledged {
		note := k.Note
		if k.Running {
			note = "goes on in the background"
		}
		rows = append(rows, []string{k.Node, human.Number(k.Affected), human.Number(k.TooLate), note})
	}
	if err := c.Table(w, []string{"NODE", ">DELIVERIES", ">TOO LATE", "NOTE"}, rows); err != nil {
		return err
	}
	if !r.Audited {
		fmt.Fprintln(c.Err, "the audit log could not be written; the order was carried out all the same")
	}
	if v.name != api.VerbHold {
		return nil
	}
	_, err := fmt.Fprintf(w, "action %s; \"hikyaku actions rm %s\" ends it. A node that joins later does not have it.\n", human.Clean(r.ID), human.Clean(r.ID))
	return err
}

// partlyText says what an order that has not reached every node means, and what
// to do.
func partlyText(c *cli.Call, v verb, f *actFlags, r *policyapi.Ordered) string {
	var b strings.Builder
	fmt.Fprintf(&b, "not everywhere: %d of %s acknowledged", r.Answered, human.Count(int64(r.Nodes), "node", "nodes"))
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "\n  %s: %s", m.Node, m.Reason)
	}
	b.WriteString("\nA node that is cut off may go on sending what is meant; one that is down sends nothing until it is back.")
	again := "the same command with --order " + r.ID + " --retry-missing 10m"
	if f.Message != "" {
		again = "hikyaku message cancel " + f.Message + " --yes --order " + r.ID + " --retry-missing 10m"
	}
	fmt.Fprintf(&b, "\nhint: repeat it when they are back: %s", again)
	return b.String()
}

func showAction(c *cli.Call, w io.Writer, v verb, r *api.ActionResult) error {
	if v.name == api.VerbHold && r.Affected == 0 {
		fmt.Fprintf(w, "nothing is queued now; mail that comes for %s will wait\n", human.Clean(scopeText(r.Scope)))
	} else {
		fmt.Fprintf(w, "%s %s\n", human.Count(r.Affected, "delivery", "deliveries"), v.done)
	}
	if r.TooLate > 0 {
		fmt.Fprintf(w, "%s being sent: too late, the outcome stands\n", human.Count(r.TooLate, "delivery is", "deliveries are"))
	}
	if r.Running {
		fmt.Fprintln(w, "The rest is done in the background; \"hikyaku actions ls\" shows what stands.")
	}
	if v.name != api.VerbHold {
		return nil
	}
	_, err := fmt.Fprintf(w, "action %s; \"hikyaku actions rm %s\" ends it\n", human.Clean(r.ID), human.Clean(r.ID))
	return err
}
