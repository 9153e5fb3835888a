package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"hikyaku/tools/hikyaku/cli"
)

// newDocsCmd prints docs/cli.md. It is for tools/docgen, and hidden.
func newDocsCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:    "docs",
		Short:  "Print the reference of all commands as Markdown",
		Hidden: true,
		Args:   cli.WantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var b strings.Builder
			b.WriteString("# Commands\n\n<!-- Made by \"go run ./tools/docgen\" from the commands' own help. Change that. -->\n\n")
			root := cmd.Root()
			b.WriteString(root.Long + "\n\nAll commands take these flags:\n\n" + flagTable(root.PersistentFlags()))
			for _, g := range root.Groups() {
				fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(g.Title, ":"))
				for _, sub := range root.Commands() {
					if sub.GroupID == g.ID && sub.Name() != "help" && sub.Name() != "completion" {
						describe(&b, sub)
					}
				}
			}
			b.WriteString("\n## Shell completion\n\n`hikyaku completion bash` (or zsh, fish, powershell) prints a script that completes commands, flags and names;\n`hikyaku completion bash --help` says where to put it.\n")
			_, err := io.WriteString(c.Out, b.String())
			return err
		},
	}
}

// describe writes one command and those below it.
func describe(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n%s.\n", cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", cmd.UseLine())
	}
	if cmd.Long != "" {
		b.WriteString("\n" + cmd.Long + "\n")
	}
	if cmd.Example != "" {
		b.WriteString("\n```\n" + strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n") + "\n```\n")
	}
	if t := flagTable(cmd.NonInheritedFlags()); t != "" {
		b.WriteString("\n" + t)
	}
	for _, sub := range cmd.Commands() {
		describe(b, sub)
	}
}

// flagTable is a table of flags, "" for none.
func flagTable(fs *pflag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		flag := "--" + f.Name
		if f.Shorthand != "" {
			flag = "-" + f.Shorthand + ", " + flag
		}
		if name != "" {
			flag += " " + name
		}
		switch f.DefValue {
		case "", "false", "0", "[]", "0s":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", flag, strings.ReplaceAll(usage, "|", "\\|"))
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | meaning |\n|---|---|\n" + b.String()
}
