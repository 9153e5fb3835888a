package scenario

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/ledger"
	"hikyaku/bench/live"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

// Env is what a run is given from outside.
type Env struct {
	Binary   string    // the product; default: as bench/candidate finds it
	Dir      string    // where nodes keep their data, on the disk to be judged; default the system's for temporary files
	Out      io.Writer // progress
	Terminal bool      // Out is one
	Version  string    // of this program and its commit, for the report
	Profiles string    // directory for CPU profiles of the nodes while they are sent to; "" takes none
}

// Run is one scenario under way.
type Run struct {
	Params
	env  Env
	dir  string // its own, removed at the end
	rep  *report.Report
	view *live.View
	// books are the accounts of all trials, some of which run side by side, and the
	// report's notes.
	books struct {
		sync.Mutex
		rows  map[string]*ledger.Row // by name
		order []string
	}
	// simulated: nothing is sent in the short form, so there is no ledger.
	simulated bool
}

// Do runs a scenario. The report is there even when the run failed, as far as
// it got; err says what did not hold: a ledger out of balance, a violation, a
// node that ended.
func (s Scenario) Do(ctx context.Context, env Env, asked Params) (*report.Report, error) {
	if err := s.Check(asked); err != nil {
		return nil, err
	}
	p := s.With(asked)
	var err error
	if env.Binary, err = candidate.Binary(ctx, env.Binary); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(env.Dir, "hikyaku-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := &Run{Params: p, env: env, dir: dir, simulated: s.simulated}
	r.books.rows = map[string]*ledger.Row{}
	if err := r.begin(); err != nil {
		return nil, err
	}
	r.view = live.New(env.Out, env.Terminal)
	err = s.run(ctx, r)
	r.view.Close()
	r.end(err)
	if err != nil {
		return r.rep, fmt.Errorf("%s: %w", s.Name, err)
	}
	return r.rep, nil
}

// begin notes what the figures hang on, before anything runs.
func (r *Run) begin() (err error) {
	r.rep = &report.Report{
		Scenario: r.Scenario, Form: report.Short, Started: time.Now(), Seed: r.Seed, Flags: r.Params.flags(),
		Mode:     map[string]string{"fsync": "before every 250 and 202", "tls in": yes(r.TLS), "tls out": "no", "dkim": or(r.DKIM, "none")},
		Versions: map[string]string{"hikyaku": r.env.Version, "go": runtime.Version()},
	}
	if r.Long {
		r.rep.Form = report.Long
	}
	if r.rep.Machine, err = measure.ReadMachine(r.dir); err != nil {
		return fmt.Errorf("read the machine's facts: %w", err)
	}
	if r.rep.Disk, err = measure.SyncLatency(r.dir, 200); err != nil {
		return fmt.Errorf("measure the disk's sync: %w", err)
	}
	if load := r.rep.Machine.Load[0]; load > float64(r.rep.Machine.Cores)/2 {
		r.note("Other work ran on the machine at the start: its load average was %.1f on %d cores.", load, r.rep.Machine.Cores)
	}
	if !r.simulated {
		r.note("Source, nodes and receivers shared the machine; the network was loopback.")
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (r *Run) note(format string, args ...any) {
	r.books.Lock()
	defer r.books.Unlock()
	if n := fmt.Sprintf(format, args...); !slices.Contains(r.rep.Notes, n) {
		r.rep.Notes = append(r.rep.Notes, n)
	}
}

// record adds a trial to the run's account.
func (r *Run) record(o *outcome) {
	r.books.Lock()
	defer r.books.Unlock()
	for _, f := range o.flows {
		for _, row := range f.balance.Rows() {
			sum := r.books.rows[row.Name]
			if sum == nil {
				sum = &ledger.Row{Name: row.Name, Fault: row.Fault}
				r.books.rows[row.Name] = sum
				r.books.order = append(r.books.order, row.Name)
			}
			sum.Count += row.Count
			if room := ledger.MaxListed - len(sum.IDs); room > 0 {
				sum.IDs = append(sum.IDs, row.IDs[:min(room, len(row.IDs))]...)
			}
		}
	}
}

// show puts a trial's plots, processes and latencies into the report.
func (r *Run) show(o *outcome, label string) {
	name := func(s string) string {
		if label == "" {
			return s
		}
		return label + ": " + s
	}
	for _, s := range o.series {
		s.Name = name(s.Name)
		r.rep.Series = append(r.rep.Series, s)
	}
	for _, p := range o.processes {
		p.Name = name(p.Name)
		r.rep.Processes = append(r.rep.Processes, report.NewProcess(p, int(o.received), o.bytes))
	}
	for _, f := range o.flows {
		for _, l := range []struct {
			what string
			h    *measure.Histogram
		}{{"accept", f.service}, {"accept, from the intended time", f.fromDue}, {"sent to delivered", f.delivery}} {
			if l.h != nil && l.h.Count() > 0 {
				r.rep.Latencies = append(r.rep.Latencies, report.NewLatency(name(f.name+": "+l.what), l.h))
			}
		}
	}
	r.rep.Marks = append(r.rep.Marks, o.marks...)
	r.rep.Carriers = append(r.rep.Carriers, o.carriers...)
	r.rep.Violations = append(r.rep.Violations, o.broken...)
	r.rep.ViolationCount += o.brokenN
}

// figure is a result: the median of its rounds.
func (r *Run) figure(name, unit, better string, target float64, runs ...float64) {
	f := report.Figure{Name: name, Unit: unit, Better: better, Value: median(runs)}
	if target != 0 {
		f.Target = &target
	}
	if len(runs) > 1 {
		f.Runs = runs
	}
	r.rep.Figures = append(r.rep.Figures, f)
}

func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// end closes the account.
func (r *Run) end(err error) {
	r.rep.Took = time.Since(r.rep.Started)
	if r.simulated && len(r.books.order) == 0 {
		return
	}
	l := &report.Ledger{Balanced: err == nil}
	if err != nil {
		l.Reasons = strings.Split(err.Error(), "\n")
	}
	for _, name := range r.books.order {
		l.Rows = append(l.Rows, *r.books.rows[name])
	}
	r.rep.Ledger = l
}

// rounds runs f for each round.
func (r *Run) rounds(f func(round int) error) error {
	for i := range max(1, r.Rounds) {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}
