package events

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// memFS is a file system that remembers what was synced, so that it can crash,
// and that fails when told to.
type memFS struct {
	mu    sync.Mutex
	files map[string]*memNode
	fail  func(op, name string) error // asked before each operation; may block
}

type memNode struct {
	name    string
	data    []byte
	synced  []byte
	durable bool // the name was synced with its directory
}

func newMemFS() *memFS { return &memFS{files: map[string]*memNode{}} }

func (m *memFS) check(op, name string) error {
	if m.fail == nil {
		return nil
	}
	return m.fail(op, name)
}

// crash returns what a power cut leaves: synced data, and of what was written
// after the last sync the first keep bytes (files are only appended to).
func (m *memFS) crash(keep int) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := newMemFS()
	for name, n := range m.files {
		if !n.durable {
			continue
		}
		data := slices.Clone(n.synced)
		if len(n.data) > len(data) {
			data = append(data, n.data[len(data):min(len(n.data), len(data)+keep)]...)
		}
		out.files[name] = &memNode{name: name, data: data, synced: slices.Clone(data), durable: true}
	}
	return out
}

func (m *memFS) names(suffix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for name := range m.files {
		if strings.HasSuffix(name, suffix) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (m *memFS) MkdirAll(string) error { return nil }

func (m *memFS) List(dir string) ([]string, error) {
	var out []string
	for _, n := range m.names("") {
		if filepath.Dir(n) == filepath.Clean(dir) {
			out = append(out, filepath.Base(n))
		}
	}
	return out, nil
}

func (m *memFS) Open(name string) (File, error) {
	if err := m.check("open", name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return &memFile{m, n}, nil
}

func (m *memFS) OpenWrite(name string) (File, error) {
	if err := m.check("create", name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.files[name]
	if !ok {
		n = &memNode{name: name}
		m.files[name] = n
	}
	return &memFile{m, n}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[from]
	delete(m.files, from)
	n.name = to
	m.files[to] = n
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[name]; !ok {
		return fmt.Errorf("remove %s: %w", name, fs.ErrNotExist)
	}
	delete(m.files, name)
	return nil
}

func (m *memFS) SyncDir(dir string) error {
	if err := m.check("syncdir", dir); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range m.files {
		if filepath.Dir(name) == filepath.Clean(dir) {
			n.durable = true
		}
	}
	return nil
}

func (m *memFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

type memFile struct {
	m *memFS
	n *memNode
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.n.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.m.check("write", f.n.name); err != nil {
		f.m.mu.Lock() // a short write: half of it is there
		defer f.m.mu.Unlock()
		f.put(b[:len(b)/2], off)
		return len(b) / 2, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.put(b, off)
	return len(b), nil
}

func (f *memFile) put(b []byte, off int64) {
	if need := int(off) + len(b); need > len(f.n.data) {
		f.n.data = append(f.n.data, make([]byte, need-len(f.n.data))...)
	}
	copy(f.n.data[off:], b)
}

func (f *memFile) Truncate(size int64) error {
	if err := f.m.check("truncate", f.n.name); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if int(size) <= len(f.n.data) {
		f.n.data = f.n.data[:size]
	}
	return nil
}

func (f *memFile) Sync() error {
	if err := f.m.check("sync", f.n.name); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.synced = slices.Clone(f.n.data)
	return nil
}
