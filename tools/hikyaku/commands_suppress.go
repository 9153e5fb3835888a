package main

import "github.com/spf13/cobra"

// suppressCommands are those about whom no mail goes to.
func suppressCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newSuppressCmd(c)}
}
