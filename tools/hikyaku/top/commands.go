package top

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those that watch.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newTopCmd(c)}
}
