package main

import "github.com/spf13/cobra"

// queueCommands are those about what is queued.
func queueCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newQueueCmd(c),
		newMessageCmd(c),
		newJobCmd(c),
		newActionsCmd(c),
		newSpoolCmd(c),
	}
}
