package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// keysCommands are those that make keys.
func keysCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newDKIMCmd(c),
		newSecretCmd(c),
	}
}
