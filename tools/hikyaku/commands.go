package main

import "github.com/spf13/cobra"

// commands lists every command, one constructor a line.
func commands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newVersionCmd(c),
	}
}
