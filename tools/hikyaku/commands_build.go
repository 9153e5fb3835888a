package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// buildCommands are those that tell about this binary.
func buildCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newVersionCmd(c)}
}
