package replies

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about what replies mean.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newClassifyCmd(c)}
}
