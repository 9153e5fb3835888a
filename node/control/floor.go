package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// floorName is the file in the data directory with what the node must know
// before it has heard of the leader.
const floorName = "control.json"

// saved is its content.
type saved struct {
	// Floor, Rank and Members are what the leader said last.
	Floor   int64 `json:"floor"`
	Rank    int64 `json:"rank"`
	Members int64 `json:"members"`
}

// floorFile keeps it. Safe for concurrent use.
type floorFile struct {
	dir     string
	damaged string // why what was there could not be read
	mu      struct {
		sync.Mutex // also held for writing: the registration and the grants take turns
		saved      saved
	}
}

// openFloor reads the file. A node that never joined has no floor, unless it
// is alone: then all is its own.
func openFloor(dir string, alone bool) (*floorFile, error) {
	f := &floorFile{dir: dir}
	b, err := os.ReadFile(f.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if alone {
			return f, f.keep(func(s *saved) { *s = saved{Floor: exchange.FullShare, Members: 1} })
		}
		return f, nil
	case err != nil:
		return nil, fmt.Errorf("read the floor: %w", err)
	}
	var s saved
	if err := json.Unmarshal(b, &s); err == nil && s.valid() {
		f.mu.saved = s
		return f, nil
	}
	// Without it the node's part is unknown: none until the leader has spoken.
	aside := f.path() + ".damaged"
	if err := os.Rename(f.path(), aside); err != nil {
		return nil, fmt.Errorf("put the damaged %s aside: %w", floorName, err)
	}
	f.damaged = fmt.Sprintf("%s was damaged and is kept as %s; the node has no floor until the leader has spoken", floorName, filepath.Base(aside))
	return f, nil
}

func (s *saved) valid() bool {
	return s.Floor >= 0 && s.Floor <= exchange.FullShare && s.Rank >= 0 && s.Members >= 0
}

func (f *floorFile) path() string { return filepath.Join(f.dir, floorName) }

// now is what is on disk.
func (f *floorFile) now() saved {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.saved
}

// keep changes what is on disk; it is durable when keep returns nil.
func (f *floorFile) keep(change func(*saved)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.mu.saved
	if change(&next); next == f.mu.saved {
		return nil
	}
	b, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("BUG: %w", err)
	}
	if err := keyspace.WriteFile(f.path(), append(b, '\n')); err != nil {
		return fmt.Errorf("save the floor: %w", err)
	}
	f.mu.saved = next
	return nil
}
