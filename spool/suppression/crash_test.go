package suppression_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/spool/suppression"
)

// The crash-point test, as the spool has it: run a workload on a file system that
// can say what a disk holds after the power fails, take such an image at each
// operation that changes a file, open each image, and check it against what had
// been confirmed and what had been asked for at that moment.

// claim is how it stands with an address of the workload, which one goroutine
// changes.
type claim struct {
	confirmed bool // it is suppressed, as was confirmed
	asked     bool // as was asked for last
	pending   bool // that is not confirmed yet
}

// book keeps the claims.
type book struct {
	mu struct {
		sync.Mutex
		claims map[string]claim
	}
}

func (b *book) ask(address string, suppressed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.mu.claims[address]
	c.asked, c.pending = suppressed, c.pending || c.confirmed != suppressed
	b.mu.claims[address] = c
}

func (b *book) confirm(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.mu.claims[address]
	c.confirmed, c.pending = c.asked, false
	b.mu.claims[address] = c
}

func (b *book) copy() map[string]claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.mu.claims)
}

// image is a disk after a crash, with the claims before and after it was taken.
type image struct {
	at            int
	op            string
	fs            *vfs.MemFS
	before, after map[string]claim
}

// crashFS takes images. It wraps the operations that change something.
type crashFS struct {
	vfs.FS
	mem  *vfs.MemFS
	book *book
	want func(op int) []vfs.CrashCloneCfg
	mu   struct {
		sync.Mutex
		ops    int
		images []image
	}
}

func (c *crashFS) crash(op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ops++
	for _, cfg := range c.want(c.mu.ops) {
		before := c.book.copy()
		fs := c.mem.CrashClone(cfg)
		c.mu.images = append(c.mu.images, image{c.mu.ops, op, fs, before, c.book.copy()})
	}
}

func (c *crashFS) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &crashFile{File: f, c: c, name: name}, nil
}

func (c *crashFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	c.crash("create " + name)
	f, err := c.FS.Create(name, cat)
	return c.wrap(name, f, err)
}

func (c *crashFS) ReuseForWrite(old, name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	c.crash("reuse " + name)
	f, err := c.FS.ReuseForWrite(old, name, cat)
	return c.wrap(name, f, err)
}

func (c *crashFS) OpenReadWrite(name string, cat vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	c.crash("open " + name)
	f, err := c.FS.OpenReadWrite(name, cat, opts...)
	return c.wrap(name, f, err)
}

func (c *crashFS) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	return c.wrap(name, f, err)
}

func (c *crashFS) Rename(old, name string) error {
	c.crash("rename " + name)
	return c.FS.Rename(old, name)
}

func (c *crashFS) Remove(name string) error {
	c.crash("remove " + name)
	return c.FS.Remove(name)
}

func (c *crashFS) MkdirAll(name string, perm os.FileMode) error {
	c.crash("mkdir " + name)
	return c.FS.MkdirAll(name, perm)
}

type crashFile struct {
	vfs.File
	c    *crashFS
	name string
}

func (f *crashFile) Write(p []byte) (int, error) {
	f.c.crash("write " + f.name)
	return f.File.Write(p)
}

func (f *crashFile) Sync() error {
	f.c.crash("sync " + f.name)
	return f.File.Sync()
}

func (f *crashFile) SyncData() error {
	f.c.crash("sync " + f.name)
	return f.File.SyncData()
}

func (f *crashFile) SyncTo(n int64) (bool, error) {
	f.c.crash("sync " + f.name)
	return f.File.SyncTo(n)
}

// runWorkload adds, feeds and removes from a few goroutines at once, on a small
// memtable so that there are flushes, with the log trimmed now and then.
func runWorkload(t *testing.T, fs vfs.FS, b *book, rounds int, unsafe bool) {
	o := options(fs, newClock())
	o.MemTableSize, o.UnsafeNoSync, o.Exit = 32<<10, unsafe, func(int) {}
	s := open(t, o)
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			for round := range rounds {
				// All want the same at about the same time: who finds that it stands
				// must not be told so before it is on disk.
				shared := bounce("shop", fmt.Sprintf("shared%d@x.example", round))
				b.ask(shared.Address, true)
				if _, err := s.Add([]suppression.Entry{shared}); err != nil {
					t.Error(err)
					return
				}
				b.confirm(shared.Address)
				address := fmt.Sprintf("g%d.u%d@x.example", g, r.IntN(10))
				e := bounce("shop", address)
				e.Reason = strings.Repeat("r", r.IntN(500))
				gone := r.IntN(3) == 0
				b.ask(address, !gone)
				var err error
				switch {
				case gone:
					_, err = s.Remove([]suppression.Ref{e.Ref()}, "ann", e.Reason)
				case r.IntN(2) == 0:
					_, err = s.Add([]suppression.Entry{e})
				default:
					_, _, err = s.Feed([]suppression.Finding{{Entry: e}})
				}
				if err != nil {
					t.Error(err)
					return
				}
				b.confirm(address)
				if r.IntN(20) == 0 {
					if err := s.Trim(s.Vector(), 0); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// check opens an image and returns what is wrong with it.
func (im *image) check() (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("op %d (%s): ", im.at, im.op)+fmt.Sprintf(format, args...))
	}
	s, err := suppression.Open(options(im.fs, newClock()))
	if err != nil {
		fault("open: %v", err)
		return faults
	}
	defer func() {
		if err := s.Close(); err != nil {
			fault("close: %v", err)
		}
	}()
	for address, now := range im.after {
		was := im.before[address]
		_, got := s.Lookup("shop", address, "")
		if got != was.confirmed && !(now.pending || now != was) {
			fault("%s: lost: suppressed is %v, confirmed was %v", address, got, was.confirmed)
		}
		if got != was.confirmed && got != was.asked && got != now.asked && got != now.confirmed {
			fault("%s: phantom: suppressed is %v", address, got)
		}
	}
	st, err := settled(s)
	if err != nil {
		fault("counts: %v", err)
	}
	if m := s.Metrics(); m.Unreadable > 0 {
		fault("%d records are unreadable", m.Unreadable)
	}
	// A new store that is told by the log, or by a snapshot, holds the same.
	other, err := suppression.Open(options(vfs.NewMem(), newClock()))
	if err != nil {
		fault("open another: %v", err)
		return faults
	}
	defer other.Close()
	if err := follow(s, other); err != nil {
		fault("tell another store: %v", err)
	}
	if told, err := settled(other); err != nil || len(told.Entries) != len(st.Entries) || !told.Vector.Has(suppression.Position{}) || fmt.Sprint(told.Vector) != fmt.Sprint(st.Vector) {
		fault("another store was told of %d entries of %d, %v of %v: %v", len(told.Entries), len(st.Entries), told.Vector, st.Vector, err)
	}
	return faults
}

// long is whether the exhaustive form of a test is asked for (make test-long).
func long() bool { return os.Getenv("HIKYAKU_LONG") != "" }

func crashImages(t *testing.T, rounds int, unsafe bool, want func(op int) []vfs.CrashCloneCfg) ([]image, int) {
	mem := vfs.NewCrashableMem()
	b := &book{}
	b.mu.claims = map[string]claim{}
	c := &crashFS{FS: mem, mem: mem, book: b, want: want}
	runWorkload(t, c, b, rounds, unsafe)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.images, c.mu.ops
}

// TestCrashAtEveryFileOperation takes, at each operation on a file, an image
// without anything unsynced and one with a random part of it. The short form
// checks an even choice of them.
func TestCrashAtEveryFileOperation(t *testing.T) {
	rounds, seeds := 60, 1
	if long() {
		rounds, seeds = 120, 6
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		ims, ops := crashImages(t, rounds, false, func(int) []vfs.CrashCloneCfg {
			return []vfs.CrashCloneCfg{{}, {UnsyncedDataPercent: 50, RNG: rng}}
		})
		skip, checked, tables := 1, 0, 0
		if !long() {
			skip = max(1, len(ims)/shortImages)
		}
		for i := range ims {
			if strings.HasSuffix(ims[i].op, ".sst") {
				tables++
			}
			if i%skip != 0 {
				continue
			}
			checked++
			for _, f := range ims[i].check() {
				t.Errorf("seed %d: %s", seed, f)
			}
			ims[i] = image{}
		}
		if checked < shortImages/2 || tables == 0 {
			t.Errorf("%d images checked, %d of a flush: the workload no longer covers what it should", checked, tables)
		}
		t.Logf("seed %d: %d operations, %d images checked", seed, ops, checked)
	}
}

// TestCrashCheckerSeesLoss is the negative control: confirmed before the sync,
// changes get lost, and the same checker must say so.
func TestCrashCheckerSeesLoss(t *testing.T) {
	ims, _ := crashImages(t, 60, true, func(int) []vfs.CrashCloneCfg { return []vfs.CrashCloneCfg{{}} })
	lost := 0
	for i := range ims {
		for _, f := range ims[i].check() {
			if strings.Contains(f, "lost") {
				lost++
			}
		}
		if lost > 0 {
			return
		}
	}
	t.Fatalf("with the sync switched off, none of %d images shows a loss: the checker is blind", len(ims))
}
