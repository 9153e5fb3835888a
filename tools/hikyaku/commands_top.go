package main

import "github.com/spf13/cobra"

// topCommands are those that watch.
func topCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newTopCmd(c)}
}
