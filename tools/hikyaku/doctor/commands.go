package doctor

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those that look for what carriers will not like.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newDoctorCmd(c)}
}
