package events

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about what has happened.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newEventsCmd(c),
		newTraceCmd(c),
	}
}
