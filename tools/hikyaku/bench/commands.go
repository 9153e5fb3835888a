package bench

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those that measure.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newBenchCmd(c)}
}
