package main

import "github.com/spf13/cobra"

// doctorCommands are those that look for what carriers will not like.
func doctorCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newDoctorCmd(c)}
}
