package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// suppressCommands are those about whom no mail goes to.
func suppressCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newSuppressCmd(c)}
}
