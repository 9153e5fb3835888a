package dev

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those to try things out with.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newDemoCmd(c),
		newDevCmd(c),
	}
}
