package main

import "github.com/spf13/cobra"

// devCommands are those to try things out with.
func devCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newDemoCmd(c),
		newDevCmd(c),
	}
}
