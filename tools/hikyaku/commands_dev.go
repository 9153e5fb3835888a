package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// devCommands are those to try things out with.
func devCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newDemoCmd(c),
		newDevCmd(c),
	}
}
