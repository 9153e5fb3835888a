package queue

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
	"hikyaku/tools/hikyaku/mailbox"
)

func newJobCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "job",
		Short:   "Watch, pause, slow or cancel bulk submissions",
		Long:    "A job is named TENANT/JOB, as \"hikyaku job ls\" shows it.",
		GroupID: cli.GroupMail,
	}
	mailbox.NodeFlag(c, cmd)
	cmd.AddCommand(newJobLsCmd(c), newJobShowCmd(c), newJobRateCmd(c), newJobCancelCmd(c),
		newJobStateCmd(c, "pause", "paused", "Stop sending a job until it is resumed"),
		newJobStateCmd(c, "resume", "active", "Go on sending a paused job"))
	return cmd
}

func newJobLsCmd(c *cli.Call) *cobra.Command {
	var f api.JobFilter
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List jobs",
		Args:  cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			jobs, raw, err := askJobs(cmd.Context(), m, c.Nodes, f)
			if err != nil {
				return err
			}
			return c.Print(raw, func(w io.Writer) error {
				if err := showJobs(c, w, jobs.Jobs); err != nil {
					return err
				}
				if jobs.Next != "" {
					fmt.Fprintln(c.Err, "there are more; --limit shows them")
				}
				mailbox.Missing(c, jobs.Coverage)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "tenant")
	cmd.Flags().StringVar(&f.State, "state", "", "active, paused or cancelled")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "how many")
	return cmd
}

func collectJobs(ctx context.Context, ask func(context.Context, api.JobFilter) (*api.JobList, error), f api.JobFilter) (jobs []api.Job, more bool, err error) {
	if f.Limit < 1 {
		return nil, false, cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	want := f.Limit
	jobs = []api.Job{}
	for {
		f.Limit = min(want-len(jobs), mailbox.MaxPage)
		l, err := ask(ctx, f)
		if err != nil {
			return nil, false, err
		}
		jobs = append(jobs, l.Jobs...)
		if f.Page = l.Next; f.Page == "" || len(jobs) >= want {
			return jobs, f.Page != "", nil
		}
	}
}

// askJobs gives the listing, and the answer that it was read from.
func askJobs(ctx context.Context, m *mailbox.Mailbox, nodes []string, f api.JobFilter) (*policyapi.ClusterJobs, any, error) {
	if m.Cluster == nil {
		all, more, err := collectJobs(ctx, m.Node.Jobs, f)
		if err != nil {
			return nil, nil, err
		}
		out, err := mailbox.Reshape[policyapi.ClusterJobs](map[string]any{"jobs": all})
		if err == nil && more {
			out.Next = "more"
		}
		return out, all, err
	}
	if f.Limit < 1 {
		return nil, nil, cli.UsageError("--limit %d: want at least 1", f.Limit)
	}
	out := &policyapi.ClusterJobs{Jobs: []policyapi.ClusterJob{}}
	at := client.Where{Nodes: nodes}
	for first := true; first || at.Page != "" && len(out.Jobs) < f.Limit; first = false {
		at.Limit = min(f.Limit-len(out.Jobs), mailbox.MaxPage)
		l, err := m.Cluster.Jobs(ctx, f.Tenant, f.State, at)
		if err != nil {
			return nil, nil, err
		}
		out.Jobs, out.Coverage = append(out.Jobs, l.Jobs...), mailbox.Gaps(out.Coverage, l.Coverage)
		at.Page, out.Next = l.Next, l.Next
	}
	return out, out, nil
}

func showJobs(c *cli.Call, w io.Writer, jobs []policyapi.ClusterJob) error {
	var rows [][]string
	for _, j := range jobs {
		rows = append(rows, []string{
			j.Tenant + "/" + j.ID, c.State(j.State), j.Rate, human.Number(j.Accepted), human.Number(j.Queued), human.Number(j.Delivered),
			human.Number(j.Bounced), human.Number(j.Expired), human.Number(j.Cancelled), progress(&j), human.Since(&j.Created),
		})
	}
	return c.Table(w, []string{"JOB", "STATE", "RATE", ">ACCEPTED", ">QUEUED", ">DELIVERED", ">BOUNCED", ">EXPIRED", ">CANCELLED", ">DONE", ">AGE"}, rows)
}

// progress is how many recipients of a job have come to an end.
func progress(j *policyapi.ClusterJob) string {
	if j.Accepted == 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", (j.Delivered+j.Bounced+j.Expired+j.Cancelled)*100/j.Accepted)
}

// jobArg splits TENANT/JOB. A tenant's name has no slash; a job's may.
func jobArg(s string) (tenant, id string, err error) {
	tenant, id, ok := strings.Cut(s, "/")
	if !ok || tenant == "" || id == "" {
		return "", "", cli.UsageError("job %q: want TENANT/JOB, as \"hikyaku job ls\" shows it", s)
	}
	return tenant, id, nil
}

func newJobShowCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "show TENANT/JOB",
		Short: "Show a job",
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tenant, id, err := jobArg(args[0])
			if err != nil {
				return err
			}
			m, err := mailbox.Open(cmd.Context(), c)
			if err != nil {
				return err
			}
			if m.Cluster != nil {
				j, err := m.Cluster.Job(cmd.Context(), tenant, id, c.Nodes)
				return showJob(c, j, j, err)
			}
			j, err := m.Node.Job(cmd.Context(), tenant, id)
			return showNodeJob(c, j, err)
		},
	}
}

// showNodeJob shows the answer of a node alone.
func showNodeJob(c *cli.Call, j *api.Job, err error) error {
	if err != nil {
		return showJob(c, nil, nil, err)
	}
	out, err := mailbox.Reshape[policyapi.ClusterJobAnswer](j)
	return showJob(c, out, j, err)
}

func showJob(c *cli.Call, j *policyapi.ClusterJobAnswer, raw any, err error) error {
	if cli.NotFound(err) {
		return cli.Hint(err, "\"hikyaku job ls\" lists the jobs")
	}
	if err != nil {
		return err
	}
	return c.Print(raw, func(w io.Writer) error {
		mailbox.Missing(c, j.Coverage)
		return showJobs(c, w, []policyapi.ClusterJob{j.ClusterJob})
	})
}

// changeJob changes a job and shows it as it stands after.
func changeJob(ctx context.Context, c *cli.Call, arg string, change api.JobChange) error {
	tenant, id, err := jobArg(arg)
	if err != nil {
		return err
	}
	m, err := mailbox.Open(ctx, c)
	if err != nil {
		return err
	}
	if m.Cluster == nil {
		j, err := m.Node.ChangeJob(ctx, tenant, id, change)
		return showNodeJob(c, j, err)
	}
	j, err := m.Cluster.ChangeJob(ctx, tenant, id, policyapi.JobOrder(change), c.Nodes)
	if err := showJob(c, j, j, err); err != nil || j.Complete {
		return err
	}
	return &cli.ExitError{Code: cli.ExitPartly, Text: "not everywhere: give the command again when the missing nodes are back; that is harmless"}
}

func newJobStateCmd(c *cli.Call, name, state, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name + " TENANT/JOB",
		Short: short,
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeJob(cmd.Context(), c, args[0], api.JobChange{State: &state})
		},
	}
}

func newJobRateCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:     "rate TENANT/JOB RATE",
		Short:   "Bound a job's messages per time, or remove the bound",
		Example: "  hikyaku job rate shop/news-1 100/s\n  hikyaku job rate shop/news-1 none",
		Args:    cli.WantArgs(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			rate := args[1]
			if rate == "none" {
				rate = ""
			} else if _, err := policy.ParseRate(rate); err != nil {
				return cli.UsageError("%v\nhint: \"none\" removes the bound", err)
			}
			return changeJob(cmd.Context(), c, args[0], api.JobChange{Rate: &rate})
		},
	}
}

func newJobCancelCmd(c *cli.Call) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "cancel TENANT/JOB",
		Short: "Cancel what is still queued of a job, for good",
		Args:  cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := jobArg(args[0]); err != nil {
				return err
			}
			if !yes {
				if err := c.Confirm(fmt.Sprintf("This cancels job %s for good.", human.Clean(args[0]))); err != nil {
					return err
				}
			}
			state := "cancelled"
			return changeJob(cmd.Context(), c, args[0], api.JobChange{State: &state})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
