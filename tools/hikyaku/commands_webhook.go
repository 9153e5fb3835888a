package main

import "github.com/spf13/cobra"

// webhookCommands are those about who is told of events.
func webhookCommands(c *cli) []*cobra.Command {
	return []*cobra.Command{newWebhookCmd(c)}
}
