package suppression

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const storeFormat = 1

// pebbleFormat is pinned as the spool's is, and for its reason: raising it is a
// step that an older program cannot undo.
const pebbleFormat = pebble.FormatTableFormatV6

// Store is an open list. All methods are safe for concurrent use.
type Store struct {
	o      Options
	log    *slog.Logger
	db     *pebble.DB
	cache  *pebble.Cache
	hash   hasher
	filter atomic.Pointer[filters]
	stats  counters
	refill chan struct{} // capacity 1: the filter is to be built anew

	failure atomic.Pointer[error] // set once; see fail

	// writing is held while a batch is made and applied; what is under it is
	// changed by the holder only. It comes before mu.
	writing struct {
		sync.Mutex
		origin Origin // of this life; 0 until the first write
		last   int64  // µs: the latest time given out
		made   change // scratch
	}
	mu struct {
		sync.RWMutex
		vector map[Origin]*progress
		counts map[string]*Counts
		total  Counts
	}
	life struct {
		sync.Mutex
		closed bool
		users  sync.WaitGroup // calls in progress; Add under the mutex
	}
	stop       context.CancelFunc
	background sync.WaitGroup // tend
}

// Open opens the list in o.Dir, making it if it is not there. Look-ups answer at
// once; the filter in front of them is filled in the background.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{o: o, log: o.Logger, hash: hasher{maphash.MakeSeed()}, refill: make(chan struct{}, 1)}
	s.filter.Store(&filters{})
	s.mu.vector, s.mu.counts = map[Origin]*progress{}, map[string]*Counts{}
	if err := s.openDB(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open suppression list %s: %w", o.Dir, err), s.closeDB())
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.refill <- struct{}{}
	s.background.Go(func() { s.tend(ctx) })
	return s, nil
}

func (s *Store) openDB() error {
	o := &s.o
	if err := makeDir(o.FS, o.Dir); err != nil {
		return fmt.Errorf("make directory of the suppression list: %w", err)
	}
	// Pebble takes the memory of its memtables out of the cache.
	s.cache = pebble.NewCache(o.CacheSize + 2*int64(o.MemTableSize))
	var err error
	s.db, err = pebble.Open(o.Dir, s.pebbleOptions())
	if errors.Is(err, fs.ErrNotExist) {
		if again, cerr := clearUnborn(o.FS, o.Dir); cerr != nil {
			err = errors.Join(err, cerr)
		} else if again {
			s.log.Warn("the suppression list's creation was interrupted before it held anything, it is made anew", "dir", o.Dir)
			s.db, err = pebble.Open(o.Dir, s.pebbleOptions())
		}
	}
	if err == nil {
		return nil
	}
	s.cache.Unref()
	if strings.Contains(err.Error(), "resource temporarily unavailable") || strings.Contains(err.Error(), "lock held") {
		return fmt.Errorf("%w: %s: is another hikyaku running on it? (%w)", ErrInUse, o.Dir, err)
	}
	return fmt.Errorf("open suppression list %s: %w", o.Dir, err)
}

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS: s.o.FS, Cache: s.cache, FormatMajorVersion: pebbleFormat, Logger: pebbleLogger{s},
		MemTableSize: s.o.MemTableSize, MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: 4, L0StopWritesThreshold: 24, LBaseMaxBytes: 64 << 20, MaxOpenFiles: 500,
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	for i := range o.Levels {
		o.Levels[i].BlockSize = 8 << 10 // one entry is read at a time, or all of them
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			s.stats.faults.Add(1)
			s.log.Error("the suppression list's disk fails", "error", err)
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.stats.faults.Add(1)
			s.log.Error("the suppression list is damaged", "path", i.Path, "detail", i.Details)
		},
	}
	return o
}

// makeDir makes dir and syncs the directories above it: a list is only as
// durable as the entry that leads to it. Those that may not be opened were not
// made by us.
func makeDir(f vfs.FS, dir string) error {
	if err := f.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for parent := f.PathDir(dir); ; parent = f.PathDir(parent) {
		d, err := f.OpenDir(parent)
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil || f.PathDir(parent) == parent {
			return err
		}
	}
}

// clearUnborn removes what a crash during the very first start may leave, a
// marker that names a manifest which is not there: Pebble cannot open that. A
// directory that holds any log or table is left alone.
func clearUnborn(f vfs.FS, dir string) (bool, error) {
	names, err := f.List(dir)
	if err != nil {
		return false, err
	}
	var remove []string
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "marker."), strings.HasPrefix(n, "MANIFEST-"), strings.HasPrefix(n, "OPTIONS-"):
			remove = append(remove, n)
		case n != "LOCK":
			return false, nil
		}
	}
	for _, n := range remove {
		if err := f.Remove(f.PathJoin(dir, n)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// load reads what is kept in memory: format, vector and counts.
func (s *Store) load() error {
	k := []byte{kindStore, 'f'}
	format, err := s.get(k)
	if err != nil {
		return err
	}
	if format == nil {
		if err := s.db.Set(k, []byte{storeFormat}, pebble.Sync); err != nil {
			return err
		}
	} else if len(format) != 1 || format[0] != storeFormat {
		return fmt.Errorf("it has format %x, this program knows %d", format, storeFormat)
	}
	err = s.each(kindVector, func(k, v []byte) error {
		p, err := parseProgress(v)
		if err != nil || len(k) != 9 {
			return fmt.Errorf("origin %x: %w", k[1:], err)
		}
		p.synced = p.seq
		s.mu.vector[Origin(binary.BigEndian.Uint64(k[1:]))] = p
		return nil
	})
	if err != nil {
		return err
	}
	return s.each(kindCount, func(k, v []byte) error {
		c, err := parseCounts(v)
		if err != nil {
			return fmt.Errorf("counts of tenant %q: %w", k[1:], err)
		}
		s.mu.counts[string(k[1:])] = c
		s.mu.total.plus(c)
		return nil
	})
}

// each reads all records of a kind.
func (s *Store) each(kind byte, fn func(k, v []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = fn(it.Key(), v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// get is a copy of a value, nil if there is none.
func (s *Store) get(k []byte) ([]byte, error) {
	v, closer, err := s.db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v = append(make([]byte, 0, len(v)), v...)
	return v, closer.Close()
}

// must is for calls on a batch that only fail for a closed one.
func must(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
	}
}

func randomOrigin() Origin {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if o := Origin(binary.BigEndian.Uint64(b[:])); o != 0 {
			return o
		}
	}
}

// enter begins a call; the caller must call leave after a nil error. It keeps
// Close from pulling the database away under a reader.
func (s *Store) enter() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.life.closed {
		return ErrClosed
	}
	if err := s.Failed(); err != nil {
		return err
	}
	s.life.users.Add(1)
	return nil
}

func (s *Store) leave() { s.life.users.Done() }

// Close waits for calls in progress and closes the list. Closing twice is
// harmless. A failed one is left as it is: the database under it may hold its
// locks for ever.
func (s *Store) Close() error {
	s.life.Lock()
	if s.life.closed {
		s.life.Unlock()
		return nil
	}
	s.life.closed = true
	s.life.Unlock()
	s.stop()
	s.background.Wait()
	if err := s.Failed(); err != nil {
		return err
	}
	s.life.users.Wait()
	return s.closeDB()
}

func (s *Store) closeDB() error {
	err := s.db.Close()
	s.cache.Unref()
	if err != nil {
		return fmt.Errorf("close suppression list: %w", err)
	}
	return nil
}

// Failed is nil, or ErrFailed with what made the store fail.
func (s *Store) Failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes the store failed for good and ends the process: Pebble goes on as
// if a failed commit had succeeded when Fatalf returns, so the latch comes
// first. Should Exit return, nothing is confirmed again.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if s.failure.CompareAndSwap(nil, &err) {
		s.log.Error("the suppression list failed, the process ends now so that nothing is confirmed that may not be on disk", "error", cause)
		s.o.Exit(1)
	}
	return s.Failed()
}

// pebbleLogger gives Pebble's notes to our log, and ends the process on Fatalf.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.s.log.Enabled(context.Background(), slog.LevelDebug) {
		l.s.log.Debug(fmt.Sprintf(format, args...), "part", "pebble")
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error(fmt.Sprintf(format, args...), "part", "pebble")
}

func (l pebbleLogger) Fatalf(format string, args ...any) { _ = l.s.fail(fmt.Errorf(format, args...)) }
