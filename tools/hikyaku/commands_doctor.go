package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// doctorCommands are those that look for what carriers will not like.
func doctorCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newDoctorCmd(c)}
}
