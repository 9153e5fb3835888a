package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// serveCommands are those that run a process, or check what it would run by.
func serveCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newServeCmd(c),
		newConfigCmd(c),
	}
}
