package main

import (
	"slices"

	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/events"
	"hikyaku/tools/hikyaku/queue"
	"hikyaku/tools/hikyaku/serve"
	"hikyaku/tools/hikyaku/top"
	"hikyaku/tools/hikyaku/webhook"
)

// commands lists every command, one package a line.
func commands(c *cli.Call) []*cobra.Command {
	return slices.Concat(
		serve.Commands(c),
		devCommands(c),
		queue.Commands(c),
		suppressCommands(c),
		events.Commands(c),
		webhook.Commands(c),
		repliesCommands(c),
		top.Commands(c),
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
