package suppress

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about whom no mail goes to.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newSuppressCmd(c)}
}
