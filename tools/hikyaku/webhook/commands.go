package webhook

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// Commands are those about who is told of events.
func Commands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newWebhookCmd(c)}
}
