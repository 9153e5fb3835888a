package main

import "github.com/spf13/cobra"

// resourcesCommands are those about resources of policy.
func resourcesCommands(c *cli) []*cobra.Command {
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
