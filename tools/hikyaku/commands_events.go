package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// eventsCommands are those about what has happened.
func eventsCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newEventsCmd(c),
		newTraceCmd(c),
	}
}
