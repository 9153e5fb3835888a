package keys

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those that make keys.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{
		newDKIMCmd(c),
		newSecretCmd(c),
	}
}
