package serve

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those that run a process, or check what it would run by.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newServeCmd(c),
		newConfigCmd(c),
	}
}
