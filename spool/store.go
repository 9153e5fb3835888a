package spool

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/spool/message"
)

// storeFormat is the layout of keys; recordVersion is that of values.
// A spool that has handed deliveries to another, or taken some, has format
// transferFormat from then on (Store.raiseFormat).
const (
	storeFormat    = 1
	transferFormat = 2
)

// pebbleFormat is pinned: raising it is a one-way step that an older program
// cannot undo, so it happens on purpose and never because a library was
// updated. This one has sums in table footers and tells a damaged WAL from one
// that simply ends.
const pebbleFormat = pebble.FormatTableFormatV6

// Store is an open spool. All methods are safe for concurrent use.
type Store struct {
	opt    Options
	log    *slog.Logger
	db     *pebble.DB
	lock   *pebble.Lock
	cache  *pebble.Cache
	nodeID string

	format atomic.Int64 // as on disk; once the builder runs, it alone changes it

	failure   atomic.Pointer[error] // set once; see fail
	space     spaceGate
	commits   committer
	counts    counts
	outbox    outbox
	stats     counters
	pending   pendingSet
	transfers transfers
	requests  requests

	life struct {
		sync.Mutex
		closed bool
		users  sync.WaitGroup // calls in progress; Add under the mutex
	}
	stop       context.CancelFunc // ends the background goroutines
	background sync.WaitGroup
}

// Open opens the spool in opt.Dir, making it if it is not there. It refuses a
// directory that is in use with ErrInUse. It does not read the backlog: what
// it costs depends on the write-ahead log that is left, at most a few
// memtables.
func Open(opt Options) (*Store, error) {
	s := &Store{opt: opt.withDefaults()}
	s.log = s.opt.Logger
	if err := s.openDB(); err != nil {
		return nil, err
	}
	if err := s.loadState(); err != nil {
		return nil, errors.Join(err, s.closeDB())
	}
	s.commits.init(s)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	if s.opt.ReadOnly {
		return s, nil
	}
	snapshot := s.db.NewSnapshot()
	s.commits.start()
	s.checkSpace()
	s.background.Add(2)
	go func() {
		defer s.background.Done()
		s.countBacklog(ctx, snapshot)
	}()
	go func() {
		defer s.background.Done()
		s.housekeep(ctx)
	}()
	return s, nil
}

func (s *Store) openDB() error {
	o := &s.opt
	if !o.ReadOnly {
		if err := makeDir(o.FS, o.Dir); err != nil {
			return fmt.Errorf("make spool directory: %w", err)
		}
	}
	lock, err := pebble.LockDirectory(o.Dir, o.FS)
	if path := (*fs.PathError)(nil); errors.As(err, &path) { // the file could not be made; a lock that is held is a bare errno
		return fmt.Errorf("open spool %s: %w", o.Dir, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: is another hikyaku running on it? (%w)", ErrInUse, o.Dir, err)
	}
	// Pebble takes the memory of its memtables out of the cache. With 64 MiB for
	// both no block was ever found in it, and each outcome of a large job read
	// index blocks from the disk again: 85 µs CPU a delivery instead of 55.
	s.lock, s.cache = lock, pebble.NewCache(o.CacheSize+2*int64(o.MemTableSize))
	s.db, err = pebble.Open(o.Dir, s.pebbleOptions())
	if errors.Is(err, fs.ErrNotExist) && !o.ReadOnly {
		if again, cerr := clearUnborn(o.FS, o.Dir); cerr != nil {
			err = errors.Join(err, cerr)
		} else if again {
			s.log.Warn("the spool's creation was interrupted before it held anything, it is made anew", "dir", o.Dir)
			s.db, err = pebble.Open(o.Dir, s.pebbleOptions())
		}
	}
	if err != nil {
		s.cache.Unref()
		return errors.Join(fmt.Errorf("open spool %s: %w", o.Dir, err), lock.Close())
	}
	return nil
}

// makeDir makes dir and syncs every directory above it: a spool is only as
// durable as the entry that leads to it. Those above that may not be opened
// were not made by us.
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
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
		if f.PathDir(parent) == parent {
			return nil
		}
	}
}

// clearUnborn removes what a crash during the very first start may leave: a
// marker that names a manifest whose own directory entry was not yet synced.
// Pebble cannot open that. It reports whether it did; a directory that holds
// any log or table is left alone.
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

func (s *Store) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                 s.opt.FS,
		Lock:               s.lock,
		Cache:              s.cache,
		FormatMajorVersion: pebbleFormat,
		ReadOnly:           s.opt.ReadOnly,
		ErrorIfNotExists:   s.opt.ReadOnly,
		Logger:             pebbleLogger{s},
		Merger:             s.merger(),

		// A large memtable is what keeps short-lived mail off the disk: what
		// is accepted and delivered within one memtable is never flushed.
		MemTableSize:                s.opt.MemTableSize,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               256 << 20,
		MaxOpenFiles:                1000,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	for i := range o.Levels {
		o.Levels[i].BlockSize = 16 << 10 // content of a few KiB: several to a block
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: s.backgroundError,
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.stats.corruptions.Add(1)
			s.log.Error("spool data is damaged", "path", i.Path, "detail", i.Details)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			s.stats.stalls.Add(1)
			s.stats.stalled.Store(true)
			s.log.Warn("spool writes wait for the disk", "reason", i.Reason)
		},
		WriteStallEnd: func() { s.stats.stalled.Store(false) },
		DiskSlow: func(i pebble.DiskSlowInfo) {
			s.stats.slowWrites.Add(1)
			s.log.Warn("disk is slow", "path", i.Path, "took", i.Duration)
		},
	}
	if s.opt.FS == vfs.Default {
		o.WithFSDefaults() // reports slow writes
	}
	return o
}

// loadState reads the small records that the store itself needs.
func (s *Store) loadState() error {
	format, err := s.getState("format")
	if err != nil {
		return err
	}
	if format == "" && s.opt.ReadOnly {
		return fmt.Errorf("open spool %s: not a spool of hikyaku", s.opt.Dir)
	}
	v, _ := strconv.Atoi(cmp.Or(format, strconv.Itoa(storeFormat)))
	if s.format.Store(int64(v)); v < storeFormat || v > transferFormat {
		return fmt.Errorf("open spool %s: it has format %q, this program knows %d to %d", s.opt.Dir, format, storeFormat, transferFormat)
	}
	if s.nodeID, err = s.getState("node"); err != nil {
		return err
	}
	if format == "" {
		var id [8]byte
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
		s.nodeID = hex.EncodeToString(id[:])
		b := s.db.NewBatch()
		setState(b, "format", strconv.Itoa(storeFormat))
		setState(b, "node", s.nodeID)
		if err := s.db.Apply(b, pebble.Sync); err != nil {
			return fmt.Errorf("write spool format: %w", err)
		}
		if err := s.Failed(); err != nil {
			return err
		}
	}
	if err := s.loadQuarantineCount(); err != nil {
		return err
	}
	if err := s.loadTransfers(); err != nil {
		return err
	}
	return s.loadOutbox()
}

func stateKey(name string) []byte { return append([]byte{kindStore}, name...) }

func setState(b *pebble.Batch, name, value string) {
	key := stateKey(name)
	v := appendText([]byte{recordVersion}, value)
	must(b.Set(key, seal(v, 0, key), nil))
}

func (s *Store) getState(name string) (string, error) {
	key := stateKey(name)
	v, err := s.get(key)
	if v == nil || err != nil {
		return "", err
	}
	f, err := unseal(key, v)
	if err != nil {
		return "", fmt.Errorf("read spool %s: %w", name, err)
	}
	text := f.str()
	return text, f.done()
}

// get returns a copy of the value under key, nil if there is none.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	v = append(make([]byte, 0, len(v)), v...)
	return v, closer.Close()
}

// must is for calls on a batch that only fail for a closed batch or a key kind
// that does not exist.
func must(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
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

// enterWrite is enter for calls that change something.
func (s *Store) enterWrite() error {
	if s.opt.ReadOnly {
		return ErrReadOnly
	}
	return s.enter()
}

// NodeID is a random name made with the spool, 16 hexadecimal digits.
func (s *Store) NodeID() string { return s.nodeID }

// Close waits for calls in progress and for all that was committed, and closes
// the store. Closing twice is harmless. A failed store is left as it is: the
// database under it may hold its locks for ever.
func (s *Store) Close() error {
	s.life.Lock()
	if s.life.closed {
		s.life.Unlock()
		return nil
	}
	s.life.closed = true
	s.life.Unlock()
	s.stop()
	s.commits.close()
	if err := s.Failed(); err != nil {
		return err
	}
	s.life.users.Wait()
	s.background.Wait()
	return s.closeDB()
}

func (s *Store) closeDB() error {
	err := s.db.Close()
	s.cache.Unref()
	if err != nil {
		err = fmt.Errorf("close spool: %w", err)
	}
	return errors.Join(err, s.lock.Close())
}

// Failed is nil, or ErrFailed with the error that made the store fail.
func (s *Store) Failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes the store failed for good and ends the process. safety.md 0.2:
// Pebble goes on as if a failed commit had succeeded when Fatalf returns, so
// the latch comes first: should Exit return, nothing is acknowledged again.
func (s *Store) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if !s.failure.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("spool failed, the process ends now so that nothing is acknowledged that may not be on disk", "err", cause)
	s.opt.Exit(1)
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

func (l pebbleLogger) Fatalf(format string, args ...any) { l.s.fail(fmt.Errorf(format, args...)) }

// pendingSet holds the deliveries whose last change is not yet synced: Pebble
// already shows them, we must not. It is bounded by what the unsynced batches hold.
type pendingSet struct {
	sync.Mutex
	deliveries map[message.DeliveryID]uint64 // the flight it is in
	keys       map[string]uint64             // idempotency keys, likewise
}

func (p *pendingSet) has(id message.DeliveryID) bool {
	p.Lock()
	defer p.Unlock()
	_, ok := p.deliveries[id]
	return ok
}

func (p *pendingSet) hasKey(key []byte) bool {
	p.Lock()
	defer p.Unlock()
	_, ok := p.keys[string(key)]
	return ok
}

// hasMessage reports whether a delivery of the message is pending.
func (p *pendingSet) hasMessage(id message.ID) bool {
	p.Lock()
	defer p.Unlock()
	for d := range p.deliveries {
		if d.Message == id {
			return true
		}
	}
	return false
}

// now is the time, in the precision that is stored.
func (s *Store) now() time.Time { return s.opt.Now().UTC().Truncate(time.Microsecond) }
