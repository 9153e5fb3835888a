package main

import "github.com/spf13/cobra"

// eventsCommands are those about what has happened.
func eventsCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newEventsCmd(c),
		newTraceCmd(c),
	}
}
