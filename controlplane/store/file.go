package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Options are the settings of a store.
type Options struct {
	// Keys says where in etcd policy lies, and Key seals its secrets.
	Keys keyspace.Keys
	Key  keyspace.Key
	// DataDir remembers which cluster this machine belongs to and the newest
	// revision it has seen. "" remembers nothing.
	DataDir string
	// ImportDir is where an older version kept its policy in files, "" for
	// none. An empty etcd takes it over.
	ImportDir string

	Logger *slog.Logger     // default slog.Default
	Now    func() time.Time // default time.Now
	// Keep is how many revisions can be gone back to. Default 1000 in etcd, 100
	// in files.
	Keep int

	disk disk // tests
}

// File keeps policy in a directory, one file a revision:
// "r000000000012.json", the highest number being in force.
type File struct {
	dir  string
	o    Options
	lock *os.File

	turn  chan struct{} // holds one token: its taker may change the state and call subscribers
	state atomic.Pointer[state]

	mu struct {
		sync.Mutex
		history     []Revision // oldest first
		subscribers map[int]func(*policy.Set)
		lastID      int
		closed      bool
	}
}

var _ Store = (*File)(nil)

// OpenFile opens a directory, and makes it where it does not exist. It fails
// when another process has it open, and when the newest revision cannot be
// read: sending by an older policy without being told to is worse than not
// starting.
func OpenFile(dir string, o Options) (_ *File, err error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keep <= 0 {
		o.Keep = 100
	}
	if o.disk == nil {
		o.disk = realDisk{}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	f := &File{dir: dir, o: o, turn: make(chan struct{}, 1)}
	f.mu.subscribers = map[int]func(*policy.Set){}
	if f.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if err := f.load(); err != nil {
		f.lock.Close()
		return nil, err
	}
	f.turn <- struct{}{}
	return f, nil
}

// lockDir keeps a second process out. The lock goes with the process.
func lockDir(dir string) (*os.File, error) {
	l, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		l.Close()
		return nil, fmt.Errorf("policy store %s is in use by another process: %w", dir, err)
	}
	return l, nil
}

// load reads the newest revision and the history of those before it.
func (f *File) load() error {
	revisions, err := f.files()
	if err != nil {
		return err
	}
	if len(revisions) == 0 {
		set, problems := policy.New(catalogue.Over(nil))
		if err := problems.Err(); err != nil {
			panic("BUG: the empty policy is not valid: " + err.Error())
		}
		f.state.Store(&state{set: set})
		return nil
	}
	for i, rev := range revisions {
		s, err := f.read(rev)
		newest := i == len(revisions)-1
		switch {
		case err == nil:
			f.mu.history = append(f.mu.history, s.Revision)
		case newest:
			return fmt.Errorf("policy revision %d cannot be read: %w. It stays where it is; to go back to the revision before it, move %s elsewhere and start again", rev, err, f.path(rev))
		default:
			f.o.Logger.Warn("an old policy revision cannot be read; it is left out of the history", "revision", rev, "file", f.path(rev), "error", err)
		}
		if newest {
			f.state.Store(s)
		}
	}
	return nil
}

// files lists the revisions on disk in order. What a crash left half written
// goes: its name says that it never came into force.
func (f *File) files() ([]int64, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	var revisions []int64
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, tempSuffix) {
			if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
				return nil, fmt.Errorf("remove an unfinished policy revision: %w", err)
			}
			continue
		}
		digits, ok := strings.CutPrefix(strings.TrimSuffix(name, ".json"), "r")
		rev, err := strconv.ParseInt(digits, 10, 64)
		if ok && err == nil && rev > 0 && f.path(rev) == filepath.Join(f.dir, name) {
			revisions = append(revisions, rev)
		}
	}
	slices.Sort(revisions)
	return revisions, nil
}

const tempSuffix = ".tmp"

func (f *File) path(rev int64) string { return filepath.Join(f.dir, fmt.Sprintf("r%012d.json", rev)) }

func (f *File) read(rev int64) (*state, error) {
	b, err := os.ReadFile(f.path(rev))
	if err != nil {
		return nil, err
	}
	s, err := decodeState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(rev), err)
	}
	if s.Revision.Revision != rev {
		return nil, fmt.Errorf("%s: it holds revision %d", f.path(rev), s.Revision.Revision)
	}
	return s, nil
}

// write brings a state to the disk. The rename puts it in force; the sync of
// the directory makes that last.
func (f *File) write(s *state) error {
	b, err := encodeState(s)
	if err != nil {
		return err
	}
	final := f.path(s.Revision.Revision)
	temp := final + tempSuffix
	if err := f.o.disk.WriteSync(temp, b); err != nil {
		return fmt.Errorf("write policy revision %d: %w", s.Revision.Revision, err)
	}
	if err := f.o.disk.Rename(temp, final); err != nil {
		return fmt.Errorf("write policy revision %d: %w", s.Revision.Revision, err)
	}
	if err := f.o.disk.SyncDir(f.dir); err != nil {
		return fmt.Errorf("write policy revision %d: %w", s.Revision.Revision, err)
	}
	return nil
}

// prune removes revisions beyond what is kept. A failure costs disk space only.
func (f *File) prune() {
	f.mu.Lock()
	var old []Revision
	if n := len(f.mu.history) - f.o.Keep; n > 0 {
		old = slices.Clone(f.mu.history[:n])
		f.mu.history = slices.Delete(f.mu.history, 0, n)
	}
	f.mu.Unlock()
	for _, r := range old {
		if err := f.o.disk.Remove(f.path(r.Revision)); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.o.Logger.Warn("an old policy revision cannot be removed", "file", f.path(r.Revision), "error", err)
		}
	}
}

// takeTurn waits until nobody else changes the store.
func (f *File) takeTurn(ctx context.Context) error {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for another policy change: %w", ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		f.turn <- struct{}{}
		return errors.New("policy store is closed")
	}
	return nil
}

func (f *File) endTurn() { f.turn <- struct{}{} }

// Apply implements Store.
func (f *File) Apply(ctx context.Context, b Batch) (*Result, error) {
	if err := f.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer f.endTurn()
	return f.apply(b)
}

// Rollback implements Store.
func (f *File) Rollback(ctx context.Context, r Rollback) (*Result, error) {
	if err := f.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer f.endTurn()
	old, err := f.read(r.To)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("revision %d: %w", r.To, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return f.apply(Batch{
		Changes:  f.state.Load().changesTo(old),
		Expected: r.Expected, Author: r.Author, DryRun: r.DryRun,
		Reason: cmp.Or(r.Reason, fmt.Sprintf("rollback to revision %d", r.To)),
	})
}

// apply needs the turn.
func (f *File) apply(b Batch) (*Result, error) {
	now := f.state.Load()
	next, effects, err := now.plan(b)
	if err != nil {
		return nil, err
	}
	if next == nil || b.DryRun {
		return &Result{now.Revision.Revision, effects}, nil
	}
	next.Time, next.Author, next.Reason = f.o.Now().UTC().Truncate(time.Millisecond), b.Author, b.Reason
	if err := f.write(next); err != nil {
		return nil, err
	}
	f.state.Store(next)
	f.mu.Lock()
	f.mu.history = append(f.mu.history, next.Revision)
	ids := make([]int, 0, len(f.mu.subscribers))
	for id := range f.mu.subscribers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	f.mu.Unlock()
	f.prune()
	for _, id := range ids {
		f.mu.Lock()
		fn := f.mu.subscribers[id]
		f.mu.Unlock()
		if fn != nil {
			fn(next.set)
		}
	}
	return &Result{next.Revision.Revision, effects}, nil
}

// List implements Store.
func (f *File) List(_ context.Context, kind string) ([]policy.Resource, int64, error) {
	s := f.state.Load()
	var out []policy.Resource
	for _, r := range s.resources {
		if kind == "" || r.Kind == kind {
			out = append(out, r)
		}
	}
	return out, s.Revision.Revision, nil
}

// Get implements Store.
func (f *File) Get(_ context.Context, kind, name string) (policy.Resource, error) {
	if r := f.state.Load().find(kind, name); r != nil {
		return *r, nil
	}
	return policy.Resource{}, fmt.Errorf("%s/%s: %w", kind, name, ErrNotFound)
}

// History implements Store.
func (f *File) History(_ context.Context, limit int) ([]Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.mu.history
	if limit > 0 && len(h) > limit {
		h = h[len(h)-limit:]
	}
	h = slices.Clone(h)
	slices.Reverse(h)
	return h, nil
}

// Snapshot implements Store.
func (f *File) Snapshot() *policy.Set { return f.state.Load().set }

// Subscribe implements Store.
func (f *File) Subscribe(fn func(*policy.Set)) (stop func()) {
	<-f.turn
	f.mu.Lock()
	f.mu.lastID++
	id := f.mu.lastID
	f.mu.subscribers[id] = fn
	f.mu.Unlock()
	fn(f.state.Load().set)
	f.endTurn()
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.mu.subscribers, id)
	}
}

// Close waits for a change under way and gives the directory back.
func (f *File) Close() error {
	<-f.turn
	defer f.endTurn()
	f.mu.Lock()
	closed := f.mu.closed
	f.mu.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	if err := f.lock.Close(); err != nil {
		return fmt.Errorf("close the policy store: %w", err)
	}
	return nil
}
