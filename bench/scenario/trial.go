package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"hikyaku/bench/candidate"
	"hikyaku/bench/carriers"
	"hikyaku/bench/measure"
	"hikyaku/bench/report"
)

// trial is one run of fresh nodes, from start to end.
type trial struct {
	run   *Run
	plan  plan
	dir   string
	inbox inbox // the receivers
	nodes []*candidate.Hikyaku
	watch *measure.Watch
	flows []*flow
	start time.Time // zero of all times in ledgers and series

	content    atomic.Uint64          // bytes that the receivers took
	phase      atomic.Pointer[string] // for the live view
	restarting atomic.Bool            // a node is down on purpose
	restarted  bool                   // a node was ended in order while it worked
	killed     bool                   // a node was killed, and its counters with it
	counters   map[string]float64     // of all nodes' lives that ended in order
	marks      []report.Mark
	before     measure.Usage // of this process, by the trials before
}

// plan is what a trial shall do.
type plan struct {
	name     string
	policy   string              // resources added to the receivers'
	config   string              // lines added to hikyaku.yaml
	nodeKeys string              // keys added to its node section
	nodes    int                 // default 1
	profiles []string            // simulated carriers; none is one receiver that takes all
	files    []string            // profiles of the user's own
	given    []*carriers.Profile // in place of both
	sources  int                 // sending addresses to the carriers; default 1
	// told, if not nil, changes what the product is told of the carriers.
	told  func(o *carriers.PolicyOptions)
	flows []*flow
	// before runs with the nodes up and nothing sent, during beside the sources
	// until they have ended, sent after that, and drained when nothing more is
	// awaited. Any may be nil.
	before, during, sent, drained func(ctx context.Context, t *trial) error
	crew                          *crew         // others that run beside this one
	settle                        time.Duration // wait for the queue to empty; 0 is the run's
	partial                       bool          // mail that is still queued at the end is expected
	duplicates                    int           // allowed, where nodes are killed
	fault                         string        // the first flow's receiver breaks, to show that the ledger sees it
}

// do runs the trial and audits it. The outcome is whole even when the ledger
// does not balance; then the error says so.
func (r *Run) do(ctx context.Context, p plan) (*outcome, error) {
	o, err := r.trial(ctx, p)
	if err != nil {
		return o, fmt.Errorf("%s: %w", p.name, err)
	}
	return o, nil
}

func (r *Run) trial(ctx context.Context, p plan) (_ *outcome, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout(), errors.New("the trial took longer than its bound"))
	defer cancel()
	t := &trial{run: r, plan: p, flows: p.flows, counters: map[string]float64{}}
	if t.dir, err = os.MkdirTemp(r.dir, "trial-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(t.dir)
	for i, f := range t.flows {
		if err := f.prepare(i, r.Seed); err != nil {
			return nil, err
		}
		if i == 0 {
			f.fault = p.fault
		}
	}
	defer t.close()
	t.setPhase("start")
	if err := t.up(ctx); err != nil {
		return nil, err
	}
	if err := t.carry(ctx); err != nil {
		return nil, errors.Join(err, t.nodeOutput())
	}
	o := t.outcome()
	if err := t.down(ctx, o); err != nil {
		return nil, err
	}
	r.record(o)
	return o, o.err(p)
}

// timeout bounds a trial: its sending, its settling, and what it takes around
// them.
func (r *Run) timeout() time.Duration {
	d := r.Duration.D() + 2*r.Settle.D() + 3*time.Minute
	// As fast as it goes is still bounded: no slower than 200 a second.
	return d + time.Duration(r.Messages+r.Backlog)*5*time.Millisecond
}

// up starts receivers and nodes.
func (t *trial) up(ctx context.Context) (err error) {
	t.start = time.Now()
	if t.inbox, err = openInbox(ctx, t); err != nil {
		return fmt.Errorf("start the receivers: %w", err)
	}
	keys, err := t.encrypt()
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	var targets []measure.Target
	for i := range max(1, t.plan.nodes) {
		if err := os.Mkdir(filepath.Join(t.dir, nodeName(i)), 0o700); err != nil {
			return err
		}
		h, err := candidate.StartHikyaku(ctx, candidate.HikyakuOptions{
			Binary: t.run.env.Binary, Name: nodeName(i), Dir: filepath.Join(t.dir, nodeName(i)),
			Resolver: t.inbox.resolver(), Port: t.inbox.port(), Config: t.plan.config, NodeKeys: t.plan.nodeKeys,
			SMTPKeys: keys, Pprof: t.run.env.Profiles != "",
			Policy: strings.TrimSuffix(t.inbox.policy()+noNotices+t.plan.policy, "---\n"),
		})
		if err != nil {
			return fmt.Errorf("start %s: %w", nodeName(i), err)
		}
		t.nodes = append(t.nodes, h)
		targets = append(targets, measure.Target{Name: nodeName(i), PID: h.PID()})
	}
	t.start = time.Now()
	t.watch = measure.NewWatch(measure.WatchOptions{Start: t.start, Targets: targets, Gauges: t.gauges(), Latencies: t.latencies()})
	t.before, err = t.watch.Usage(measure.Self)
	return err
}

// noNotices keeps notices to senders out of the accounts: the loads' senders
// cannot receive any.
const noNotices = "kind: Tenant\nname: default\nspec: {dsn: never}\n---\n"

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// close ends what is still there, whatever happened.
func (t *trial) close() {
	if t.watch != nil {
		t.watch.Stop()
	}
	for _, h := range t.nodes {
		_ = h.Close() // the data goes with the directory
	}
	if t.inbox != nil {
		_ = t.inbox.close()
	}
}

// nodeOutput is the end of what a node that died printed, as an error.
func (t *trial) nodeOutput() error {
	var errs []error
	for i, h := range t.nodes {
		if !h.Running() {
			errs = append(errs, fmt.Errorf("%s has ended:\n%s", nodeName(i), candidate.Tail(h.Output(), 3000)))
		}
	}
	return errors.Join(errs...)
}
