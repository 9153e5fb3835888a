package events

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	consumerDir    = "consumers"
	consumerSuffix = ".json"
	maxConsumers   = 64
)

// offset is a place between two blocks. Everything up to Seq was read.
type offset struct {
	Segment  string `json:"segment"`
	Position int64  `json:"position"`
	Seq      uint64 `json:"seq"`
}

type consumerState struct {
	offset offset
	lost   uint64 // numbers that retention took before they were read
	open   bool
}

// ConsumerMetrics says how far a consumer is.
type ConsumerMetrics struct {
	Name   string
	Seq    uint64 // committed up to here
	Behind uint64 // durable numbers after that
	Lost   uint64 // numbers removed by the hard cap before they were read
}

func (l *Log) consumerMetricsLocked() []ConsumerMetrics {
	var out []ConsumerMetrics
	for name, c := range l.mu.consumers {
		out = append(out, ConsumerMetrics{Name: name, Seq: c.offset.Seq, Behind: l.mu.acked - min(c.offset.Seq, l.mu.acked), Lost: c.lost})
	}
	slices.SortFunc(out, func(a, b ConsumerMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// loadConsumers reads the committed offsets. An unreadable one is an error: to
// guess would repeat or lose events.
func (l *Log) loadConsumers() error {
	dir := filepath.Join(l.o.Dir, consumerDir)
	names, err := l.o.FS.List(dir)
	if err != nil {
		return fmt.Errorf("list event consumers: %w", err)
	}
	for _, file := range names {
		name, ok := strings.CutSuffix(file, consumerSuffix)
		if !ok {
			continue
		}
		b, err := readFile(l.o.FS, filepath.Join(dir, file), 4096)
		if err != nil {
			return fmt.Errorf("read offset of consumer %s: %w", name, err)
		}
		c := &consumerState{}
		if err := json.Unmarshal(b, &c.offset); err != nil {
			return fmt.Errorf("read offset of consumer %s: %w", name, err)
		}
		l.mu.consumers[name] = c
	}
	return nil
}

// Start says where a consumer begins that has no offset yet.
type Start int

// The starts.
const (
	FromOldest Start = iota
	FromNow
)

// Reader reads the log for one consumer, at least once: what was not committed
// comes again after a restart. Not safe for concurrent use.
type Reader struct {
	l    *Log
	name string
	at   offset
	dec  *zstd.Decoder
}

// Batch is the lines of one block.
type Batch struct {
	Lines       []byte // valid until the next call of Next
	First, Last uint64 // sequence numbers
	Prev        uint64 // last number of the block that was written before this one
	Records     int
	end         offset
}

// Reader opens the named consumer, [a-z0-9-] up to 64 bytes. One reader of a
// name can be open at a time, and at most 64 names can exist.
func (l *Log) Reader(name string, start Start) (*Reader, error) {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, fmt.Errorf("event consumer %q: want a name of a-z, 0-9 and hyphen", name)
	}
	l.mu.Lock()
	c := l.mu.consumers[name]
	if c != nil && c.open {
		l.mu.Unlock()
		return nil, fmt.Errorf("event consumer %s is already being read", name)
	}
	fresh := c == nil
	if fresh {
		if len(l.mu.consumers) >= maxConsumers {
			l.mu.Unlock()
			return nil, fmt.Errorf("event consumer %s: there are %d already, forget one first", name, maxConsumers)
		}
		c = &consumerState{offset: l.startLocked(start)}
		l.mu.consumers[name] = c
	}
	c.open = true
	r := &Reader{l: l, name: name, at: c.offset, dec: newDecoder()}
	l.mu.Unlock()
	if fresh {
		if err := r.save(c.offset); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

func (l *Log) startLocked(start Start) offset {
	n := len(l.mu.segments)
	if n == 0 {
		return offset{Seq: l.mu.acked}
	}
	if start == FromNow {
		s := l.mu.segments[n-1]
		return offset{Segment: s.base, Position: s.Bytes, Seq: l.mu.acked}
	}
	s := l.mu.segments[0]
	return offset{Segment: s.base, Seq: s.First - min(s.First, 1)}
}

// Forget removes a consumer that will not come back, so that it holds no
// segment any more.
func (l *Log) Forget(name string) error {
	l.mu.Lock()
	c := l.mu.consumers[name]
	if c == nil || c.open {
		l.mu.Unlock()
		return fmt.Errorf("event consumer %s is unknown or being read", name)
	}
	delete(l.mu.consumers, name)
	l.mu.Unlock()
	dir := filepath.Join(l.o.Dir, consumerDir)
	return errors.Join(l.o.FS.Remove(filepath.Join(dir, name+consumerSuffix)), l.o.FS.SyncDir(dir))
}

// Close lets another reader of the name be opened. Uncommitted batches come
// again.
func (r *Reader) Close() {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.l.mu.consumers[r.name].open = false
	r.dec.Close()
}

// Next returns the next block, waiting for one until ctx ends.
func (r *Reader) Next(ctx context.Context) (Batch, error) {
	for {
		r.l.mu.Lock()
		changed := r.l.mu.changed
		r.l.mu.Unlock()
		b, err := r.tryNext()
		if !errors.Is(err, io.EOF) {
			return b, err
		}
		select {
		case <-changed:
		case <-r.l.done:
			return Batch{}, ErrClosed
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

// tryNext returns io.EOF when everything durable was read.
func (r *Reader) tryNext() (Batch, error) {
	for {
		s := r.place()
		if s == nil {
			return Batch{}, io.EOF
		}
		b, err := r.readFrom(s)
		if errors.Is(err, fs.ErrNotExist) {
			continue // retention took it meanwhile; place finds the next
		}
		if !errors.Is(err, io.EOF) {
			return b, err
		}
		// Only a sealed segment ends for good.
		if !s.sealed || !r.advance(s) {
			return Batch{}, io.EOF
		}
	}
}

// place finds the segment of the reader's offset. When retention took it, the
// reader goes to the oldest and counts what it lost.
func (r *Reader) place() *segment {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	i, found := slices.BinarySearchFunc(l.mu.segments, r.at.Segment, func(s *segment, base string) int { return cmp.Compare(s.base, base) })
	if i == len(l.mu.segments) {
		return nil
	}
	s := l.mu.segments[i]
	if !found {
		if c := l.mu.consumers[r.name]; c != nil && r.at.Seq+1 < s.First && s.Records > 0 && s.Store == l.store {
			c.lost += s.First - r.at.Seq - 1
		}
		r.at = offset{Segment: s.base, Seq: r.at.Seq}
	}
	return s
}

// advance moves to the segment after s.
func (r *Reader) advance(s *segment) bool {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	for _, n := range r.l.mu.segments {
		if n.base > s.base {
			r.at = offset{Segment: n.base, Seq: r.at.Seq}
			return true
		}
	}
	return false
}

func (r *Reader) readFrom(s *segment) (Batch, error) {
	if r.at.Position >= s.Bytes {
		return Batch{}, io.EOF
	}
	f, err := r.l.o.FS.Open(segmentPath(r.l.o.Dir, s.base))
	if err != nil {
		return Batch{}, fmt.Errorf("open segment %s: %w", s.base, err)
	}
	defer f.Close()
	sc := scanner{f: f, off: r.at.Position, size: s.Bytes}
	for {
		blk, err := sc.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				r.at.Position = s.Bytes
			}
			return Batch{}, err
		}
		lines, err := sc.lines(&blk, r.dec)
		if errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return Batch{}, fmt.Errorf("read segment %s: %w", s.base, err)
		}
		r.at = offset{Segment: s.base, Position: blk.end(), Seq: blk.last}
		return Batch{Lines: lines, First: blk.first, Last: blk.last, Prev: blk.prev, Records: int(blk.records), end: r.at}, nil
	}
}

// Commit makes the consumer's offset durable after b.
func (r *Reader) Commit(b Batch) error { return r.save(b.end) }

func (r *Reader) save(at offset) error {
	j, err := json.Marshal(at)
	if err != nil {
		return err
	}
	dir := filepath.Join(r.l.o.Dir, consumerDir)
	if err := replaceFile(r.l.o.FS, dir, filepath.Join(dir, r.name+consumerSuffix), append(j, '\n')); err != nil {
		return fmt.Errorf("save offset of consumer %s: %w", r.name, err)
	}
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.l.mu.consumers[r.name].offset = at
	return nil
}
