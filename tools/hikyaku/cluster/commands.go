package cluster

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about machines and what they share.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newNodeCmd(c),
		newDrainCmd(c),
		newUndrainCmd(c),
		newSourceCmd(c),
		newTransferCmd(c),
		newGrantsCmd(c),
		newLeaderCmd(c),
		newGossipCmd(c),
		newAuditCmd(c),
	}
}
