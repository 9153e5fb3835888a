package reputation

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

func newReputationCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reputation", Aliases: []string{"rep"}, GroupID: cli.GroupCluster,
		Short: "Show how sources and tenants are liked, what is in force about them, and warm-ups",
		Long: `What carriers say is counted for each source at each carrier, each tenant, job
and sender domain. A score of 100 is nothing wrong; what lowers it is named.`,
	}
	cmd.AddCommand(
		newScoresCmd(c, "sources", state.OfSources, "List sources at carriers, the worst first"),
		newScoresCmd(c, "tenants", state.OfTenants, "List tenants and their jobs, the worst first"),
		newScoresCmd(c, "domains", state.OfDomains, "List sender domains, the worst first"),
		newLanesCmd(c), newHoldsCmd(c), newWarmUpsCmd(c),
		newSetLaneCmd(c, policy.StateRetired, "retire CARRIER SOURCE", "Do not use a source at a carrier any more"),
		newSetLaneCmd(c, policy.StateResting, "rest CARRIER SOURCE", "Do not use a source at a carrier for a while"),
		newSetLaneCmd(c, policy.StateHealthy, "use CARRIER SOURCE", "Use a source at a carrier again, bounded by policy alone"),
	)
	return cmd
}

func newScoresCmd(c *cli.Call, use, of, short string) *cobra.Command {
	f := state.ScoreFilter{Of: of}
	l := listing[[]state.Score]{
		ask:  func(ctx context.Context, cl *client.Cluster) ([]state.Score, error) { return cl.Scores(ctx, f) },
		show: func(c *cli.Call, w io.Writer, ss []state.Score) error { return showScores(c, w, of, ss) },
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd, c) },
	}
	l.flag(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.Carrier, "carrier", "", "only at this carrier")
	switch of {
	case state.OfSources:
		fl.StringVar(&f.Source, "source", "", "only this source")
	case state.OfTenants:
		fl.StringVar(&f.Tenant, "tenant", "", "only this tenant")
	default:
		fl.StringVar(&f.Domain, "domain", "", "only this domain")
	}
	fl.IntVarP(&f.Limit, "limit", "n", 50, "how many")
	return cmd
}

func showScores(c *cli.Call, w io.Writer, of string, ss []state.Score) error {
	if len(ss) == 0 {
		fmt.Fprintln(c.Err, "nothing is known yet")
		return nil
	}
	var rows [][]string
	for i := range ss {
		s := &ss[i]
		name := s.Source
		switch of {
		case state.OfTenants:
			if name = s.Tenant; s.Job != "" {
				name += ", job " + s.Job
			}
		case state.OfDomains:
			name = s.Domain
		}
		rows = append(rows, []string{strconv.Itoa(s.Score), name, at(s.Carrier, s.Site), c.State(s.State), s.Rate, s.LastGood, untilText(s.Until), strings.Join(s.Reasons, "; ")})
	}
	first := map[string]string{state.OfSources: "SOURCE", state.OfTenants: "TENANT", state.OfDomains: "DOMAIN"}[of]
	return c.Table(w, []string{">SCORE", first, "CARRIER", "STATE", ">RATE", ">THROTTLED AT", "UNTIL", "REASONS"}, rows)
}

// at is a carrier, with the site if it is about one.
func at(carrier, site string) string {
	if site == "" {
		return carrier
	}
	return carrier + " " + site
}

func newLanesCmd(c *cli.Call) *cobra.Command {
	var f state.LaneFilter
	l := listing[[]state.Lane]{
		ask:  func(ctx context.Context, cl *client.Cluster) ([]state.Lane, error) { return cl.SteeredLanes(ctx, f) },
		show: showLanes,
	}
	cmd := &cobra.Command{
		Use: "lanes", Short: "List what is in force about sources at carriers", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd, c) },
	}
	l.flag(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.Carrier, "carrier", "", "only at this carrier")
	fl.StringVar(&f.Source, "source", "", "only this source")
	fl.StringVar(&f.State, "state", "", "only in this state: "+strings.Join(policy.States(), ", "))
	return cmd
}

func showLanes(c *cli.Call, w io.Writer, ls []state.Lane) error {
	if len(ls) == 0 {
		fmt.Fprintln(c.Err, "nothing but policy bounds the sources")
		return nil
	}
	var rows [][]string
	for i := range ls {
		l := &ls[i]
		rows = append(rows, []string{at(l.Carrier, l.Site), l.Source, c.State(l.State), l.Rate, positive(int64(l.Connections)), positive(l.PerDay), untilText(l.Rests), l.Decision, l.Reason})
	}
	return c.Table(w, []string{"CARRIER", "SOURCE", "STATE", ">RATE", ">CONNS", ">PER DAY", "RESTS UNTIL", "DECISION", "REASON"}, rows)
}

// positive is a number, "" for 0.
func positive(n int64) string {
	if n == 0 {
		return ""
	}
	return human.Number(n)
}

func newHoldsCmd(c *cli.Call) *cobra.Command {
	l := listing[[]state.Hold]{
		ask:  func(ctx context.Context, cl *client.Cluster) ([]state.Hold, error) { return cl.TenantHolds(ctx) },
		show: showHolds,
	}
	cmd := &cobra.Command{
		Use: "holds", Short: "List what the control plane holds of tenants' mail", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd, c) },
	}
	l.flag(cmd)
	return cmd
}

func showHolds(c *cli.Call, w io.Writer, hs []state.Hold) error {
	if len(hs) == 0 {
		fmt.Fprintln(c.Err, "nothing is held")
		return nil
	}
	var rows [][]string
	for _, h := range hs {
		rows = append(rows, []string{h.Tenant, h.Carrier, h.Stream, h.Job, human.Stamp(h.Until), h.Decision, h.Reason})
	}
	return c.Table(w, []string{"TENANT", "CARRIER", "STREAM", "JOB", "UNTIL", "DECISION", "REASON"}, rows)
}

func newWarmUpsCmd(c *cli.Call) *cobra.Command {
	l := listing[[]state.WarmUp]{
		ask:  func(ctx context.Context, cl *client.Cluster) ([]state.WarmUp, error) { return cl.WarmUps(ctx) },
		show: showWarmUps,
	}
	cmd := &cobra.Command{
		Use: "warm-ups", Short: "List warm-ups and how far they are", Args: cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd, c) },
	}
	l.flag(cmd)
	return cmd
}

func showWarmUps(c *cli.Call, w io.Writer, ws []state.WarmUp) error {
	if len(ws) == 0 {
		fmt.Fprintln(c.Err, "no source warms up")
		return nil
	}
	var rows [][]string
	for i := range ws {
		x := &ws[i]
		how := "goes on"
		switch {
		case x.Done:
			how = "done"
		case x.Paused:
			how = "paused"
		case x.Held != "":
			how = "the day will not count: " + x.Held
		}
		day, part := fmt.Sprintf("%d of %d", x.Day, x.Days), fmt.Sprintf("%d of %d", x.Sent, x.PerDay)
		ends := untilText(x.Ends)
		if x.Done {
			part, ends = "", ""
		}
		rows = append(rows, []string{x.WarmUp, x.Source, x.Carrier, day, part, ends, how})
	}
	return c.Table(w, []string{"WARM-UP", "SOURCE", "CARRIER", ">DAY", ">DELIVERED", "DAY ENDS", "STATE"}, rows)
}

// newSetLaneCmd puts a source at a carrier into a state by hand.
func newSetLaneCmd(c *cli.Call, to, use, short string) *cobra.Command {
	o := api.LaneOrder{State: to}
	span := policy.Duration(time.Hour)
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cli.WantArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == policy.StateResting {
				o.Until = time.Now().Add(span.D())
			}
			cl, err := c.Control()
			if err != nil {
				return err
			}
			l, err := cl.SetLane(cmd.Context(), args[0], args[1], &o)
			if err != nil {
				return c.NoControl(err)
			}
			return c.Print(l, func(w io.Writer) error { return showLanes(c, w, []state.Lane{*l}) })
		},
	}
	if to == policy.StateResting {
		cli.DurationFlag(cmd, &span, "for", time.Hour, "this long, up to 24h")
	}
	cmd.Flags().StringVar(&o.Site, "site", "", "at the default carrier: one of its sites")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "why, for the audit log")
	return cmd
}
