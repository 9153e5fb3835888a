package dev

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"hikyaku/bench/sink"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

func newDevCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{Use: "dev", Short: "Helpers for trying things out", GroupID: cli.GroupTools}
	cmd.AddCommand(newDevSinkCmd(c), newDevClusterCmd(c), newDevEtcdCmd(c))
	return cmd
}

func newDevSinkCmd(c *cli.Call) *cobra.Command {
	var listen string
	var quiet bool
	cmd := &cobra.Command{
		Use: "sink", Short: "Receive mail and print it", Args: cli.WantArgs(0, 0),
		Long: `Runs a small receiving mail server that accepts everything and prints it.
Recipients that begin with "bounce" are refused with 550, those that begin with
"defer" with 451. It keeps nothing and must not face the internet.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var mu sync.Mutex
			s, err := sink.Start(sink.Options{Listen: listen, Recipient: sink.ByName, Message: func(r *sink.Received) string {
				mu.Lock()
				defer mu.Unlock()
				printReceived(c.Out, r, quiet)
				return ""
			}})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Err, "receiving on %s\n", s.Addr)
			<-cmd.Context().Done()
			return s.Close()
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:2526", "address and port")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print one line a message")
	return cmd
}

func printReceived(w io.Writer, r *sink.Received, quiet bool) {
	fmt.Fprintf(w, "%s <%s> to %v, %d bytes\n", r.At.Format("15:04:05.000"), human.Clean(r.From), r.To, len(r.Data))
	if quiet {
		return
	}
	for line := range bytes.Lines(r.Data) {
		fmt.Fprintf(w, "  %s\n", human.Clean(string(bytes.TrimRight(line, "\r\n"))))
	}
}
