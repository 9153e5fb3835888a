package cluster

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/client"
	"hikyaku/controlplane/state"
	"hikyaku/controlplane/store"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newSourceCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{Use: "source", Short: "List sending addresses and who holds them; move one", GroupID: cli.GroupCluster}
	var f client.SourceFilter
	ls := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List sources", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			ss, err := cl.Sources(cmd.Context(), f)
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(ss, func(w io.Writer) error { return showSources(c, w, ss) })
		},
	}
	ls.Flags().StringVar(&f.Node, "node", "", "only those of this node")
	ls.Flags().StringVar(&f.Pool, "pool", "", "only those of this pool")
	ls.Flags().StringVar(&f.State, "state", "", "only those that are held, releasing, quarantined or free")
	reason := ""
	move := &cobra.Command{
		Use:   "move SOURCE NODE",
		Short: "Hand a movable source to another node",
		Long: `Hand a movable source to a live node that its labels allow. The holder stops
using it first; the allocator may move it again later.`,
		Args: cli.WantArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			s, err := cl.MoveSource(cmd.Context(), args[0], args[1], reason)
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(s, func(w io.Writer) error { return showSources(c, w, []state.Source{*s}) })
		},
	}
	move.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	cmd.AddCommand(ls, move)
	return cmd
}

func showSources(c *cli.Call, w io.Writer, ss []state.Source) error {
	var rows [][]string
	for i := range ss {
		s := &ss[i]
		st := s.State
		switch {
		case s.Disabled:
			st = "disabled"
		case s.Fault != "":
			st = c.Paint("fault", cli.Red)
		case st == "held":
			st = c.Paint(st, cli.Green)
		case st != "":
			st = c.Paint(st, cli.Yellow)
		}
		why := s.Reason
		if s.Fault != "" {
			why = s.Fault
		}
		age := ""
		if !s.Since.IsZero() {
			age = human.Since(&s.Since)
		}
		rows = append(rows, []string{s.Name, s.Address, s.Mode, st, s.Node, human.Number(s.Epoch), age, human.Number(s.Backlog), strings.Join(s.Pools, " "), why})
	}
	return c.Table(w, []string{"SOURCE", "ADDRESS", "MODE", "STATE", "NODE", ">EPOCH", ">SINCE", ">WAITING", "POOLS", "WHY"}, rows)
}

func newGrantsCmd(c *cli.Call) *cobra.Command {
	var f client.GrantFilter
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "List each node's part of the budgets that nodes share",
		Long: `List the budgets that span nodes and what each node has of them: its share of
the rate, its part of burst and connections, its permits of the daily count. A
grant ends by itself seconds after the leader no longer renews it; then the node
is down to its floor.`,
		Example: "  hikyaku grants --carrier docomo",
		GroupID: cli.GroupCluster, Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			gs, err := cl.Grants(cmd.Context(), f)
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(gs, func(w io.Writer) error { return showGrants(c, w, gs) })
		},
	}
	cmd.Flags().StringVar(&f.Carrier, "carrier", "", "only those of this carrier")
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only those of this tenant")
	cmd.Flags().StringVar(&f.Node, "node", "", "only those of this node")
	cmd.Flags().StringVar(&f.Kind, "kind", "", "only those on a carrier, carrier-pool, carrier-source, tenant, tenant-carrier, stream or job")
	return cmd
}

// grantScope names the scope of a grant for people.
func grantScope(s *state.Scope) string {
	var parts []string
	for _, p := range [][2]string{{"carrier ", s.Carrier}, {"site ", s.Site}, {"pool ", s.Pool}, {"source ", s.Source}, {"tenant ", s.Tenant}, {"stream ", s.Stream}, {"job ", s.Job}} {
		if p[1] != "" {
			parts = append(parts, p[0]+p[1])
		}
	}
	return strings.Join(parts, ", ")
}

func showGrants(c *cli.Call, w io.Writer, gs []state.Grant) error {
	var rows [][]string
	for i := range gs {
		g := &gs[i]
		permits := ""
		if g.Issued > 0 {
			permits = fmt.Sprintf("%d/%d", g.Spent, g.Issued)
		}
		conns := ""
		if g.Connections > 0 || g.Open > 0 {
			conns = fmt.Sprintf("%d/%d", g.Open, g.Connections)
		}
		rows = append(rows, []string{grantScope(&g.Scope), g.Limit, g.Node, fmt.Sprintf("%.1f%%", g.Share), g.Rate, human.Number(g.Burst), conns, permits, human.Number(g.Demand),
			human.PerSecond(g.Used), human.Span(time.Duration(g.ExpiresIn * float64(time.Second)))})
	}
	return c.Table(w, []string{"BUDGET", "LIMIT", "NODE", ">SHARE", ">RATE", ">BURST", ">CONNS", ">PERMITS", ">WAITING", ">USED", ">ENDS IN"}, rows)
}

func newLeaderCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use: "leader", Short: "Show the control plane that assigns and grants", GroupID: cli.GroupCluster, Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.Control()
			if err != nil {
				return err
			}
			l, err := cl.Leader(cmd.Context())
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(l, func(w io.Writer) error {
				for _, f := range [][2]string{
					{"leader", l.Name}, {"address", l.Address}, {"since", stampOr(l.Since)}, {"version", l.Version}, {"term", human.Number(l.Term)}, {"revision", human.Number(l.Revision)},
					{"nodes", fmt.Sprintf("%d of %d live", l.Live, l.Members)}, {"budgets", human.Number(int64(l.Scopes))}, {"exchanges", human.PerSecond(l.Exchanges)},
					{"decision", human.Span(time.Duration(l.LastDecision * float64(time.Second)))}, {"etcd", fmt.Sprintf("%d writes, %d refused", l.EtcdWrites, l.Conflicts)},
				} {
					if f[1] != "" {
						fmt.Fprintf(w, "%-10s %s\n", f[0], human.Clean(f[1]))
					}
				}
				for _, a := range l.Alarms {
					fmt.Fprintf(w, "%-10s %s\n", "alarm", c.Paint(human.Clean(a), cli.Red))
				}
				return nil
			})
		},
	}
}

// auditFlags are the flags of audit.
type auditFlags struct {
	client.AuditFilter
	since, until string
	verify       bool
}

func newAuditCmd(c *cli.Call) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List what was ordered and changed, by whom and why; check that it is whole",
		Long: `List changes of policy, orders about mail, nodes and sources, and refused logins,
newest first. Entries cannot be changed: each is chained to the one before by its
SHA-256 sum. --verify walks the chain; the sums that it prints, noted down
elsewhere, show later whether the end was cut off.`,
		Example: "  hikyaku audit --since 1d --action cancel\n  hikyaku audit --verify",
		GroupID: cli.GroupCluster, Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return audit(c, cmd, &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Author, "author", "", "only what this one ordered")
	fl.StringVar(&f.Action, "action", "", "only this, as in hold, cancel, drain, policy or login")
	fl.StringVar(&f.Scope, "scope", "", "only what was about this; a part of the name is enough")
	fl.StringVar(&f.since, "since", "", "from then on: a span back (2h, 3d) or a time")
	fl.StringVar(&f.until, "until", "", "up to then: a span back (1h) or a time")
	fl.IntVarP(&f.Limit, "limit", "n", 50, "how many")
	fl.BoolVar(&f.verify, "verify", false, "check that nothing was changed or taken out; exit code 1 if something was")
	return cmd
}

func audit(c *cli.Call, cmd *cobra.Command, f *auditFlags) error {
	cl, err := c.Control()
	if err != nil {
		return err
	}
	if f.verify {
		return auditProof(c, cl, cmd)
	}
	now := time.Now()
	if f.Since, err = cli.When("since", f.since, now); err != nil {
		return err
	}
	if f.Until, err = cli.When("until", f.until, now); err != nil {
		return err
	}
	if f.Limit < 1 {
		return cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	want := f.Limit
	entries := []store.Entry{}
	for first := true; first || f.Page != "" && len(entries) < want; first = false {
		f.Limit = min(want-len(entries), mailbox.MaxPage)
		l, err := cl.Audit(cmd.Context(), f.AuditFilter)
		if err != nil {
			return c.NoControl(err)
		}
		entries, f.Page = append(entries, l.Entries...), l.Next
	}
	return c.Print(entries, func(w io.Writer) error {
		var rows [][]string
		for _, e := range entries {
			rows = append(rows, []string{e.ID, human.Stamp(e.Time), e.Author, e.Role, e.Action, e.Scope, e.Result, e.Reason})
		}
		return c.Table(w, []string{"ENTRY", "TIME", "AUTHOR", "ROLE", "ACTION", "ON", "RESULT", "WHY"}, rows)
	})
}

func auditProof(c *cli.Call, cl *client.Cluster, cmd *cobra.Command) error {
	p, err := cl.VerifyAudit(cmd.Context())
	if err != nil {
		return c.NoControl(err)
	}
	if err := c.Print(p, func(w io.Writer) error {
		if !p.Whole {
			return nil
		}
		_, err := fmt.Fprintf(w, "whole: %s, the newest %d with sum %s\n       %s of policy, the newest %d with sum %s\n",
			human.Count(p.Orders, "order", "orders"), p.Order, human.Clean(p.OrderSum), human.Count(p.Revisions, "revision", "revisions"), p.Revision, human.Clean(p.RevisionSum))
		return err
	}); err != nil {
		return err
	}
	if !p.Whole {
		return &cli.ExitError{Code: 1, Text: "the audit log is not whole, or cannot be read: " + p.Fault}
	}
	return nil
}
