package suppress

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newSuppressCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "suppress",
		Short: "Show and change who gets no mail",
		Long: `Each tenant has a list of addresses that get none of its mail, and there is one
for all tenants. Hard bounces, complaints and unsubscribes feed them (Tenant's
suppress); people add, remove, import and export.

Every node has all lists. A change is on one node's disk when the command ends,
and on the others' within a second or two; --wait says when.`,
		GroupID: cli.GroupMail,
	}
	cmd.AddCommand(newSuppressListCmd(c), newSuppressGetCmd(c), newSuppressAddCmd(c), newSuppressRemoveCmd(c),
		newSuppressImportCmd(c), newSuppressExportCmd(c), newSuppressStatsCmd(c))
	return cmd
}

// suppressions is the way to the lists, of the cluster or of the node that the
// server is.
func suppressions(ctx context.Context, c *cli.Call) (*client.Suppressions, error) {
	m, err := mailbox.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	return cl.Suppressions(cli.Whoami(), m.Cluster == nil), nil
}

// suppressFilter are the flags that pick entries.
type suppressFilter struct {
	client.SuppressionFilter
	since, until string
}

func (f *suppressFilter) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.Tenant, "tenant", "", "only this tenant's list")
	fl.BoolVar(&f.Global, "all-tenants", false, "only the list that holds for all tenants")
	fl.StringVar(&f.Domain, "domain", "", "recipient domain")
	fl.StringVar(&f.Prefix, "prefix", "", "beginning of the address")
	fl.StringVar(&f.Stream, "stream", "", "only what holds for this stream")
	fl.StringVar(&f.Kind, "kind", "", "bounce, complaint, unsubscribe, manual or import")
	fl.StringVar(&f.since, "since", "", "added at or after this `time`: 2h, 3d or 2026-11-22T10:15:00Z")
	fl.StringVar(&f.until, "until", "", "added before this `time`")
}

func (f *suppressFilter) read() (_ client.SuppressionFilter, err error) {
	if f.Global && f.Tenant != "" {
		return f.SuppressionFilter, cli.UsageError("--all-tenants is the list beside those of the tenants: it does not go with --tenant")
	}
	if f.Since, err = cli.When("since", f.since, time.Now()); err == nil {
		f.Until, err = cli.When("until", f.until, time.Now())
	}
	return f.SuppressionFilter, err
}

func newSuppressListCmd(c *cli.Call) *cobra.Command {
	var f suppressFilter
	limit, page := 100, ""
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List who gets no mail, by domain", Args: cli.WantArgs(0, 0),
		Long: "List who gets no mail, by tenant, domain and address. A search by prefix or kind over\nall domains reads the whole list; \"hikyaku suppress export\" gives it all.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.read()
			if err != nil {
				return err
			}
			s, err := suppressions(cmd.Context(), c)
			if err != nil {
				return err
			}
			all := &policyapi.SuppressionPage{Items: []policyapi.Suppression{}, Next: page}
			for first := true; first || all.Next != "" && len(all.Items) < limit; first = false {
				p, err := s.List(cmd.Context(), filter, min(limit-len(all.Items), 1000), all.Next)
				if err != nil {
					return err
				}
				all.Items, all.Next, all.Node = append(all.Items, p.Items...), p.Next, p.Node
			}
			return c.Print(all, func(w io.Writer) error {
				if err := showSuppressions(c, w, all.Items); err != nil {
					return err
				}
				if all.Next != "" {
					fmt.Fprintf(c.Err, "there are more; go on with --page %s\n", all.Next)
				}
				return nil
			})
		},
	}
	f.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this many")
	cmd.Flags().StringVar(&page, "page", "", "go on where a listing ended")
	return cmd
}

func showSuppressions(c *cli.Call, w io.Writer, items []policyapi.Suppression) error {
	var rows [][]string
	for i := range items {
		s := &items[i]
		tenant := s.Tenant
		if tenant == "" {
			tenant = c.Paint("(all)", cli.Yellow)
		}
		reason := s.Reason
		if s.Category != "" {
			reason = s.Category + ": " + reason
		}
		rows = append(rows, []string{s.Address, tenant, s.Stream, s.Kind, human.Since(s.Added), human.Until(s.Expires), s.By, reason})
	}
	return c.Table(w, []string{"ADDRESS", "TENANT", "STREAM", "KIND", ">AGE", ">EXPIRES", "BY", "REASON"}, rows)
}

func newSuppressGetCmd(c *cli.Call) *cobra.Command {
	tenant := ""
	cmd := &cobra.Command{
		Use: "get ADDRESS", Short: "Show what keeps an address from getting mail", Args: cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := suppressions(cmd.Context(), c)
			if err != nil {
				return err
			}
			p, err := s.Get(cmd.Context(), tenant, args[0])
			if cli.NotFound(err) {
				return fmt.Errorf("%s is on no list", human.Clean(args[0]))
			}
			if err != nil {
				return err
			}
			return c.Print(p, func(w io.Writer) error { return showSuppressions(c, w, p.Items) })
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant's list")
	return cmd
}

// onList are the flags that name the list that is changed. The list of all
// tenants is never meant by leaving something out.
type onList struct {
	tenant, stream, reason string
	global, wait           bool
}

func (l *onList) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&l.tenant, "tenant", "", "the tenant whose list is changed")
	fl.BoolVar(&l.global, "all-tenants", false, "change the list that holds for all tenants")
	fl.StringVar(&l.stream, "stream", "", "only for this stream of the tenant")
	fl.StringVar(&l.reason, "reason", "", "why")
	fl.BoolVar(&l.wait, "wait", false, "wait until all live nodes have it, up to 9 s; exit code 3 if not")
}

func (l *onList) check() error {
	if l.global == (l.tenant != "") {
		return cli.UsageError("give either --tenant or --all-tenants: whose list is meant")
	}
	return nil
}

// spreadWait is as long as the API waits.
const spreadWait = 9 * time.Second

func (l *onList) waits() time.Duration {
	if l.wait {
		return spreadWait
	}
	return 0
}

func newSuppressAddCmd(c *cli.Call) *cobra.Command {
	var l onList
	kind := ""
	var ends policy.Duration
	cmd := &cobra.Command{
		Use: "add ADDRESS...", Short: "Suppress addresses", Args: cli.WantArgs(1, 10_000),
		Example: "  hikyaku suppress add --tenant shop --reason \"asked by phone\" user@example.com\n  hikyaku suppress add --tenant shop --stream news --for 90d user@example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := l.check(); err != nil {
				return err
			}
			in := &policyapi.AddSuppressions{}
			for _, a := range args {
				s := policyapi.Suppression{Tenant: l.tenant, Address: a, Stream: l.stream, Kind: kind, Reason: l.reason}
				if ends > 0 {
					at := time.Now().Add(ends.D()).UTC().Truncate(time.Second)
					s.Expires = &at
				}
				in.Items = append(in.Items, s)
			}
			s, err := suppressions(cmd.Context(), c)
			if err != nil {
				return err
			}
			r, err := s.Add(cmd.Context(), in, l.waits())
			if err != nil {
				return err
			}
			return suppressed(c, r, &l)
		},
	}
	l.flags(cmd)
	cmd.Flags().StringVar(&kind, "kind", "", "bounce, complaint, unsubscribe, manual or import (default manual)")
	cli.DurationFlag(cmd, &ends, "for", 0, "end by itself after this `time`; 0 is never")
	return cmd
}

func newSuppressRemoveCmd(c *cli.Call) *cobra.Command {
	var l onList
	cmd := &cobra.Command{
		Use: "remove ADDRESS...", Aliases: []string{"rm"}, Short: "Take addresses off the list", Args: cli.WantArgs(1, 10_000),
		Long: "Take addresses off the list. Without --stream it takes away what holds for all streams;\nwhat holds for one is named. A sighting that waits for a second one is forgotten too.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := l.check(); err != nil {
				return err
			}
			in := &policyapi.RemoveSuppressions{Reason: l.reason}
			for _, a := range args {
				in.Items = append(in.Items, policyapi.SuppressionRef{Tenant: l.tenant, Address: a, Stream: l.stream})
			}
			s, err := suppressions(cmd.Context(), c)
			if err != nil {
				return err
			}
			r, err := s.Remove(cmd.Context(), in, l.waits())
			if err != nil {
				return err
			}
			return suppressed(c, r, &l)
		},
	}
	l.flags(cmd)
	return cmd
}

// suppressed says what a change did and which nodes have it.
func suppressed(c *cli.Call, r *policyapi.SuppressionChange, l *onList) error {
	err := c.Print(r, func(w io.Writer) error {
		var parts []string
		for _, p := range []struct {
			n    int
			what string
		}{{r.Added, "added"}, {r.Changed, "changed"}, {r.Removed, "removed"}, {r.Unchanged, "as before"}} {
			if p.n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
			}
		}
		if len(parts) == 0 {
			parts = []string{"nothing to do"}
		}
		_, err := fmt.Fprintln(w, strings.Join(parts, ", "))
		return err
	})
	if err != nil {
		return err
	}
	return spreadOut(c, &r.Spread, l.wait)
}

// spreadOut says which nodes have a change; a wait that ended too early is exit
// code 3.
func spreadOut(c *cli.Call, s *policyapi.Spread, wanted bool) error {
	if s.Nodes == 0 { // a single node
		return nil
	}
	if !c.JSON {
		fmt.Fprintf(c.Err, "on %d of %s\n", s.Have, human.Count(int64(s.Nodes), "live node", "live nodes"))
	}
	if s.Everywhere || !wanted {
		return nil
	}
	text := "it is done, but these nodes do not have it yet:"
	for _, m := range s.Missing {
		text += "\n  " + m.Node + ": " + m.Reason
	}
	return &cli.ExitError{Code: cli.ExitPartly, Text: text}
}

func newSuppressStatsCmd(c *cli.Call) *cobra.Command {
	tenant := ""
	cmd := &cobra.Command{
		Use: "stats", Short: "Count the lists", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := suppressions(cmd.Context(), c)
			if err != nil {
				return err
			}
			st, err := s.Stats(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return c.Print(st, func(w io.Writer) error {
				var rows [][]string
				row := func(name string, x *policyapi.SuppressionCounts) {
					rows = append(rows, []string{name, human.Number(x.Entries), human.Number(x.Bounce), human.Number(x.Complaint), human.Number(x.Unsubscribe), human.Number(x.Manual), human.Number(x.Import), human.Number(x.Sightings)})
				}
				for i := range st.Items {
					name := st.Items[i].Tenant
					if name == "" {
						name = c.Paint("(all)", cli.Yellow)
					}
					row(name, &st.Items[i])
				}
				row(c.Paint("total", cli.Bold), &st.Total)
				return c.Table(w, []string{"TENANT", ">ENTRIES", ">BOUNCE", ">COMPLAINT", ">UNSUBSCRIBE", ">MANUAL", ">IMPORT", ">SEEN ONCE"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant's list")
	return cmd
}
