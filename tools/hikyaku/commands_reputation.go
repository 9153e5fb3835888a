package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// reputationCommands are those about how carriers like us.
func reputationCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newDecisionsCmd(c),
		newReputationCmd(c),
		newBlocklistCmd(c),
	}
}
