package reputation

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about how carriers like us.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newDecisionsCmd(c),
		newReputationCmd(c),
		newBlocklistCmd(c),
	}
}
