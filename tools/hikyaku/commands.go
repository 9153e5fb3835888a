package main

import (
	"slices"

	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/bench"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/cluster"
	"hikyaku/tools/hikyaku/dev"
	"hikyaku/tools/hikyaku/doctor"
	"hikyaku/tools/hikyaku/events"
	"hikyaku/tools/hikyaku/keys"
	"hikyaku/tools/hikyaku/queue"
	"hikyaku/tools/hikyaku/replies"
	"hikyaku/tools/hikyaku/reputation"
	"hikyaku/tools/hikyaku/resources"
	"hikyaku/tools/hikyaku/serve"
	"hikyaku/tools/hikyaku/suppress"
	"hikyaku/tools/hikyaku/top"
	"hikyaku/tools/hikyaku/webhook"
)

// commands lists every command, one package a line.
func commands(c *cli.Call) []*cobra.Command {
	return slices.Concat(
		serve.Commands(c),
		dev.Commands(c),
		queue.Commands(c),
		suppress.Commands(c),
		events.Commands(c),
		webhook.Commands(c),
		replies.Commands(c),
		top.Commands(c),
		resources.Commands(c),
		cluster.Commands(c),
		reputation.Commands(c),
		bench.Commands(c),
		keys.Commands(c),
		doctor.Commands(c),
		build.Commands(c),
		[]*cobra.Command{newDocsCmd(c)},
	)
}
