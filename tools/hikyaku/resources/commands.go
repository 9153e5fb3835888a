package resources

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about resources of policy.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newApplyCmd(c),
		newDiffCmd(c),
		newGetCmd(c),
		newDeleteCmd(c),
		newHistoryCmd(c),
		newEditCmd(c),
		newRollbackCmd(c),
		newPolicyCmd(c),
		newThrottleCmd(c),
	}
}
