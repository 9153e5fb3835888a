package main

import "github.com/spf13/cobra"

// benchCommands are those that measure.
func benchCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newBenchCmd(c)}
}
