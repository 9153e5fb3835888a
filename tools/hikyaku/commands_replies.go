package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// repliesCommands are those about what replies mean.
func repliesCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newClassifyCmd(c)}
}
