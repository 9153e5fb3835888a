package queue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"hikyaku/node/api"
	"hikyaku/spool"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

func newSpoolCmd(c *cli.Call) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Check, count and dump a spool that no node has open",
		Long: `Work on the spool of a stopped node, or on a copy of one. Nothing in it is
changed. A running node is asked with "hikyaku queue".`,
		GroupID: cli.GroupTools,
	}
	cmd.AddCommand(newSpoolVerifyCmd(c), newSpoolStatsCmd(c), newSpoolDumpCmd(c))
	return cmd
}

const spoolHint = "stop the node or work on a copy; the directory is \"spool\" in the node's data_dir"

// spoolDir checks that there is something to open, for a plain error.
func spoolDir(dir string) error {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	return cli.Hint(err, spoolHint)
}

// spoolError adds the hint where it helps.
func spoolError(err error) error {
	if errors.Is(err, spool.ErrInUse) {
		return cli.Hint(err, spoolHint)
	}
	return err
}

func newSpoolVerifyCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Read every record and check that they agree; exit code 1 if not",
		Args:  cli.WantArgs(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := spoolDir(args[0]); err != nil {
				return err
			}
			bar, finish := readingBar(c, "records")
			r, err := spool.Verify(args[0], bar)
			finish()
			if err != nil {
				return spoolError(err)
			}
			if err := c.Print(&r, func(w io.Writer) error { return showReport(c, w, &r) }); err != nil {
				return err
			}
			if !r.OK() {
				return &cli.ExitError{Code: 1, Text: human.Count(r.ProblemCount, "problem", "problems") + " found"}
			}
			return nil
		},
	}
}

// readingBar shows a counter on stderr if that is a terminal.
func readingBar(c *cli.Call, what string) (step func(int64), finish func()) {
	if !cli.IsTerminal(c.Err) {
		return nil, func() {}
	}
	bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(c.Err), progressbar.OptionSetDescription("reading"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString(what),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	// The bar is decoration: a terminal that does not take it changes nothing.
	return func(n int64) { _ = bar.Set64(n) }, func() { _ = bar.Finish() }
}

func showReport(c *cli.Call, w io.Writer, r *spool.Report) error {
	rows := [][]string{
		{"deliveries queued", human.Number(r.Deliveries)}, {"recipients queued", human.Number(r.Recipients)}, {"queues", human.Number(r.Queues)},
		{"destinations", human.Number(r.Destinations)}, {"messages", human.Number(r.Messages)}, {"content", human.Size(r.ContentBytes)},
		{"end states kept", human.Number(r.EndStates)}, {"jobs", human.Number(r.Jobs)}, {"actions", human.Number(r.Actions)},
		{"events to be written", human.Number(r.Outbox)}, {"in quarantine", human.Number(r.Quarantined)}, {"problems", human.Number(r.ProblemCount)},
	}
	if err := c.Table(w, []string{"WHAT", ">COUNT"}, rows); err != nil {
		return err
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s %s\n", c.Paint("problem:", cli.Red), human.Clean(p))
	}
	if more := r.ProblemCount - int64(len(r.Problems)); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	if r.OK() {
		_, err := fmt.Fprintln(w, c.Paint("All records are sound.", cli.Green))
		return err
	}
	return nil
}

func newSpoolStatsCmd(c *cli.Call) *cobra.Command {
	return &cobra.Command{
		Use:   "stats DIR",
		Short: "Count what is queued, by destination and tenant",
		Args:  cli.WantArgs(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := spoolDir(args[0]); err != nil {
				return err
			}
			s, err := spool.OfflineStats(args[0])
			if err != nil {
				return spoolError(err)
			}
			return c.Print(&s, func(w io.Writer) error { return showSummary(c, w, &s) })
		},
	}
}

func showSummary(c *cli.Call, w io.Writer, s *spool.Summary) error {
	first := ""
	if !s.FirstDue.IsZero() {
		first = ", first due " + human.Stamp(s.FirstDue)
	}
	fmt.Fprintf(w, "%s in %s for %s%s\n", human.Count(s.Deliveries, "delivery", "deliveries"), human.Count(s.Queues, "queue", "queues"),
		human.Count(s.Destinations, "destination", "destinations"), first)
	fmt.Fprintf(w, "%s on disk, %d in quarantine, %d events to be written\n\n", human.Size(s.DiskBytes), s.Quarantined, s.Outbox)
	var rows [][]string
	for _, d := range s.Top {
		rows = append(rows, []string{d.Destination, human.Number(d.Deliveries)})
	}
	if err := c.Table(w, []string{"DESTINATION", ">QUEUED"}, rows); err != nil {
		return err
	}
	rows = rows[:0]
	for _, t := range s.Tenants {
		rows = append(rows, []string{t.Tenant, human.Number(t.Deliveries)})
	}
	fmt.Fprintln(w)
	return c.Table(w, []string{"TENANT", ">QUEUED"}, rows)
}

func newSpoolDumpCmd(c *cli.Call) *cobra.Command {
	var s api.Scope
	cmd := &cobra.Command{
		Use:   "dump DIR",
		Short: "Print what is queued, one JSON object a line",
		Args:  cli.WantArgs(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := spoolDir(args[0]); err != nil {
				return err
			}
			w := bufio.NewWriter(c.Out)
			err := spool.Dump(args[0], w, s.Message())
			return spoolError(errors.Join(err, w.Flush()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Destination, "destination", "", "recipient domain")
	f.StringVar(&s.Tenant, "tenant", "", "tenant")
	f.StringVar(&s.Stream, "stream", "", "stream")
	f.StringVar(&s.Pool, "pool", "", "pool")
	f.StringVar(&s.Job, "job", "", "job")
	return cmd
}
