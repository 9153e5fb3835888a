package resources

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// waiting are the flags of commands that change policy and can wait until all
// nodes obey.
type waiting struct {
	wait    bool
	timeout policy.Duration
}

func (w *waiting) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "wait until all live nodes have the change; exit code 3 if not")
	cli.DurationFlag(cmd, &w.timeout, "timeout", time.Minute, "with --wait: give up after this `time`")
}

// pollFor is how long one question waits on the server.
const pollFor = 20 * time.Second

// applied waits, if that is wanted, until all live nodes have a revision, and
// says on stderr how far it is.
func applied(ctx context.Context, c *cli.Call, w *waiting, revision int64, dryRun bool) error {
	if !w.wait || dryRun {
		return nil
	}
	cl, err := c.Control()
	if err != nil {
		return err
	}
	var a *policyapi.Applied
	start := time.Now()
	for {
		left := w.timeout.D() - time.Since(start)
		a, err = cl.Applied(ctx, revision, max(0, min(left, pollFor)))
		if err != nil {
			return fmt.Errorf("the change is made, at revision %d; which nodes have it is not known: %w", revision, c.NoControl(err))
		}
		if a.Everywhere || left <= pollFor {
			break
		}
		fmt.Fprintf(c.Err, "%s\n", appliedText(a))
	}
	fmt.Fprintf(c.Err, "%s after %s\n", appliedText(a), human.Span(time.Since(start)))
	if a.Everywhere {
		return nil
	}
	text := "the change is made, but not every node has it yet:"
	for _, n := range a.Nodes {
		if n.Live && !n.Applied {
			text += fmt.Sprintf("\n  %s is at revision %d", n.Node, n.Revision)
		}
	}
	return &cli.ExitError{Code: cli.ExitPartly, Text: text + "\nhint: \"hikyaku node list\" shows when each was last heard of"}
}

// appliedText is "7 of 8 nodes at revision 12".
func appliedText(a *policyapi.Applied) string {
	return fmt.Sprintf("%d of %s at revision %d", a.Applied.Applied, human.Count(int64(a.Live), "node", "nodes"), a.Revision)
}
