package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// benchCommands are those that measure.
func benchCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newBenchCmd(c)}
}
