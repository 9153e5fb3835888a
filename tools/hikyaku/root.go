package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// run is the whole program but for the process's own exit.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	// SIGINT and SIGTERM end the command's context. "serve" drains on it; a
	// second signal ends the process at once, as usual.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	c := &cli.Call{In: in, Out: out, Err: errOut, Color: cli.IsTerminal(out) && os.Getenv("NO_COLOR") == ""}
	root := newRootCmd(c)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	var exit *cli.ExitError
	if errors.As(err, &exit) {
		code = exit.Code
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(errOut, "hikyaku: %s\n", human.Clean(text))
	}
	return code
}

// newRootCmd builds the command tree. docgen calls it too.
func newRootCmd(c *cli.Call) *cobra.Command {
	root := &cobra.Command{
		Use:   "hikyaku",
		Short: "Outbound mail: accept, queue, deliver",
		Long: `Hikyaku accepts mail by SMTP and HTTP, queues it durably and delivers it to
the recipients' mail servers.

"hikyaku serve" runs a node; it needs no file to start. The other commands ask
a running node over its admin API, or work on files.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return cli.UsageError("%v\nRun \"%s --help\" for the flags.", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&c.API, "api", cli.DefaultAPI, "address of the admin API (env HIKYAKU_API)")
	f.StringVar(&c.Token, "token", "", "bearer token for the admin API (env HIKYAKU_TOKEN)")
	f.StringVar(&c.CAFile, "ca", "", "PEM bundle to trust for an https API (env HIKYAKU_CA)")
	f.BoolVar(&c.JSON, "json", false, "print JSON")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		fromEnv(cmd, "api", "HIKYAKU_API", &c.API)
		fromEnv(cmd, "token", "HIKYAKU_TOKEN", &c.Token)
		fromEnv(cmd, "ca", "HIKYAKU_CA", &c.CAFile)
		return nil
	}
	root.AddGroup(
		&cobra.Group{ID: cli.GroupRun, Title: "Run a node:"},
		&cobra.Group{ID: cli.GroupMail, Title: "Look at mail and act on it:"},
		&cobra.Group{ID: cli.GroupPolicy, Title: "Policy:"},
		&cobra.Group{ID: cli.GroupCluster, Title: "The cluster:"},
		&cobra.Group{ID: cli.GroupTools, Title: "Tools:"},
	)
	root.SetHelpCommandGroupID(cli.GroupTools)
	root.SetCompletionCommandGroupID(cli.GroupTools)
	root.AddCommand(commands(c)...)
	groups(root)
	return root
}

// groups makes each command that only holds others show its help when called
// alone, and refuse a name below it that does not exist. Cobra refuses unknown
// names at the top only and takes all others for a call for help, exit code 0.
func groups(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		groups(sub)
	}
	if !cmd.HasSubCommands() || cmd.Runnable() {
		return
	}
	cmd.DisableFlagsInUseLine = true
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return cli.UsageError("%s\nRun \"%s --help\" for the commands.", text, cmd.CommandPath())
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// fromEnv fills a flag that was not given from the environment. The flag's
// default stays out of the help, so a token never shows there.
func fromEnv(cmd *cobra.Command, flag, env string, to *string) {
	if f := cmd.Flag(flag); f == nil || f.Changed {
		return
	}
	if v := os.Getenv(env); v != "" {
		*to = v
	}
}
