package build

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those that tell about this binary.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newVersionCmd(c)}
}
