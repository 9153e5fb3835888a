package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// topCommands are those that watch.
func topCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newTopCmd(c)}
}
