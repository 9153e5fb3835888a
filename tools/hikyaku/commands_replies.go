package main

import "github.com/spf13/cobra"

// repliesCommands are those about what replies mean.
func repliesCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newClassifyCmd(c)}
}
