package main

import (
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func newTopCmd(c *cli) *cobra.Command {
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch the node: rates, queues, what waits for what, latency, errors",
		Long: `Watch the node. Without a terminal, and with --once or --json, one look is
printed. Keys: q ends, p pauses, + and - change the interval.`,
		GroupID: groupMail,
		Args:    wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond || every > time.Hour {
				return usageError("--interval %s: want 100ms to 1h", every)
			}
			n, err := c.node()
			if err != nil {
				return err
			}
			in, isFile := c.in.(*os.File)
			if once || c.json || !isTerminal(c.out) || !isFile || !isTerminal(in) {
				o, err := n.Overview(cmd.Context())
				if err != nil {
					return err
				}
				return c.print(o, func(w io.Writer) error {
					_, err := io.WriteString(w, c.topView(&topState{now: o, width: 120}))
					return err
				})
			}
			return c.watch(cmd.Context(), in, newTopModel(n.Overview, every))
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one look and end")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "time between looks")
	return cmd
}
