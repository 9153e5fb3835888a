package suppress

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/tools/hikyaku/cli"
	"hikyaku/tools/hikyaku/human"
)

// The forms of a list in a file.
const (
	formNDJSON = "ndjson"
	formCSV    = "csv"
)

// importFlags are those of suppress import.
type importFlags struct {
	onList
	kind, form string
	ends       policy.Duration
	dryRun     bool
}

func newSuppressImportCmd(c *cli.Call) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a list from a file, or from standard input (-)",
		Long: `Import a suppression list: NDJSON, an entry a line as "export" writes it, or CSV
with a header line that names its columns: address, and any of tenant, stream,
kind, category, reason, event, added, expires.

Lines that are wrong are left out and named; exit code 3 if there were any. The
list goes in parts of about 2 MiB, each on disk before the next. To import it
again is harmless: what stands so already is left alone.

--tenant or --all-tenants is for lines that name no tenant.`,
		Example: `  hikyaku suppress import --tenant shop --dry-run bounces.csv
  zcat all.ndjson.gz | hikyaku suppress import --tenant shop --format ndjson -`,
		Args: cli.WantArgs(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return importList(cmd.Context(), c, args[0], &f) },
	}
	f.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "kind", "", "of lines that name none: bounce, complaint, unsubscribe, manual or import (default import)")
	fl.StringVar(&f.form, "format", "", "ndjson or csv (default by the file's name)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check the lines and change nothing")
	cli.DurationFlag(cmd, &f.ends, "for", 0, "lines that name no end, end by themselves after this `time`; 0 is never")
	return cmd
}

// formOf is the form that is asked for, or that of a file's name.
func formOf(asked, name string) (string, error) {
	switch {
	case asked == formNDJSON, asked == formCSV:
		return asked, nil
	case asked != "":
		return "", cli.UsageError("--format %q: want ndjson or csv", asked)
	case strings.EqualFold(filepath.Ext(name), ".csv"):
		return formCSV, nil
	case name == "-":
		return "", cli.UsageError("--format is needed for standard input: ndjson or csv")
	}
	return formNDJSON, nil
}

func importList(ctx context.Context, c *cli.Call, name string, f *importFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	form, err := formOf(f.form, name)
	if err != nil {
		return err
	}
	in, size := c.In, int64(-1)
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if st, err := file.Stat(); err == nil && st.Mode().IsRegular() {
			size = st.Size()
		}
		in = file
	}
	s, err := suppressions(ctx, c)
	if err != nil {
		return err
	}
	im := &importing{c: c, s: s, f: f, bar: bytesBar(c, "import", size), total: policyapi.ImportResult{Errors: []policyapi.LineError{}, DryRun: f.dryRun}}
	start := time.Now()
	err = im.run(ctx, newParts(in, form))
	_ = im.bar.Finish()
	if cli.IsTerminal(c.Err) {
		fmt.Fprintln(c.Err)
	}
	if err != nil {
		if im.line > 1 {
			err = fmt.Errorf("the lines before %d are done: %w", im.line, err)
		}
		return err
	}
	return im.report(time.Since(start))
}

// importing is an import under way.
type importing struct {
	c     *cli.Call
	s     *client.Suppressions
	f     *importFlags
	bar   *progressbar.ProgressBar
	total policyapi.ImportResult
	line  int // the first of the part under way
}

func (im *importing) run(ctx context.Context, ps *parts) error {
	o := client.ImportOptions{Tenant: im.f.tenant, Stream: im.f.stream, Kind: im.f.kind, Reason: im.f.reason, DryRun: im.f.dryRun}
	if im.f.ends > 0 {
		o.Expires = time.Now().Add(im.f.ends.D()).UTC().Truncate(time.Second)
	}
	for {
		part, line, read, err := ps.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the list: %w", err)
		}
		im.line, o.FirstLine = line, line
		if ps.last() {
			o.Wait = im.f.waits()
		}
		r, err := im.s.Import(ctx, client.Text{Type: ps.kind, Content: part}, o)
		if err != nil {
			return err
		}
		im.add(r)
		_ = im.bar.Add(read)
	}
}

// maxNamed bounds the lines that are named.
const maxNamed = 1000

func (im *importing) add(r *policyapi.ImportResult) {
	t := &im.total
	t.Lines, t.Failed = t.Lines+r.Lines, t.Failed+r.Failed
	t.Added, t.Changed, t.Unchanged = t.Added+r.Added, t.Changed+r.Changed, t.Unchanged+r.Unchanged
	t.Errors = append(t.Errors, r.Errors[:min(len(r.Errors), maxNamed-len(t.Errors))]...)
	t.Spread, t.Audited = r.Spread, r.Audited
	if r.Seq > 0 {
		t.Node, t.Origin, t.Seq = r.Node, r.Origin, r.Seq
	}
}

func (im *importing) report(took time.Duration) error {
	c, t := im.c, &im.total
	err := c.Print(t, func(w io.Writer) error {
		for _, e := range t.Errors {
			fmt.Fprintf(c.Err, "line %d: %s\n", e.Line, human.Clean(e.Reason))
		}
		if t.DryRun {
			_, err := fmt.Fprintf(w, "%s, %d good, %d bad; nothing was changed\n", human.Count(int64(t.Lines), "line", "lines"), t.Lines-t.Failed, t.Failed)
			return err
		}
		_, err := fmt.Fprintf(w, "%s: %d added, %d changed, %d as before, %d left out; %s\n", human.Count(int64(t.Lines), "line", "lines"), t.Added, t.Changed, t.Unchanged, t.Failed, human.Span(took))
		return err
	})
	if err != nil {
		return err
	}
	if t.Failed > 0 {
		return &cli.ExitError{Code: cli.ExitPartly, Text: fmt.Sprintf("%s left out", human.Count(int64(t.Failed), "line was", "lines were"))}
	}
	if t.DryRun {
		return nil
	}
	return spreadOut(c, &t.Spread, im.f.wait)
}

// bytesBar shows how much of a file is done.
func bytesBar(c *cli.Call, name string, size int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size, progressbar.OptionSetDescription(name), progressbar.OptionSetWriter(c.Err), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetVisibility(cli.IsTerminal(c.Err)))
}

// parts cuts a list into pieces at the ends of entries. Of CSV each piece but the
// first has the header line put before it.
type parts struct {
	r    *bufio.Reader
	kind string
	csv  bool
	head []byte
	line int // of the next byte
	end  bool
}

// partSize is about how large a piece is; maxPart is the most that the API takes.
const (
	partSize = 2 << 20
	maxPart  = 7 << 20
)

func newParts(in io.Reader, form string) *parts {
	p := &parts{r: bufio.NewReaderSize(in, 256<<10), kind: "application/x-ndjson", line: 1}
	if p.csv = form == formCSV; p.csv {
		p.kind = "text/csv"
	}
	return p
}

// last reports whether the piece that was given last was the end.
func (p *parts) last() bool { return p.end }

// next gives a piece, the number of its first line, and how much of the file it
// is.
func (p *parts) next() (part []byte, line, read int, err error) {
	if p.end {
		return nil, 0, 0, io.EOF
	}
	part = bytes.Clone(p.head)
	line = p.line
	open := false // within a quoted cell
	for {
		text, err := p.r.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, 0, err
		}
		part, read = append(part, text...), read+len(text)
		if len(part) > maxPart {
			return nil, 0, 0, fmt.Errorf("line %d: an entry of more than %d bytes", p.line, maxPart-partSize)
		}
		p.line += bytes.Count(text, []byte("\n"))
		open = p.csv && quoted(text, open)
		if p.csv && p.head == nil && !open {
			p.head = bytes.TrimPrefix(bytes.Clone(part), []byte("\xef\xbb\xbf"))
		}
		if err == nil && !open && read >= partSize {
			_, err = p.r.Peek(1)
			if err == nil {
				return part, line, read, nil
			}
		}
		if err != nil {
			if p.end = true; read == 0 {
				return nil, 0, 0, io.EOF
			}
			return part, line, read, nil
		}
	}
}

// quoted reports whether a quoted cell is open after a line, as it was or was not
// before it. A quote opens a cell only where the cell begins, and one within a
// quoted cell is written twice (RFC 4180 2); one in the middle of a plain cell, as in
// a reason that somebody typed, is text.
func quoted(line []byte, open bool) bool {
	begins := !open
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case open && c == '"' && i+1 < len(line) && line[i+1] == '"':
			i++
		case open && c == '"':
			open = false
		case begins && c == '"':
			open = true
		}
		begins = !open && c == ','
	}
	return open
}

func newSuppressExportCmd(c *cli.Call) *cobra.Command {
	var f suppressFilter
	form := ""
	cmd := &cobra.Command{
		Use: "export [FILE]", Short: "Export the list to a file, or to standard output", Args: cli.WantArgs(0, 1),
		Long: "Export the list, as \"import\" takes it. A file is whole when the command has ended well:\nit is written beside its name first.",
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "-"
			if len(args) > 0 {
				name = args[0]
			}
			if name == "-" && form == "" {
				form = formNDJSON
			}
			kind, err := formOf(form, name)
			if err != nil {
				return err
			}
			filter, err := f.read()
			if err != nil {
				return err
			}
			return exportList(cmd.Context(), c, name, kind, filter)
		},
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&form, "format", "", "ndjson or csv (default by the file's name)")
	return cmd
}

func exportList(ctx context.Context, c *cli.Call, name, form string, f client.SuppressionFilter) (err error) {
	s, err := suppressions(ctx, c)
	if err != nil {
		return err
	}
	out := c.Out
	if name != "-" {
		file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".part-*")
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(file.Name()) }() // is gone when all went well
		if err := exportTo(ctx, c, s, file, form, f); err != nil {
			return errors.Join(err, file.Close())
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return err
		}
		return os.Rename(file.Name(), name)
	}
	return exportTo(ctx, c, s, out, form, f)
}

func exportTo(ctx context.Context, c *cli.Call, s *client.Suppressions, out io.Writer, form string, f client.SuppressionFilter) error {
	w := bufio.NewWriterSize(out, 256<<10)
	write := func(line []byte) error {
		if _, err := w.Write(line); err != nil {
			return err
		}
		return w.WriteByte('\n')
	}
	var table *csv.Writer
	if form == formCSV {
		table = csv.NewWriter(w)
		if err := table.Write([]string{"tenant", "address", "stream", "kind", "category", "reason", "event", "by", "added", "expires"}); err != nil {
			return err
		}
		write = func(line []byte) error { return writeCSV(table, line) }
	}
	bar := progressbar.NewOptions64(-1, progressbar.OptionSetDescription("export"), progressbar.OptionSetWriter(c.Err), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetVisibility(cli.IsTerminal(c.Err)))
	err := s.Export(ctx, f, func(line []byte) error {
		_ = bar.Add(1)
		return write(line)
	})
	_ = bar.Finish()
	if cli.IsTerminal(c.Err) {
		fmt.Fprintln(c.Err)
	}
	if table != nil {
		table.Flush()
		err = errors.Join(err, table.Error())
	}
	return errors.Join(err, w.Flush())
}

func writeCSV(w *csv.Writer, line []byte) error {
	var s policyapi.Suppression
	if err := json.Unmarshal(line, &s); err != nil {
		return fmt.Errorf("read an entry: %w", err)
	}
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	return w.Write([]string{s.Tenant, s.Address, s.Stream, s.Kind, s.Category, s.Reason, s.Event, s.By, at(s.Added), at(s.Expires)})
}
