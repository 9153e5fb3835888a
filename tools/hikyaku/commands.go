package main

import (
	"slices"

	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/serve"
)

// commands lists every command, one package a line.
func commands(c *cli.Call) []*cobra.Command {
	return slices.Concat(
		serve.Commands(c),
		devCommands(c),
		queueCommands(c),
		suppressCommands(c),
		eventsCommands(c),
		webhookCommands(c),
		repliesCommands(c),
		topCommands(c),
		resourcesCommands(c),
		clusterCommands(c),
		reputationCommands(c),
		benchCommands(c),
		keysCommands(c),
		doctorCommands(c),
		build.Commands(c),
		[]*cobra.Command{newDocsCmd(c)},
	)
}
