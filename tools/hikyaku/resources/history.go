package resources

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/cli"
)

func newHistoryCmd(c *cli.Call) *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "List the revisions of policy: when, who, what and why",
		GroupID: cli.GroupPolicy,
		Args:    cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.Policy()
			if err != nil {
				return err
			}
			h, err := p.History(cmd.Context(), limit)
			if err != nil {
				return err
			}
			return c.Print(h, func(w io.Writer) error {
				var rows [][]string
				for _, r := range h.Revisions {
					rows = append(rows, []string{strconv.FormatInt(r.Revision, 10), r.Time.Local().Format(time.DateTime), r.Author, effects(&r), r.Reason})
				}
				return c.Table(w, []string{">REVISION", "TIME", "AUTHOR", "WHAT", "WHY"}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many, newest first")
	return cmd
}

// effects is what a revision did, the first few by name.
func effects(r *api.Revision) string {
	const named = 3
	var parts []string
	for i, e := range r.Effects {
		if i == named {
			parts = append(parts, fmt.Sprintf("and %d more", len(r.Effects)-named))
			break
		}
		parts = append(parts, string(e.Action)+" "+e.Kind+"/"+e.Name)
	}
	return strings.Join(parts, ", ")
}

func newRollbackCmd(c *cli.Call) *cobra.Command {
	req := &api.RollbackRequest{}
	var wait waiting
	cmd := &cobra.Command{
		Use:   "rollback REVISION",
		Short: "Bring the policy of an old revision back into force",
		Long: `Make a new revision with the resources, secrets included, of an old one. What
was created since is deleted. "hikyaku history" lists the revisions.`,
		GroupID: cli.GroupPolicy,
		Args:    cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || n < 1 {
				return cli.UsageError("revision %q: want a number from \"hikyaku history\"", args[0])
			}
			req.Revision = n
			p, err := c.Policy()
			if err != nil {
				return err
			}
			r, err := p.Rollback(cmd.Context(), req)
			if err != nil {
				return err
			}
			if err := c.Print(r, func(w io.Writer) error { return showResult(c, w, changedOnly(r)) }); err != nil {
				return err
			}
			return applied(cmd.Context(), c, &wait, r.Revision, r.DryRun)
		},
	}
	wait.flags(cmd)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the history")
	cmd.Flags().Int64Var(&req.ExpectedRevision, "revision", 0, "only if the policy is still at this revision")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

// changedOnly leaves out what a rollback found as it should be.
func changedOnly(r *api.Result) *api.Result {
	out := *r
	out.Effects = nil
	for _, e := range r.Effects {
		if e.Action != "unchanged" {
			out.Effects = append(out.Effects, e)
		}
	}
	return &out
}
