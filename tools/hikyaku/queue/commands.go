package queue

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about what is queued.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newQueueCmd(c),
		newMessageCmd(c),
		newJobCmd(c),
		newActionsCmd(c),
		newSpoolCmd(c),
	}
}
