package spool_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// breaker fails the operations on some files once it is switched on.
type breaker struct {
	on     atomic.Bool
	suffix string
	kinds  []errorfs.OpKind
	err    error
}

func (b *breaker) String() string { return "breaker" }

func (b *breaker) MaybeError(op errorfs.Op) error {
	if !b.on.Load() || !strings.HasSuffix(op.Path, b.suffix) {
		return nil
	}
	for _, k := range b.kinds {
		if op.Kind == k {
			return b.err
		}
	}
	return nil
}

var (
	opWrites = []errorfs.OpKind{errorfs.OpFileWrite}
	opSyncs  = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
)

// TestNothingIsAcknowledgedAfterAFailedCommit: safety.md I27 and 0.2.
func TestNothingIsAcknowledgedAfterAFailedCommit(t *testing.T) {
	for name, b := range map[string]*breaker{
		"write fails": {kinds: opWrites, err: syscall.EIO},
		"sync fails":  {kinds: opSyncs, err: syscall.EIO},
		"disk full":   {kinds: opWrites, err: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) { failCommit(t, b) })
	}
}

func failCommit(t *testing.T, b *breaker) {
	b.suffix = ".log"
	b.on.Store(false)
	mem := vfs.NewCrashableMem()
	clock := newClock()
	o := memOptions(errorfs.Wrap(mem, b), clock)
	var exits atomic.Int32
	exited := make(chan int, 10)
	o.Exit = func(code int) { exits.Add(1); exited <- code }
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	var events atomic.Int32
	s.OnEvents(func(uint64, []byte) { events.Add(1) })
	g := newMaker()
	good := g.mail("a.example", "b.example")
	mustAppend(t, s, good)
	waitFor(t, func() bool { return events.Load() == 1 }) // events are handed on after the answer
	b.on.Store(true)
	var wg sync.WaitGroup
	for range 8 {
		sub := g.mail("a.example")
		wg.Add(2)
		go func() {
			defer wg.Done()
			if err := s.Append(context.Background(), sub); !errors.Is(err, spool.ErrFailed) {
				t.Errorf("append on a broken disk: %v", err)
			}
		}()
		go s.Commit(ended(good.Deliveries[0], message.Delivered), func(err error) {
			defer wg.Done()
			if !errors.Is(err, spool.ErrFailed) {
				t.Errorf("commit on a broken disk: %v", err)
			}
		})
	}
	wg.Wait()
	if code := <-exited; code != 1 || exits.Load() != 1 {
		t.Errorf("exit code %d, called %d times", code, exits.Load())
	}
	b.on.Store(false) // the disk is well again, the store stays failed
	if err := s.Append(context.Background(), g.mail("a.example")); !errors.Is(err, spool.ErrFailed) {
		t.Errorf("append after a failure: %v", err)
	}
	if err := s.Admit(); !errors.Is(err, spool.ErrFailed) {
		t.Errorf("admit after a failure: %v", err)
	}
	if _, _, err := s.Page(queue("a.example"), spool.Cursor{}, far, 10); !errors.Is(err, spool.ErrFailed) {
		t.Errorf("page after a failure: %v", err)
	}
	if !s.Metrics().Failed || events.Load() != 1 {
		t.Errorf("%d batches of events were handed on, want only that of before", events.Load())
	}
	if err := s.Close(); !errors.Is(err, spool.ErrFailed) {
		t.Errorf("close: %v", err)
	}
	// What had been acknowledged is on the disk.
	s = open(t, memOptions(mem.CrashClone(vfs.CrashCloneCfg{}), clock))
	mustVerify(t, s)
	if ds := page(t, s, queue("b.example")); len(ds) != 1 || ds[0].ID != good.Deliveries[1].ID {
		t.Errorf("after restart: %v", ds)
	}
}

// TestBrokenDiskAtLogRotationEndsTheProcess: there Pebble panics in a way that
// nothing can recover, so the broken store lives in a process of its own.
func TestBrokenDiskAtLogRotationEndsTheProcess(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_ROTATE"); dir != "" {
		b := &breaker{suffix: ".log", kinds: append(opSyncs, errorfs.OpFileWrite, errorfs.OpCreate, errorfs.OpReuseForWrite), err: syscall.EIO}
		o := memOptions(errorfs.Wrap(vfs.Default, b), newClock())
		o.Dir = dir
		s, err := spool.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		g := newMaker()
		b.on.Store(true)
		sub := g.mail("a.example")
		sub.Message.Raw = make([]byte, 2<<20) // more than a memtable: the log is changed for it
		err = s.Append(context.Background(), sub)
		t.Logf("ANSWERED %v", err)
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run", "^TestBrokenDiskAtLogRotationEndsTheProcess$")
	cmd.Env = append(os.Environ(), "SPOOL_TEST_ROTATE="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || strings.Contains(string(out), "ANSWERED") {
		t.Errorf("the process lives on: %v\n%s", err, out)
	}
}

func TestFailedFlushRefusesNewMailAndRecovers(t *testing.T) {
	b := &breaker{suffix: ".sst", kinds: []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite}, err: syscall.ENOSPC}
	clock := newClock()
	o := memOptions(errorfs.Wrap(vfs.NewMem(), b), clock)
	o.Exit = func(int) { t.Error("a failed flush must not end the process") }
	s := open(t, o)
	g := newMaker()
	first := g.mail("a.example")
	mustAppend(t, s, first)
	b.on.Store(true)
	sub := g.mail("a.example")
	sub.Message.Raw = make([]byte, 900<<10) // larger than half a memtable: flushed at once
	mustAppend(t, s, sub)
	waitFor(t, func() bool { return errors.Is(s.Admit(), spool.ErrUnhealthy) })
	mustCommit(t, s, ended(first.Deliveries[0], message.Delivered)) // outcomes go on
	b.on.Store(false)
	waitFor(t, func() bool {
		clock.advance(11 * time.Second) // Pebble may fail once more meanwhile
		return s.Admit() == nil
	})
	mustVerify(t, s)
}

func TestLowSpaceGate(t *testing.T) {
	var free atomic.Uint64
	free.Store(100 << 30)
	o := memOptions(vfs.NewMem(), newClock())
	o.FreeBytesMin, o.FreePercentMin = 1<<30, 5 // 5 % of 100 GiB is more
	o.FreeSpace = func(dir string) (uint64, uint64, error) {
		if dir != "spool" {
			t.Errorf("asked for %q", dir)
		}
		return free.Load(), 100 << 30, nil
	}
	s := open(t, o)
	g := newMaker()
	sub := g.mail("a.example")
	mustAppend(t, s, sub)
	for _, step := range []struct {
		free uint64
		low  bool
	}{{6 << 30, false}, {5 << 30, false}, {5<<30 - 1<<28, true}, {5 << 30, true}, {5<<30 + 1<<28, true}, {6 << 30, false}} {
		free.Store(step.free)
		if err := s.Housekeep(); err != nil {
			t.Fatal(err)
		}
		if err := s.Admit(); errors.Is(err, spool.ErrLowSpace) != step.low || (err != nil) != step.low {
			t.Errorf("%d MiB free: %v, want low=%v", step.free>>20, err, step.low)
		}
		if m := s.Metrics(); m.LowSpace != step.low || m.FreeBytes != step.free {
			t.Errorf("metrics: %+v", m)
		}
	}
	free.Store(0)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, ended(sub.Deliveries[0], message.Delivered)) // deletes go on with no space at all
	free.Store(50 << 30)
	waitFor(t, func() bool { return s.Admit() == nil }) // by itself, within a second
}

func TestDirectoryInUseIsRefused(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_SECOND"); dir != "" { // the second process
		_, err := spool.Open(spool.Options{Dir: dir})
		if errors.Is(err, spool.ErrInUse) {
			os.Exit(42)
		}
		t.Fatalf("second process: %v", err)
	}
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	mustAppend(t, s, newMaker().mail("a.example"))
	for _, readOnly := range []bool{false, true} {
		if _, err := spool.Open(spool.Options{Dir: dir, ReadOnly: readOnly}); !errors.Is(err, spool.ErrInUse) {
			t.Errorf("same process, read-only=%v: %v", readOnly, err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestDirectoryInUseIsRefused$")
	cmd.Env = append(os.Environ(), "SPOOL_TEST_SECOND="+dir)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("second process: %v\n%s", err, out)
	}
	mustVerify(t, s)
}

func TestDirectoryThatIsNoSpoolIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := spool.Verify(dir, nil); err == nil {
		t.Error("an empty directory passes for a spool")
	}
	if _, err := spool.Verify(dir+"/none", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	file := dir + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Open(spool.Options{Dir: file}); err == nil {
		t.Error("a file passes for a directory")
	}
}

// TestUnsyncedMailIsNotShown holds the log's sync back and looks.
func TestUnsyncedMailIsNotShown(t *testing.T) {
	gate := &syncGate{FS: vfs.NewMem()}
	s := open(t, memOptions(gate, newClock()))
	g := newMaker()
	old := g.mail("a.example")
	mustAppend(t, s, old)
	gate.hold()
	t.Cleanup(gate.release) // before the store is closed, which waits for it
	fresh := g.mail("a.example")
	answered := make(chan error, 1)
	go func() { answered <- s.Append(context.Background(), fresh) }()
	<-gate.reached // its sync is under way
	// Pebble syncs beside inserting into the memtable: either may be first. The
	// moment meant is when both have begun.
	waitFor(t, func() bool {
		_, err := s.MessageMeta(fresh.Message.ID)
		return err == nil
	})
	ds, more, err := s.Page(queue("a.example"), spool.Cursor{}, far, 10)
	if err != nil || len(ds) != 1 || ds[0].ID != old.Deliveries[0].ID || more {
		t.Errorf("page shows %d deliveries, more %v, %v", len(ds), more, err)
	}
	select {
	case err := <-answered:
		t.Errorf("acknowledged before the sync: %v", err)
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Append(ctx, g.mail("a.example")); !errors.Is(err, context.Canceled) {
		t.Errorf("append of a caller who left: %v", err)
	}
	gate.release()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if ds := page(t, s, queue("a.example")); len(ds) < 2 {
		t.Errorf("after the sync: %d deliveries", len(ds))
	}
}

// syncGate holds syncs of the log back.
type syncGate struct {
	vfs.FS
	mu struct {
		sync.Mutex
		gate chan struct{}
	}
	reached chan struct{}
}

func (g *syncGate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.gate, g.reached = make(chan struct{}), make(chan struct{}, 100)
}

func (g *syncGate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.gate != nil {
		close(g.mu.gate)
		g.mu.gate = nil
	}
}

func (g *syncGate) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &gatedFile{f, g}, nil
}

type gatedFile struct {
	vfs.File
	g *syncGate
}

func (f *gatedFile) wait() {
	f.g.mu.Lock()
	gate := f.g.mu.gate
	f.g.mu.Unlock()
	if gate != nil {
		f.g.reached <- struct{}{}
		<-gate
	}
}

func (f *gatedFile) SyncData() error { f.wait(); return f.File.SyncData() }
func (f *gatedFile) Sync() error     { f.wait(); return f.File.Sync() }
