package main

import "github.com/spf13/cobra"

// clusterCommands are those about machines and what they share.
func clusterCommands(c *cli) []*cobra.Command {
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
