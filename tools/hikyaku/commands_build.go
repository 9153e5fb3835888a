package main

import "github.com/spf13/cobra"

// buildCommands are those that tell about this binary.
func buildCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newVersionCmd(c)}
}
