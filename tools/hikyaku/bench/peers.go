package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hikyaku/bench/candidate"
	"hikyaku/bench/sidebyside"
	"hikyaku/tools/hikyaku/build"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// benchPeers is one call of "bench peers".
type benchPeers struct {
	c     *cli.Call
	o     sidebyside.Options
	check bool
	quick bool
	sign  string
	out   string
}

func newBenchPeersCmd(c *cli.Call) *cobra.Command {
	b := &benchPeers{c: c}
	cmd := &cobra.Command{
		Use: "peers", Short: "Send the same work through Hikyaku and through other mail servers, in turn", Args: cli.WantArgs(0, 0),
		Long: `Sends the same work through Hikyaku, Postfix, Exim, OpenSMTPD and Haraka, those
that are installed, one after the other, several rounds, each round beginning
with another one. The table has medians, the ratio to the bare limit (source to
sink with nothing between) and to Postfix within each round, the CPU time of a
message in all processes of the server, and whether it syncs before its 250, as
seen with strace(1). All of it listens on loopback only.

Programs that are not installed as packages are looked for in the directory
` + candidate.PeersDirEnv + ` (tools/bench-peers.sh fills one). Postfix needs root.

--check-tools compares our own source and sink with smtp-source and smtp-sink.
--quick is what "make bench-quick" does: three short comparisons, written to -o.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&b.o.Source, "source", sidebyside.SMTPSource, "where the messages come from: "+strings.Join(sidebyside.Sources(), ", "))
	f.StringVar(&b.o.Sink, "sink", sidebyside.SMTPSink, "where they go: "+strings.Join(sidebyside.Sinks(), ", "))
	f.IntVar(&b.o.Messages, "messages", 0, "messages of each run; 0: as many as take --time")
	f.DurationVar(&b.o.Target, "time", 5*time.Second, "about how long each run takes")
	f.IntVar(&b.o.Size, "size", 4096, "bytes of a message")
	f.IntVar(&b.o.Connections, "connections", 20, "connections of the source")
	f.IntVar(&b.o.Rounds, "rounds", 3, "rounds")
	f.StringSliceVar(&b.o.Only, "only", nil, "some of "+sidebyside.Bare+","+strings.Join(candidate.Names(), ",")+" (default all)")
	f.StringVar(&b.sign, "sign", "", "let Hikyaku sign with a fresh key: ed25519 or rsa2048; with --sink own it is checked")
	f.BoolVar(&b.o.SkipProbe, "no-probe", false, "do not look whether they sync")
	f.StringVar(&b.o.Dir, "dir", "", "where the servers keep their queues (default the system's directory for temporary files)")
	f.StringVarP(&b.out, "output", "o", "", "directory to write the result to")
	f.BoolVar(&b.check, "check-tools", false, "check our own source and sink against Postfix's")
	f.BoolVar(&b.quick, "quick", false, "three short comparisons, for watching over time")
	cmd.MarkFlagsMutuallyExclusive("check-tools", "quick")
	return cmd
}

func (b *benchPeers) run(cmd *cobra.Command) error {
	b.o.Progress = b.progress
	if b.sign != "" {
		policy, err := sidebyside.SigningPolicy(b.sign)
		if err != nil {
			return cli.UsageError("--sign %q: %v", b.sign, err)
		}
		b.o.Policy, b.o.Signed = policy, b.o.Sink == sidebyside.Own
	}
	switch {
	case b.quick:
		return b.runQuick(cmd)
	case b.check:
		return b.runCheck(cmd)
	}
	r, err := sidebyside.Run(cmd.Context(), b.o)
	if err != nil {
		return err
	}
	if err := b.write("peers", r.Started, r, r.Headline()+"\n\n"+r.Markdown()+"\n"+strings.Join(r.Notes, "\n")+"\n"); err != nil {
		return err
	}
	return b.c.Print(r, func(w io.Writer) error {
		fmt.Fprintf(w, "%s\n%s, %d cores, %s; a sync of the disk takes %s\n\n", r.Headline(), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, human.Span(r.Disk.P50))
		header, rows := r.Table()
		if err := b.c.Table(w, header, b.colored(rows)); err != nil {
			return err
		}
		return b.notes(w, r.Notes)
	})
}

// colored paints what must not be overlooked.
func (b *benchPeers) colored(rows [][]string) [][]string {
	for _, row := range rows {
		for i, cell := range row {
			switch {
			case strings.HasPrefix(cell, "NO"), strings.HasPrefix(cell, "failed"):
				row[i] = b.c.Paint(cell, cli.Red)
			case strings.HasPrefix(cell, "yes"):
				row[i] = b.c.Paint(cell, cli.Green)
			case cell == "not installed":
				row[i] = b.c.Paint(cell, cli.Dim)
			}
		}
	}
	return rows
}

func (b *benchPeers) notes(w io.Writer, notes []string) error {
	for _, n := range notes {
		n = human.Clean(n)
		if strings.HasPrefix(n, "OTHER WORK") {
			n = b.c.Paint(n, cli.Yellow)
		}
		if _, err := fmt.Fprintf(w, "\n%s\n", n); err != nil {
			return err
		}
	}
	return nil
}

// progress tells what runs, on standard error. On a terminal a run that goes on
// has a line that its result replaces.
func (b *benchPeers) progress(s sidebyside.Step) {
	what := "first look"
	if s.Round > 0 {
		what = fmt.Sprintf("round %d/%d", s.Round, s.Rounds)
	}
	line := fmt.Sprintf("%-10s  %-9s %9d messages", what, s.Name, s.Messages)
	switch {
	case s.Err != nil:
		text, _, _ := strings.Cut(s.Err.Error(), "\n")
		line += "  " + human.Clean(text)
	case s.Done:
		line += fmt.Sprintf("  %8.0f/s", s.PerSecond)
	}
	terminal := cli.IsTerminal(b.c.Err)
	switch {
	case s.Done && terminal:
		fmt.Fprintf(b.c.Err, "\r\x1b[K%s\n", line)
	case s.Done:
		fmt.Fprintln(b.c.Err, line)
	case terminal:
		fmt.Fprint(b.c.Err, line+"  …")
	}
}

func (b *benchPeers) runCheck(cmd *cobra.Command) error {
	o := sidebyside.CheckOptions{Messages: b.o.Messages, Size: b.o.Size, Connections: b.o.Connections, Rounds: b.o.Rounds, Dir: b.o.Dir, Progress: b.progress}
	r, err := sidebyside.CheckTools(cmd.Context(), o)
	if err != nil {
		return err
	}
	if err := b.write("check-tools", r.Started, r, ""); err != nil {
		return err
	}
	return b.c.Print(r, func(w io.Writer) error {
		fmt.Fprintf(w, "%d messages of %d bytes a run, %d connections, %d rounds; \"of the tools\" is the ratio to smtp-source → smtp-sink through the same\n\n",
			r.Work.Messages, r.Work.Size, r.Work.Connections, r.Rounds)
		header, rows := r.Table()
		if err := b.c.Table(w, header, b.colored(rows)); err != nil {
			return err
		}
		return b.notes(w, r.Notes)
	})
}

func (b *benchPeers) runQuick(cmd *cobra.Command) error {
	this := build.This()
	o := sidebyside.QuickOptions{Version: this.Version, Commit: this.Commit, Dirty: this.Dirty || strings.HasSuffix(this.Version, "-dirty"), Dir: b.o.Dir, Progress: b.progress}
	if f := cmd.Flag("rounds"); f.Changed {
		o.Rounds = b.o.Rounds
	}
	if f := cmd.Flag("time"); f.Changed {
		o.Target = b.o.Target
	}
	q, err := sidebyside.RunQuick(cmd.Context(), o)
	if err != nil {
		return err
	}
	if b.out != "" {
		files, err := q.Write(b.out)
		if err != nil {
			return err
		}
		fmt.Fprintln(b.c.Err, "written:", strings.Join(files, ", "))
	}
	if b.c.JSON {
		lines, err := q.Lines()
		if err == nil {
			_, err = b.c.Out.Write(lines)
		}
		return err
	}
	_, err = io.WriteString(b.c.Out, q.Markdown())
	return err
}

// write puts the result into the directory of -o: as JSON, and as Markdown if
// there is any.
func (b *benchPeers) write(name string, started time.Time, v any, markdown string) error {
	if b.out == "" {
		return nil
	}
	j, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	path := filepath.Join(b.out, name+"-"+started.Format("20060102T150405Z"))
	for suffix, text := range map[string]string{".json": string(j) + "\n", ".md": markdown} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(path+suffix, []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
		fmt.Fprintln(b.c.Err, "written:", path+suffix)
	}
	return nil
}
