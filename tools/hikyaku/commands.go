package main

import "github.com/spf13/cobra"

// commands lists every command, one constructor a line.
func commands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newServeCmd(c),
		newDemoCmd(c),
		newDevCmd(c),
		newQueueCmd(c),
		newMessageCmd(c),
		newJobCmd(c),
		newActionsCmd(c),
		newSuppressCmd(c),
		newEventsCmd(c),
		newTraceCmd(c),
		newWebhookCmd(c),
		newClassifyCmd(c),
		newTopCmd(c),
		newSpoolCmd(c),
		newApplyCmd(c),
		newDiffCmd(c),
		newGetCmd(c),
		newDeleteCmd(c),
		newHistoryCmd(c),
		newEditCmd(c),
		newRollbackCmd(c),
		newPolicyCmd(c),
		newThrottleCmd(c),
		newNodeCmd(c),
		newDrainCmd(c),
		newUndrainCmd(c),
		newSourceCmd(c),
		newTransferCmd(c),
		newGrantsCmd(c),
		newLeaderCmd(c),
		newGossipCmd(c),
		newAuditCmd(c),
		newBenchCmd(c),
		newDKIMCmd(c),
		newDoctorCmd(c),
		newSecretCmd(c),
		newConfigCmd(c),
		newDocsCmd(c),
		newVersionCmd(c),
	}
}
