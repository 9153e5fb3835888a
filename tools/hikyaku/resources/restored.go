package resources

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/tools/hikyaku/cli"
)

func newPolicyCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		Short:   "Say which policy counts after etcd was restored from a backup",
		GroupID: cli.GroupPolicy,
	}
	cmd.AddCommand(newAcceptRestoredCmd(c))
	return cmd
}

func newAcceptRestoredCmd(c *cli.Call) *cobra.Command {
	var in policyapi.AcceptRestoredRequest
	yes := false
	var wait waiting
	cmd := &cobra.Command{
		Use:   "accept-restored --reason WHY",
		Short: "Let the older policy of a restored etcd count",
		Long: `After etcd was restored from a backup that is older than the policy in force, the
nodes stay with what they have, raise an alarm, and nothing can be changed. This
says that the policy in etcd counts: it becomes a new revision above all that have
been seen, and every node takes it. What was changed after the backup is lost;
"hikyaku history" and "hikyaku get" show what etcd holds.

What this control plane and the live nodes have seen is known. --above names a
newer revision that only others have, such as a node that is down.`,
		Example: `  hikyaku policy accept-restored --reason "etcd restored from the backup of 03:00" --wait`,
		Args:    cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.Reason == "" {
				return cli.UsageError("--reason is needed: why the older policy counts")
			}
			if in.Above < 0 {
				return cli.UsageError("--above %d: want a revision", in.Above)
			}
			p, err := c.Policy()
			if err != nil {
				return err
			}
			if !yes {
				if err := c.Confirm("This puts the older policy of the backup in force on all nodes."); err != nil {
					return err
				}
			}
			r, err := p.AcceptRestored(cmd.Context(), &in)
			if err != nil {
				return err
			}
			if err := c.Print(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "the policy of the backup is in force as revision %d\n", r.Revision)
				return err
			}); err != nil {
				return err
			}
			return applied(cmd.Context(), c, &wait, r.Revision, false)
		},
	}
	wait.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&in.Reason, "reason", "", "why it counts, for the history and the audit log")
	fl.Int64Var(&in.Above, "above", 0, "a `revision` that was in force before and that nobody here has seen")
	fl.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
