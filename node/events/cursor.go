package events

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Place is a point between two blocks of the log. Everything up to Seq is
// before it.
type Place struct {
	Segment  string `json:"segment"`
	Position int64  `json:"position"`
	Seq      uint64 `json:"seq"`
}

// Cursor reads blocks at places that its owner keeps, for one who reads at many
// places at once: a Reader has one, and a file with two syncs for it. A cursor
// holds nothing on disk (see Hold), counts nothing as lost, and has no state but
// its buffers. Not safe for concurrent use.
type Cursor struct{ r Reader }

// Cursor makes one.
func (l *Log) Cursor() *Cursor { return &Cursor{Reader{l: l, dec: newDecoder()}} }

// Read returns the first durable block after a place; io.EOF when there is none
// yet. The lines are the caller's to keep.
func (c *Cursor) Read(at Place) (Batch, error) {
	c.r.at = offset(at)
	return c.r.tryNext()
}

// Close frees the cursor's buffers.
func (c *Cursor) Close() { c.r.dec.Close() }

// End is the place after the block.
func (b *Batch) End() Place { return Place(b.end) }

// End is the place after everything that is durable.
func (l *Log) End() Place {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Place(l.startLocked(FromNow))
}

// Changed is closed when more became durable than there was when it was asked
// for; ask for it before reading.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.changed
}

// Hold keeps what follows a place from retention, up to its hard cap, in the
// name of a consumer that reads by cursors. It is durable.
func (l *Log) Hold(name string, at Place) error {
	l.mu.Lock()
	c := l.mu.consumers[name]
	fresh := c == nil
	if fresh && len(l.mu.consumers) >= maxConsumers {
		l.mu.Unlock()
		return fmt.Errorf("event consumer %s: there are %d already, forget one first", name, maxConsumers)
	}
	if fresh { // from now on, so that nothing goes while it is written
		l.mu.consumers[name] = &consumerState{offset: offset(at)}
	}
	l.mu.Unlock()
	err := (&Reader{l: l, name: name}).save(offset(at))
	if err != nil && fresh {
		l.mu.Lock()
		delete(l.mu.consumers, name)
		l.mu.Unlock()
	}
	return err
}

// Held is the place that was last held in a name.
func (l *Log) Held(name string) (Place, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.mu.consumers[name]
	if c == nil {
		return Place{}, false
	}
	return Place(c.offset), true
}

// Release ends Hold. To release what is not held is no error.
func (l *Log) Release(name string) error {
	if _, held := l.Held(name); !held {
		return nil
	}
	l.mu.Lock()
	delete(l.mu.consumers, name)
	l.mu.Unlock()
	dir := filepath.Join(l.o.Dir, consumerDir)
	if err := l.o.FS.Remove(filepath.Join(dir, name+consumerSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release event consumer %s: %w", name, err)
	}
	return l.o.FS.SyncDir(dir)
}
