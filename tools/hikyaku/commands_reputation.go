package main

import "github.com/spf13/cobra"

// reputationCommands are those about how carriers like us.
func reputationCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newDecisionsCmd(c),
		newReputationCmd(c),
		newBlocklistCmd(c),
	}
}
