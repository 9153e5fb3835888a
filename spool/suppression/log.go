package suppression

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// progress is how much of an origin is here.
type progress struct {
	seq    uint64 // all operations up to here
	floor  uint64 // the log has those above
	at     int64  // s: when the last came
	synced uint64 // up to here they are on disk; not stored
}

const (
	// MaxOrigins bounds the vector. At 20 nodes that start once a week it is four
	// years, and origins whose log is trimmed are forgotten after retireAfter.
	MaxOrigins  = 4096
	retireAfter = 90 * 24 * time.Hour
)

func (p *progress) append(b []byte) []byte {
	b = binary.AppendUvarint(b, p.seq)
	b = binary.AppendUvarint(b, p.floor)
	return binary.AppendUvarint(b, uint64(p.at))
}

func parseProgress(b []byte) (*progress, error) {
	f := reader{b: b}
	p := &progress{seq: f.uvarint(), floor: f.uvarint(), at: f.span()}
	if f.bad || len(f.b) > 0 || p.floor > p.seq {
		return nil, fmt.Errorf("malformed progress %x", b)
	}
	return p, nil
}

// Vector says up to which number the operations of each origin are in a store.
type Vector map[Origin]uint64

// Has reports whether an operation is in the store. No operation is in all.
func (v Vector) Has(p Position) bool { return p.Seq == 0 || v[p.Origin] >= p.Seq }

// Append appends the vector's form on the wire, in the order of the origins.
func (v Vector) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	for _, o := range slices.Sorted(maps.Keys(v)) {
		b = binary.BigEndian.AppendUint64(b, uint64(o))
		b = binary.AppendUvarint(b, v[o])
	}
	return b
}

// ParseVector reads what Append wrote.
func ParseVector(b []byte) (Vector, error) {
	f := reader{b: b}
	v := f.vector()
	if f.bad || len(f.b) > 0 {
		return nil, fmt.Errorf("%w vector of %d bytes", ErrMalformed, len(b))
	}
	return v, nil
}

// maxSeq bounds numbers: what is behind one must be a number as well.
const maxSeq = 1 << 62

func (f *reader) vector() Vector {
	n := f.uvarint()
	if n > MaxOrigins {
		f.bad = true
		return nil
	}
	v := Vector{}
	for range n {
		o, seq := Origin(f.fixed64()), f.uvarint()
		if f.bad || o == 0 || v[o] != 0 || seq > maxSeq {
			f.bad = true
			return nil
		}
		v[o] = seq
	}
	return v
}

// Vector is what of each origin is on this store's disk.
func (s *Store) Vector() Vector {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := make(Vector, len(s.mu.vector))
	for o, p := range s.mu.vector {
		if p.synced > 0 {
			v[o] = p.synced
		}
	}
	return v
}

func (s *Store) have(o Origin) progress {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.mu.vector[o]; p != nil {
		return *p
	}
	return progress{}
}

// unsynced is how far origins are whose last operations are not on disk yet.
func (s *Store) unsynced() (out []Position) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for o, p := range s.mu.vector {
		if p.synced < p.seq {
			out = append(out, Position{o, p.seq})
		}
	}
	return out
}

// synced notes that operations are on disk.
func (s *Store) synced(reached []Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range reached {
		if p := s.mu.vector[r.Origin]; p != nil { // not retired meanwhile
			p.synced = max(p.synced, r.Seq)
		}
	}
}

func logKey(o Origin, last uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kindLog}, uint64(o))
	return binary.BigEndian.AppendUint64(b, last)
}

func vectorKey(o Origin) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindVector}, uint64(o))
}

// logged puts operations of an origin into the batch's log: their keys, each
// after its length; a length of 0 is an operation that a later one has replaced.
func (c *change) logged(o Origin, first, last uint64, keys []byte) {
	v := binary.AppendUvarint(nil, first)
	v = binary.AppendUvarint(v, uint64(c.now.Unix()))
	must(c.b.Set(logKey(o, last), append(v, keys...), nil))
	c.reach(o, last)
}

// reach puts into the batch how far it takes an origin.
func (c *change) reach(o Origin, seq uint64) {
	p := c.s.have(o)
	p.seq, p.at = seq, c.now.Unix()
	must(c.b.Set(vectorKey(o), p.append(nil), nil))
	c.reached = append(c.reached, Position{o, seq})
}

// logRecord is one record of the log, read.
type logRecord struct {
	first, last uint64
	at          int64
	keys        []byte
}

func parseLog(k, v []byte) (r logRecord, err error) {
	f := reader{b: v}
	r.first, r.at = f.uvarint(), f.span()
	if f.bad || len(k) != 17 {
		return r, fmt.Errorf("malformed log record %x", k)
	}
	r.last, r.keys = binary.BigEndian.Uint64(k[9:]), f.b
	if r.first == 0 || r.first > r.last {
		return r, fmt.Errorf("malformed log record %x", k)
	}
	return r, nil
}

// eachLog reads the log of an origin above a number until fn returns false.
func (s *Store) eachLog(o Origin, after uint64, fn func(r logRecord) (bool, error)) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: logKey(o, after+1), UpperBound: logKey(o, 1<<64-1)})
	if err != nil {
		return err
	}
	more := true
	for ok := it.First(); ok && more; ok = it.Next() {
		v, err := it.ValueAndErr()
		var r logRecord
		if err == nil {
			r, err = parseLog(it.Key(), v)
		}
		if err == nil {
			more, err = fn(r)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// Trim shortens the log by what all of the others have (everywhere: the least of
// their vectors; nil when that is not known), and by what is older than LogFor or
// more than Options.MaxLog. What is younger than keep stays, so that a node that
// is not known yet need not copy the whole list.
func (s *Store) Trim(everywhere Vector, keep time.Duration) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.o.Now()
	old, young := now.Add(-LogFor).Unix(), now.Add(-keep).Unix()
	logs := s.logs()
	var total int64
	for _, l := range logs {
		total += int64(l.seq - l.floor)
	}
	for i := range logs {
		l := &logs[i]
		floor, kept, looked := l.floor, total, 0
		err := s.eachLog(l.origin, l.floor, func(r logRecord) (bool, error) {
			if looked++; looked > trimAtOnce {
				return false, nil
			}
			if r.at >= old && kept <= s.o.MaxLog && (r.at > young || r.last > everywhere[l.origin]) {
				return false, nil
			}
			if r.last > l.synced { // Pull reads what is synced
				return false, nil
			}
			kept -= int64(r.last - floor)
			floor = r.last
			return true, nil
		})
		if err != nil {
			return fmt.Errorf("trim the suppression log: %w", err)
		}
		total = kept
		if floor == l.floor {
			continue
		}
		if err := s.trim(l, floor); err != nil {
			return err
		}
	}
	return s.retire(now)
}

// trimAtOnce bounds the log records of one origin that a Trim looks at: it holds
// up writers.
const trimAtOnce = 256

type originLog struct {
	origin Origin
	progress
}

// logs are all origins, the longest log first: it is cut first.
func (s *Store) logs() []originLog {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []originLog
	for o, p := range s.mu.vector {
		out = append(out, originLog{o, *p})
	}
	slices.SortFunc(out, func(x, y originLog) int {
		return cmp.Or(cmp.Compare(y.seq-y.floor, x.seq-x.floor), cmp.Compare(x.origin, y.origin))
	})
	return out
}

// trim makes floor the floor of an origin's log. It need not be on disk at once:
// a log that is longer than the floor says does no harm.
func (s *Store) trim(l *originLog, floor uint64) error {
	b := s.db.NewBatch()
	p := l.progress
	p.floor = floor
	must(b.DeleteRange(logKey(l.origin, 0), logKey(l.origin, floor+1), nil))
	must(b.Set(vectorKey(l.origin), p.append(nil), nil))
	if err := b.Commit(pebble.NoSync); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.vector[l.origin].floor = floor
	return nil
}

// retire forgets origins that have said nothing for long and whose log is empty,
// where there are many.
func (s *Store) retire(now time.Time) error {
	for _, l := range s.logs() {
		s.mu.RLock()
		few := len(s.mu.vector) <= MaxOrigins/2
		s.mu.RUnlock()
		if few {
			return nil
		}
		if l.floor < l.seq || l.synced < l.seq || l.origin == s.writing.origin || now.Unix()-l.at < int64(retireAfter/time.Second) {
			continue
		}
		if err := s.db.Delete(vectorKey(l.origin), pebble.NoSync); err != nil {
			return s.fail(err)
		}
		s.mu.Lock()
		delete(s.mu.vector, l.origin)
		s.mu.Unlock()
	}
	return nil
}

// Pulled is what Pull gives.
type Pulled struct {
	// Parcel is for Apply; empty when there is nothing new.
	Parcel []byte
	// More: there is more than was allowed at once.
	More bool
	// Snapshot: the log does not go back as far as the asker needs.
	Snapshot bool
}

// Pull gives operations that a store with the vector v lacks, about limit bytes
// at most. Operations whose records were replaced since go as their number
// alone; what has replaced them is an operation too.
func (s *Store) Pull(v Vector, limit int) (Pulled, error) {
	var out Pulled
	if err := s.enter(); err != nil {
		return out, err
	}
	defer s.leave()
	w := parcelWriter{limit: limit}
	logs := s.logs()
	slices.SortFunc(logs, func(x, y originLog) int { return cmp.Compare(x.origin, y.origin) })
	for i := range logs {
		l := &logs[i]
		after := v[l.origin]
		switch {
		case after >= l.synced:
			continue
		case after < l.floor:
			out.Snapshot = true
			continue
		case w.full():
			out.More = true
			continue
		}
		if err := s.pullOrigin(&w, l, after); err != nil {
			return out, fmt.Errorf("read the suppression log of %s: %w", l.origin, err)
		}
		out.More = out.More || w.full()
	}
	out.Parcel = w.end()
	return out, nil
}

func (s *Store) pullOrigin(w *parcelWriter, l *originLog, after uint64) error {
	err := s.eachLog(l.origin, after, func(r logRecord) (bool, error) {
		f := reader{b: r.keys}
		for seq := r.first; seq <= r.last; seq++ {
			k := f.bytes(maxKey)
			if f.bad {
				return false, fmt.Errorf("malformed log record up to %d", r.last)
			}
			if seq <= after {
				continue
			}
			if seq != after+1 {
				return false, fmt.Errorf("the log goes from %d to %d", after, seq)
			}
			if seq > l.synced || w.full() {
				return false, nil
			}
			v, err := s.current(k, l.origin, seq)
			if err != nil {
				return false, err
			}
			w.add(l.origin, seq, k, v)
			after = seq
		}
		return true, nil
	})
	return err
}

// current is the record of an operation, nil if another one has replaced it or
// its time was over.
func (s *Store) current(k []byte, o Origin, seq uint64) ([]byte, error) {
	if len(k) == 0 {
		return nil, nil
	}
	v, err := s.get(k)
	if v == nil || err != nil {
		return nil, err
	}
	r, err := parseRecord(v)
	if err != nil {
		s.unreadable(k, err)
		return nil, nil
	}
	if r.origin != o || r.seq != seq {
		return nil, nil
	}
	return v, nil
}

// parcelWriter makes the wire form of operations: version; for each origin its
// number, the first operation, how many, and for each of these the key and the
// record, both after their lengths; both empty for one that was replaced.
type parcelWriter struct {
	limit  int
	b      []byte
	origin Origin
	first  uint64
	n      uint64
	group  []byte
}

const parcelVersion = 1

// full: the parcel is as large as it may be. Each pull makes progress, however
// small the limit is.
func (w *parcelWriter) full() bool {
	return len(w.b)+len(w.group) > 0 && len(w.b)+len(w.group) >= w.limit || w.n >= maxGroup
}

// maxGroup bounds the operations of one origin in a parcel: skipped ones are two
// bytes each.
const maxGroup = 1 << 14

func (w *parcelWriter) add(o Origin, seq uint64, k, v []byte) {
	if o != w.origin {
		w.flush()
		w.origin, w.first = o, seq
	}
	if v == nil {
		k = nil
	}
	w.group = append(binary.AppendUvarint(w.group, uint64(len(k))), k...)
	w.group = append(binary.AppendUvarint(w.group, uint64(len(v))), v...)
	w.n++
}

func (w *parcelWriter) flush() {
	if w.n == 0 {
		return
	}
	if len(w.b) == 0 {
		w.b = append(w.b, parcelVersion)
	}
	w.b = binary.BigEndian.AppendUint64(w.b, uint64(w.origin))
	w.b = binary.AppendUvarint(w.b, w.first)
	w.b = binary.AppendUvarint(w.b, w.n)
	w.b = append(w.b, w.group...)
	w.group, w.n = w.group[:0], 0
}

func (w *parcelWriter) end() []byte {
	w.flush()
	return w.b
}

// operation is one of a parcel.
type operation struct {
	key  []byte // empty: replaced
	k    key
	rec  record
	hash uint64
}

// group is the operations of one origin in a parcel, without gaps.
type group struct {
	origin Origin
	first  uint64
	ops    []operation
}

// parseParcel checks a parcel of another store.
func parseParcel(b []byte) (gs []group, err error) {
	f := reader{b: b}
	if v := f.byte(); v != parcelVersion {
		return nil, fmt.Errorf("%w parcel: version %d", ErrMalformed, v)
	}
	for len(f.b) > 0 && !f.bad {
		g := group{origin: Origin(f.fixed64()), first: f.uvarint()}
		n := f.uvarint()
		if f.bad || g.origin == 0 || g.first == 0 || n == 0 || n > maxGroup+1 || n > uint64(len(f.b)) || g.first > maxSeq {
			return nil, fmt.Errorf("%w parcel: group of %d", ErrMalformed, n)
		}
		for i := range n {
			var o operation
			o.key = f.bytes(maxKey)
			v := f.bytes(maxValue)
			if f.bad || (len(o.key) == 0) != (len(v) == 0) {
				return nil, fmt.Errorf("%w parcel: operation %s/%d", ErrMalformed, g.origin, g.first+i)
			}
			if len(o.key) > 0 {
				if o.k, o.rec, err = parsePair(o.key, v); err != nil {
					return nil, err
				}
				if o.rec.origin != g.origin || o.rec.seq != g.first+i {
					return nil, fmt.Errorf("%w parcel: operation %s/%d says that it is %s/%d", ErrMalformed, g.origin, g.first+i, o.rec.origin, o.rec.seq)
				}
			}
			g.ops = append(g.ops, o)
		}
		gs = append(gs, g)
	}
	if f.bad || len(gs) == 0 {
		return nil, fmt.Errorf("%w parcel of %d bytes", ErrMalformed, len(b))
	}
	return gs, nil
}

// maxValue bounds a record.
const maxValue = 64 + MaxCategory + MaxReason + MaxEvent + MaxBy

// parsePair reads a key and its record, which must fit each other.
func parsePair(kb, vb []byte) (k key, r record, err error) {
	if k, err = parseKey(kb); err != nil {
		return k, r, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if r, err = parseRecord(vb); err != nil {
		return k, r, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if k.class == kindEntry && r.state == stateSeen || k.class == kindSighting && r.state == stateLive {
		return k, r, fmt.Errorf("%w: a record of state %d under %.80q", ErrMalformed, r.state, kb)
	}
	for _, s := range [...]string{r.category, r.reason, r.event, r.by} {
		if bad(s) {
			return k, r, fmt.Errorf("%w: control bytes in the record of %.80q", ErrMalformed, kb)
		}
	}
	return k, r, nil
}

// Has reports whether an operation is on this store's disk.
func (s *Store) Has(p Position) bool { return p.Seq == 0 || s.have(p.Origin).synced >= p.Seq }
