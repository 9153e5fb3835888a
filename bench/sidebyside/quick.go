package sidebyside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hikyaku/node/dkim"
)

// SigningPolicy is a policy that signs the sources' messages with a fresh key.
func SigningPolicy(kind string) (string, error) {
	key, _, err := dkim.Generate(kind)
	if err != nil {
		return "", fmt.Errorf("make a signing key: %w", err)
	}
	return "kind: SigningKey\nname: bench\nspec:\n  domain: source.test\n  selector: bench\n  private_key: |\n    " +
		strings.ReplaceAll(strings.TrimSpace(key), "\n", "\n    ") + "\n", nil
}

// QuickOptions are one quick look, as make bench-quick takes it.
type QuickOptions struct {
	Rounds   int           // default 3
	Target   time.Duration // of each run; default 2 s
	Version  string        // of the binary
	Commit   string
	Dirty    bool // the commit is not all that was built
	Binary   string
	Dir      string
	Progress func(Step)
}

// Quick is the result: three comparisons.
type Quick struct {
	Started time.Time
	Took    time.Duration
	Version string
	Commit  string
	Dirty   bool
	Parts   []QuickPart
}

// QuickPart is one of the comparisons.
type QuickPart struct {
	Name   string
	Result *Result
}

// RunQuick compares shortly: the independent tools with Postfix, our own
// source and sink, and the same with every message signed. Each part has its
// bare limit in the same run.
func RunQuick(ctx context.Context, o QuickOptions) (*Quick, error) {
	if o.Target == 0 {
		o.Target = 2 * time.Second
	}
	signing, err := SigningPolicy(dkim.Ed25519)
	if err != nil {
		return nil, err
	}
	q := &Quick{Started: time.Now().UTC().Truncate(time.Second), Version: o.Version, Commit: o.Commit, Dirty: o.Dirty}
	base := Options{Rounds: o.Rounds, Target: o.Target, Binary: o.Binary, Dir: o.Dir, Progress: o.Progress, SkipProbe: true}
	for _, part := range []struct {
		name string
		set  func(*Options)
	}{
		{"smtp-source → smtp-sink", func(o *Options) { o.Only = []string{Bare, "postfix", "hikyaku"} }},
		{"own source → own sink", func(o *Options) { o.Source, o.Sink, o.Only = Own, Own, []string{Bare, "hikyaku"} }},
		{"own source → own sink, signed Ed25519", func(o *Options) {
			o.Source, o.Sink, o.Only, o.Policy, o.Signed = Own, Own, []string{Bare, "hikyaku"}, signing, true
		}},
	} {
		po := base
		part.set(&po)
		r, err := Run(ctx, po)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		if w := r.Row("hikyaku"); w.Failed != "" {
			return nil, fmt.Errorf("%s: hikyaku: %s", part.name, w.Failed)
		}
		q.Parts = append(q.Parts, QuickPart{part.name, r})
	}
	q.Took = time.Since(q.Started).Round(time.Second)
	return q, nil
}

// quickLine is one line of the file of a quick look: one candidate of one part.
type quickLine struct {
	Time       time.Time `json:"time"`
	Version    string    `json:"version"`
	Commit     string    `json:"commit"`
	Dirty      bool      `json:"dirty,omitempty"`
	Work       string    `json:"work"`
	Candidate  string    `json:"candidate"`
	Size       int       `json:"size_bytes"`
	Rounds     int       `json:"rounds"`
	PerSecond  Spread    `json:"per_second"`
	OfBare     Spread    `json:"of_bare,omitzero"`
	OfPostfix  Spread    `json:"of_postfix,omitzero"`
	CPU        Spread    `json:"cpu_us_per_message,omitzero"`
	PeakMemory int64     `json:"peak_memory_bytes,omitempty"`
	Missing    string    `json:"missing,omitempty"`
	CPUModel   string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Kernel     string    `json:"kernel"`
	SyncP50    float64   `json:"disk_sync_p50_us"`
	Load       float64   `json:"load_at_start"`
	Busy       float64   `json:"busy_before"`
}

// Lines is the quick look as JSON, one object a line.
func (q *Quick) Lines() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, p := range q.Parts {
		r := p.Result
		for _, w := range r.Rows {
			err := e.Encode(quickLine{
				Time: q.Started, Version: q.Version, Commit: q.Commit, Dirty: q.Dirty, Work: p.Name, Candidate: w.Name, Size: r.Work.Size, Rounds: r.Rounds,
				PerSecond: w.PerSecond, OfBare: w.OfBare, OfPostfix: w.OfPostfix, CPU: w.CPU, PeakMemory: w.PeakMemory, Missing: w.Missing,
				CPUModel: r.Machine.CPU, Cores: r.Machine.Cores, Kernel: r.Machine.Kernel, SyncP50: float64(r.Disk.P50) / float64(time.Microsecond), Load: r.Machine.Load[0], Busy: r.Busy,
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), nil
}

// Markdown is the quick look for people.
func (q *Quick) Markdown() string {
	var b strings.Builder
	commit := q.Commit
	if commit == "" {
		commit = "unknown"
	}
	if q.Dirty {
		commit += " with changes"
	}
	m := q.Parts[0].Result
	fmt.Fprintf(&b, "# Quick look of %s\n\nVersion %s, commit %s. %s, %d cores, Linux %s; a sync of this disk takes %v. Took %v.\n\n",
		q.Started.Format("2006-01-02 15:04 MST"), q.Version, commit, m.Machine.CPU, m.Machine.Cores, m.Machine.Kernel, m.Disk.P50.Round(10*time.Microsecond), q.Took)
	fmt.Fprintf(&b, "%s bytes, %d connections, %d rounds of about %v; medians. Short runs on whatever the machine did: read the ratios, and compare with others of this machine only.\n\n",
		thousands(float64(m.Work.Size)), m.Work.Connections, m.Rounds, m.RunTime)
	b.WriteString("| work | candidate | msg/s | min–max | of bare | of Postfix | CPU µs/msg | peak MiB |\n|---|---|---:|---:|---:|---:|---:|---:|\n")
	for _, p := range q.Parts {
		for _, w := range p.Result.Rows {
			c := w.cells()
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", p.Name, strings.TrimSuffix(c[0], ": source → sink"), c[1], c[2], c[3], c[4], c[5], c[6])
		}
	}
	seen := map[string]bool{}
	for _, p := range q.Parts {
		for _, n := range p.Result.Notes {
			// Our own load is in the machine's average by the second part.
			if p.Result == m || !strings.HasPrefix(n, "OTHER WORK") {
				if !seen[n] {
					fmt.Fprintf(&b, "\n%s\n", n)
				}
				seen[n] = true
			}
		}
	}
	return b.String()
}

// Write puts the quick look into a directory: <date>-<commit>.jsonl, the same
// as .md, and latest.md.
func (q *Quick) Write(dir string) (files []string, err error) {
	lines, err := q.Lines()
	if err != nil {
		return nil, fmt.Errorf("write the figures: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write the figures: %w", err)
	}
	commit := q.Commit[:min(len(q.Commit), 10)]
	if commit == "" {
		commit = "unknown"
	}
	if q.Dirty {
		commit += "-dirty"
	}
	name := filepath.Join(dir, q.Started.Format("2006-01-02T150405Z")+"-"+commit)
	md := []byte(q.Markdown())
	var errs []error
	for _, f := range []struct {
		path string
		text []byte
	}{{name + ".jsonl", lines}, {name + ".md", md}, {filepath.Join(dir, "latest.md"), md}} {
		errs = append(errs, os.WriteFile(f.path, f.text, 0o644))
		files = append(files, f.path)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("write the figures: %w", err)
	}
	return files, nil
}
