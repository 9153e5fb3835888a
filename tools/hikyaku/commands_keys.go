package main

import "github.com/spf13/cobra"

// keysCommands are those that make keys.
func keysCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{
		newDKIMCmd(c),
		newSecretCmd(c),
	}
}
