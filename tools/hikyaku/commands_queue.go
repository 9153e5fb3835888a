package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// queueCommands are those about what is queued.
func queueCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newQueueCmd(c),
		newMessageCmd(c),
		newJobCmd(c),
		newActionsCmd(c),
		newSpoolCmd(c),
	}
}
