package suppression

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// A snapshot is all records of a store and its vector, in one stream: a mark, the
// vector after its length, then for each record its key and its value after
// their lengths, in the order of keys, an empty key, how many there were, and a
// CRC-32C of all before.
var snapshotMark = []byte("hikyaku suppressions 1\n")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteSnapshot writes all records. Writes go on meanwhile.
func (s *Store) WriteSnapshot(out io.Writer) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.writing.Lock()
	snap := s.db.NewSnapshot()
	v := Vector{}
	for _, l := range s.logs() {
		v[l.origin] = l.seq
	}
	s.writing.Unlock()
	defer snap.Close()
	if err := s.syncApplied(); err != nil { // what is told must be on disk
		return err
	}
	sum := crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(out, sum), 64<<10)
	head := v.Append(nil)
	b := append(binary.AppendUvarint(append([]byte(nil), snapshotMark...), uint64(len(head))), head...)
	if _, err := w.Write(b); err != nil {
		return err
	}
	n := uint64(0)
	for _, class := range [...]byte{kindEntry, kindSighting} {
		if err := writeClass(w, snap, class, &n); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	if _, err := w.Write(binary.AppendUvarint([]byte{0}, n)); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := out.Write(sum.Sum(nil))
	return err
}

func writeClass(w *bufio.Writer, snap *pebble.Snapshot, class byte, n *uint64) error {
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: []byte{class}, UpperBound: []byte{class + 1}})
	if err != nil {
		return err
	}
	var b []byte
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			b = append(binary.AppendUvarint(b[:0], uint64(len(it.Key()))), it.Key()...)
			b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
			_, err = w.Write(b)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
		*n++
	}
	return errors.Join(it.Error(), it.Close())
}

// snapshotReader reads a snapshot of another store, which may send anything.
type snapshotReader struct {
	r      *bufio.Reader
	sum    hash.Hash32
	vector Vector
	last   []byte
	n      uint64
}

func (r *snapshotReader) ReadByte() (byte, error) {
	b, err := r.r.ReadByte()
	if err == nil {
		_, _ = r.sum.Write([]byte{b}) // never fails
	}
	return b, err
}

func (r *snapshotReader) read(limit int) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, fmt.Errorf("%w snapshot: a part of %d bytes", ErrMalformed, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.r, b); err != nil {
		return nil, err
	}
	_, _ = r.sum.Write(b)
	return b, nil
}

func newSnapshotReader(in io.Reader) (*snapshotReader, error) {
	r := &snapshotReader{r: bufio.NewReaderSize(in, 64<<10), sum: crc32.New(castagnoli)}
	mark := make([]byte, len(snapshotMark))
	if _, err := io.ReadFull(r.r, mark); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if !bytes.Equal(mark, snapshotMark) {
		return nil, fmt.Errorf("%w snapshot: it begins with %q", ErrMalformed, mark)
	}
	_, _ = r.sum.Write(mark)
	head, err := r.read(MaxOrigins*20 + 10)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	r.vector, err = ParseVector(head)
	return r, err
}

// next is the next record; io.EOF after the last one, when the sums are right.
func (r *snapshotReader) next() (o operation, err error) {
	if o.key, err = r.read(maxKey); err != nil {
		return o, noEOF(err)
	}
	if len(o.key) == 0 {
		return o, r.end()
	}
	v, err := r.read(maxValue)
	if err != nil {
		return o, noEOF(err)
	}
	if o.k, o.rec, err = parsePair(o.key, v); err != nil {
		return o, err
	}
	if bytes.Compare(o.key, r.last) <= 0 {
		return o, fmt.Errorf("%w snapshot: its keys are not in order", ErrMalformed)
	}
	r.last = o.key
	r.n++
	return o, nil
}

func (r *snapshotReader) end() error {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return noEOF(err)
	}
	var sum [4]byte
	if _, err := io.ReadFull(r.r, sum[:]); err != nil {
		return noEOF(err)
	}
	if n != r.n || binary.BigEndian.Uint32(sum[:]) != r.sum.Sum32() {
		return fmt.Errorf("%w snapshot: %d records where it says %d, or a sum that does not fit", ErrMalformed, r.n, n)
	}
	return io.EOF
}

// noEOF: the end of the stream is not the end of the snapshot.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// LoadSnapshot merges a snapshot of another store into this one, record by
// record. A record that is here and not in the snapshot, and of an operation that
// the other store has had, was deleted there, tombstone and all: it is deleted
// here. The vector moves on at the end, so a load that was cut off did no harm
// and is to be done again.
func (s *Store) LoadSnapshot(in io.Reader) (merged int, err error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	r, err := newSnapshotReader(in)
	if err != nil {
		return 0, err
	}
	here, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindEntry}, UpperBound: []byte{kindSighting + 1}})
	if err != nil {
		return 0, err
	}
	l := &loading{s: s, r: r, here: here}
	l.ok = here.First()
	defer func() { err = errors.Join(err, here.Close()) }()
	for err == nil {
		err = l.some()
	}
	if !errors.Is(err, io.EOF) {
		return l.merged, fmt.Errorf("load snapshot: %w", err)
	}
	if err := s.adopt(r.vector); err != nil {
		return l.merged, err
	}
	if len(l.twice) > 0 {
		_, _, err = s.Feed(l.twice)
		return l.merged, err
	}
	return l.merged, nil
}

// loading is a snapshot being merged.
type loading struct {
	s      *Store
	r      *snapshotReader
	here   *pebble.Iterator // over the keys that were here when it began
	ok     bool
	merged int
	twice  []Finding
}

// some merges the next records, one batch; io.EOF when it was the last one.
func (l *loading) some() error {
	ops := make([]operation, 0, chunk)
	var end error
	for len(ops) < chunk && end == nil {
		var o operation
		if o, end = l.r.next(); end == nil {
			ops = append(ops, o)
		}
	}
	if end != nil && !errors.Is(end, io.EOF) {
		return end
	}
	gone, err := l.missing(ops, end != nil)
	if err != nil {
		return err
	}
	wait, err := l.merge(ops, gone)
	if err == nil && wait != nil {
		err = wait()
	}
	if err != nil {
		return err
	}
	return end
}

// absent is a record that is here and not in the snapshot.
type absent struct {
	key    []byte
	origin Origin
	seq    uint64
}

// missing walks the local keys up to the last of ops, or to the end, and gives
// those that the other store has had and has no more.
func (l *loading) missing(ops []operation, all bool) (out []absent, err error) {
	i := 0
	for l.ok {
		k := l.here.Key()
		for i < len(ops) && bytes.Compare(ops[i].key, k) < 0 {
			i++
		}
		if i == len(ops) && !all {
			return out, nil // it is beyond these
		}
		if (i == len(ops) || !bytes.Equal(ops[i].key, k)) && (k[0] == kindEntry || k[0] == kindSighting) {
			v, err := l.here.ValueAndErr()
			if err != nil {
				return nil, err
			}
			if r, err := parseRecord(v); err == nil && r.seq <= l.r.vector[r.origin] {
				out = append(out, absent{bytes.Clone(k), r.origin, r.seq})
			}
		}
		l.ok = l.here.Next()
	}
	return out, l.here.Error()
}

func (l *loading) merge(ops []operation, gone []absent) (wait func() error, err error) {
	s := l.s
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.tooMany() {
		return nil, fmt.Errorf("%w: %d entries", ErrFull, s.o.MaxEntries)
	}
	c := &s.writing.made
	c.begin(s)
	for i := range ops {
		f, err := c.merge(&ops[i])
		if err != nil {
			return nil, closeBatch(c.b, err)
		}
		l.twice = append(l.twice, f...)
	}
	for i := range gone {
		c.key = append(c.key[:0], gone[i].key...)
		c.hash = s.hashOf(c.key)
		r, err := c.current()
		if err != nil {
			return nil, closeBatch(c.b, err)
		}
		if r != nil && r.origin == gone[i].origin && r.seq == gone[i].seq {
			s.stats.dropped.Add(1)
			c.drop(r)
		}
	}
	l.merged += len(c.made)
	return c.commit()
}

// adopt makes another store's vector this one's, where it is ahead. The log lacks
// what came by the snapshot.
func (s *Store) adopt(v Vector) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	b := s.db.NewBatch()
	var reached []Position
	floors := map[Origin]*progress{}
	for o, seq := range v {
		p := s.have(o)
		if seq <= p.seq || o == s.writing.origin || p.seq == 0 && len(floors) > 0 && s.originsFull() {
			continue
		}
		must(b.DeleteRange(logKey(o, 0), logKey(o, seq+1), nil))
		p.seq, p.floor, p.at = seq, seq, s.o.Now().Unix()
		must(b.Set(vectorKey(o), p.append(nil), nil))
		floors[o] = &p
		reached = append(reached, Position{o, seq})
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return s.fail(err)
	}
	if err := s.Failed(); err != nil {
		return err
	}
	s.settle(nil, reached)
	s.mu.Lock()
	for o, p := range floors {
		s.mu.vector[o].floor = p.floor
	}
	s.mu.Unlock()
	s.synced(reached)
	return b.Close()
}
