package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
)

// Options are what Open needs. File is required.
type Options struct {
	// File remembers what was attached. Its directory must exist.
	File string
	// Programs are the absolute paths of those that attach and detach commands
	// may run.
	Programs []string
	// CommandTimeout bounds one command. Default 10 s.
	CommandTimeout time.Duration
	Logger         *slog.Logger // default slog.Default()

	kernel kernel // tests
	boot   string // tests
}

// kernel is the machine's interfaces.
type kernel interface {
	// has reports whether the interface has the address, with whatever prefix.
	has(iface string, a netip.Addr) (bool, error)
	// add fails with errThere if the interface has it.
	add(iface string, p netip.Prefix) error
	// remove does nothing if there is no such address or interface.
	remove(iface string, p netip.Prefix) error
	// announce tells the neighbours on the interface.
	announce(iface string, a netip.Addr) error
}

var errThere = errors.New("the address is there already")

// Table is what this node has attached. Safe for concurrent use; calls for one
// source follow each other.
type Table struct {
	opt   Options
	log   *slog.Logger
	turns turns
	disk  chan struct{} // one writer of the file at a time
	mu    struct {
		sync.Mutex
		records map[string]Record // by source
		metrics Metrics
	}
}

// Metrics is a snapshot of counters.
type Metrics struct {
	Attached       int // recorded now
	Attaches       uint64
	Detaches       uint64
	Failures       uint64 // of either
	Commands       uint64
	AnnounceFailed uint64
}

// Open reads what an earlier process attached. What it left behind stays until
// Sweep.
func Open(o Options) (*Table, error) {
	if o.File == "" || !filepath.IsAbs(o.File) {
		return nil, fmt.Errorf("attach: file %q: want an absolute path", o.File)
	}
	for _, p := range o.Programs {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("attach: program %q: want an absolute path", p)
		}
	}
	o.CommandTimeout = cmp.Or(o.CommandTimeout, 10*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.kernel == nil {
		o.kernel = newKernel()
	}
	if o.boot == "" {
		o.boot = bootID()
	}
	t := &Table{opt: o, log: o.Logger, disk: make(chan struct{}, 1)}
	t.mu.records = map[string]Record{}
	records, err := t.load()
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	for _, r := range records {
		if r.Program == nil && r.Boot != o.boot {
			continue // the kernel has forgotten it
		}
		t.mu.records[r.Source] = r
	}
	return t, nil
}

// Attach brings the source's address to this machine. It may be called again:
// after a failure, for a new epoch, or since the address has gone.
func (t *Table) Attach(ctx context.Context, name string, epoch int64, s *policy.Source) error {
	release, err := t.turns.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	if err := t.attach(ctx, name, epoch, s); err != nil {
		t.count(func(m *Metrics) { m.Failures++ })
		return err
	}
	t.count(func(m *Metrics) { m.Attaches++ })
	return nil
}

func (t *Table) attach(ctx context.Context, name string, epoch int64, s *policy.Source) error {
	var want *Record
	if s.Address != "" && s.Attach != "" && s.Attach != policy.AttachNone {
		r, err := newRecord(name, epoch, s, t.opt.boot)
		if err != nil {
			return err
		}
		if err := t.taken(&r); err != nil {
			return err
		}
		want = &r
	}
	have, known := t.record(name)
	if known && (want == nil || !have.same(want)) {
		// The policy has changed: the old way is undone as it was done.
		if err := t.undo(ctx, have); err != nil {
			return err
		}
		known = false
	}
	switch {
	case want == nil:
		return nil
	case want.Program != nil:
		return t.attachByCommand(ctx, want, s)
	}
	return t.attachByNetlink(ctx, want, known)
}

// attachByNetlink puts the address on the interface; known says that it was
// recorded before.
func (t *Table) attachByNetlink(ctx context.Context, r *Record, known bool) error {
	p := r.prefix()
	there, err := t.opt.kernel.has(r.Interface, p.Addr())
	switch {
	case err != nil:
		return fmt.Errorf("look for %s on %s: %w", p.Addr(), r.Interface, err)
	case there && !known:
		return nil // somebody else's, and not to be taken off
	}
	if err := t.keep(ctx, *r); err != nil {
		return err
	}
	if there {
		return nil
	}
	err = t.opt.kernel.add(r.Interface, p)
	if errors.Is(err, errThere) {
		return t.forget(ctx, r.Source) // put there by somebody else in this moment
	}
	if err != nil {
		return errors.Join(fmt.Errorf("put %s on %s: %w", p, r.Interface, err), t.forget(ctx, r.Source))
	}
	t.log.Info("address attached", "source", r.Source, "address", p, "interface", r.Interface, "epoch", r.Epoch)
	if err := t.opt.kernel.announce(r.Interface, p.Addr()); err != nil {
		t.count(func(m *Metrics) { m.AnnounceFailed++ })
		t.log.Warn("the neighbours could not be told of an address", "address", p.Addr(), "interface", r.Interface, "error", err)
	}
	return nil
}

// attachByCommand runs the program. What it did before it failed is not known,
// so its record stays.
func (t *Table) attachByCommand(ctx context.Context, r *Record, s *policy.Source) error {
	args := s.Command(s.AttachCommand, r.Source, strconv.FormatInt(r.Epoch, 10))
	for _, program := range []string{args[0], r.Program[0]} {
		if err := t.allowed(program); err != nil {
			return err
		}
	}
	if err := t.keep(ctx, *r); err != nil {
		return err
	}
	if err := t.run(ctx, args); err != nil {
		return fmt.Errorf("attach command: %w", err)
	}
	t.log.Info("address attached", "source", r.Source, "address", r.Address, "program", args[0], "epoch", r.Epoch)
	return nil
}

// Detach takes the address off, if it was attached here under this epoch or an
// earlier one. Where it fails it may be called again.
func (t *Table) Detach(ctx context.Context, name string, epoch int64, _ *policy.Source) error {
	release, err := t.turns.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	r, known := t.record(name)
	if !known || r.Epoch > epoch {
		return nil
	}
	return t.undo(ctx, r)
}

// undo takes off what was recorded, the way it was put here.
func (t *Table) undo(ctx context.Context, r Record) (err error) {
	defer func() {
		if err != nil {
			t.count(func(m *Metrics) { m.Failures++ })
		}
	}()
	if r.Program != nil {
		if err := t.allowed(r.Program[0]); err != nil {
			return err
		}
		if err := t.run(ctx, r.Program); err != nil {
			return fmt.Errorf("detach command: %w", err)
		}
	} else if err := t.opt.kernel.remove(r.Interface, r.prefix()); err != nil {
		return fmt.Errorf("take %s off %s: %w", r.prefix(), r.Interface, err)
	}
	if err := t.forget(ctx, r.Source); err != nil {
		return err
	}
	t.count(func(m *Metrics) { m.Detaches++ })
	t.log.Info("address detached", "source", r.Source, "address", r.Address, "epoch", r.Epoch)
	return nil
}

// Sweep takes off what earlier processes have attached, but for what keep says
// is to stay: the sources that are pinned to this node. It tries all, and
// returns what went wrong; what could not be taken off is tried by the next
// Attach, Detach or Sweep.
func (t *Table) Sweep(ctx context.Context, keep func(source string) bool) error {
	var errs []error
	for _, r := range t.Attached() {
		if keep != nil && keep(r.Source) {
			continue
		}
		if err := t.Detach(ctx, r.Source, r.Epoch, nil); err != nil {
			errs = append(errs, fmt.Errorf("source %q: %w", r.Source, err))
		}
	}
	return errors.Join(errs...)
}

// Attached is what is recorded, by source.
func (t *Table) Attached() []Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Record, 0, len(t.mu.records))
	for _, r := range t.mu.records {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Source, b.Source) })
	return out
}

// Metrics is the state of the counters now.
func (t *Table) Metrics() Metrics {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.mu.metrics
	m.Attached = len(t.mu.records)
	return m
}

func (t *Table) count(f func(*Metrics)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.mu.metrics)
}

func (t *Table) record(source string) (Record, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.mu.records[source]
	return r, ok
}

// taken refuses an address that is attached for another source: a Detach of the
// one would take it from the other.
func (t *Table) taken(r *Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.mu.records {
		if o.Source != r.Source && o.Address == r.Address {
			return fmt.Errorf("the address is still attached for source %q", o.Source)
		}
	}
	return nil
}

// turns makes calls for one source follow each other.
type turns struct {
	mu struct {
		sync.Mutex
		of map[string]*turn
	}
}

type turn struct {
	free    chan struct{} // holds one token
	waiters int
}

func (t *turns) take(ctx context.Context, name string) (release func(), err error) {
	t.mu.Lock()
	if t.mu.of == nil {
		t.mu.of = map[string]*turn{}
	}
	w := t.mu.of[name]
	if w == nil {
		w = &turn{free: make(chan struct{}, 1)}
		w.free <- struct{}{}
		t.mu.of[name] = w
	}
	w.waiters++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if w.waiters--; w.waiters == 0 {
			delete(t.mu.of, name)
		}
	}
	select {
	case <-w.free:
		return func() {
			w.free <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for source %q: %w", name, context.Cause(ctx))
	}
}
