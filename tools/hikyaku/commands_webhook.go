package main

import (
	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
)

// webhookCommands are those about who is told of events.
func webhookCommands(c *cli.Call) []*cobra.Command {
	return []*cobra.Command{newWebhookCmd(c)}
}
