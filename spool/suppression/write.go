package suppression

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// chunk is how many operations are in one batch, and in one record of the log.
const chunk = 1024

// Position names an operation: a store that has the origin's operations up to
// Seq has it.
type Position struct {
	Origin Origin
	Seq    uint64
}

// Result is what a call changed. The operations up to At are on disk.
type Result struct {
	Added     int // were not there
	Changed   int // stood with other words
	Unchanged int
	Removed   int
	At        Position // zero when nothing changed
}

// Finding is what a reply, a complaint or an unsubscribe says of an address.
type Finding struct {
	Entry
	// Second suppresses only if the address was found before, on another day.
	Second bool
	// At is when it was found, of what is fed late; zero: now. It may have been fed
	// before: what was removed since stays removed, and one sighting is not two.
	At time.Time
}

// Add stores entries, in place of those that stand under the same names. It
// stores all or, if one is invalid, none. It is somebody's order, so what was
// removed before stands again; but an entry whose time is over already, as old
// copies of a list have some, ends nothing that stands.
func (s *Store) Add(es []Entry) (Result, error) {
	for i := range es {
		if err := es[i].Check(); err != nil {
			return Result{}, err
		}
	}
	return s.run(len(es), func(c *change, i int) error {
		e := &es[i]
		old, err := c.read(kindEntry, e.Ref())
		if err != nil {
			return err
		}
		r := recordOf(e, c.now)
		switch {
		case !r.live(c.now):
			c.result.Unchanged++
			return nil
		case old == nil || !old.live(c.now):
			c.result.Added++
		case sameWords(old, &r):
			c.result.Unchanged++
			return nil
		default:
			c.result.Changed++
		}
		c.write(r, old)
		return nil
	})
}

func sameWords(x, y *record) bool {
	return x.kind == y.kind && x.until == y.until && x.category == y.category && x.reason == y.reason && x.event == y.event && x.by == y.by
}

// Feed stores what was found, where nothing stands yet: the first reason is
// kept. It says of each address whether it is suppressed now.
func (s *Store) Feed(fs []Finding) ([]bool, Result, error) {
	for i := range fs {
		if err := fs[i].Check(); err != nil {
			return nil, Result{}, err
		}
	}
	suppressed := make([]bool, len(fs))
	r, err := s.run(len(fs), func(c *change, i int) (err error) {
		suppressed[i], err = c.feed(&fs[i])
		return err
	})
	return suppressed, r, err
}

// Seen is Feed of one finding that needs a second.
func (s *Store) Seen(e Entry) (suppressed bool, err error) {
	got, _, err := s.Feed([]Finding{{Entry: e, Second: true}})
	return err == nil && got[0], err
}

func (c *change) feed(f *Finding) (suppressed bool, err error) {
	ref := f.Ref()
	old, err := c.read(kindEntry, ref)
	if err != nil {
		return false, err
	}
	if old != nil && old.live(c.now) {
		c.result.Unchanged++
		return true, nil
	}
	if f.since(old) {
		return false, nil
	}
	at := f.at(c.now)
	if f.Second {
		ref.Stream = ""
		seen, err := c.read(kindSighting, ref)
		if err != nil || f.since(seen) && seen.state != stateSeen {
			return false, err
		}
		first := recordOf(&f.Entry, at)
		first.state, first.added = stateSeen, at.UnixMicro()
		if !standing(seen, at) {
			c.writeAt(at, first, seen)
			return false, nil
		}
		if !second(time.UnixMicro(seen.added), at) {
			return false, nil
		}
		if old, err = c.read(kindEntry, f.Ref()); err != nil {
			return false, err
		}
	}
	c.result.Added++
	c.writeAt(at, recordOf(&f.Entry, at), old)
	return true, nil
}

// at is when it was found.
func (f *Finding) at(now time.Time) time.Time {
	if f.At.IsZero() || f.At.After(now) {
		return now
	}
	return f.At
}

// since reports whether a record was written after something was found that is
// fed late.
func (f *Finding) since(r *record) bool {
	return r != nil && !f.At.IsZero() && r.time >= f.At.UnixMicro()
}

// standing reports whether a first sighting is remembered still.
func standing(r *record, now time.Time) bool {
	return r != nil && r.state == stateSeen && now.Sub(time.UnixMicro(r.added)) < SightingFor
}

// second reports whether two sightings are far enough apart.
func second(x, y time.Time) bool {
	if y.Before(x) {
		x, y = y, x
	}
	return y.Sub(x) >= SecondAfter && x.UTC().Truncate(24*time.Hour) != y.UTC().Truncate(24*time.Hour)
}

// Remove takes entries off the list, and forgets sightings of their addresses.
func (s *Store) Remove(refs []Ref, by, reason string) (Result, error) {
	for i := range refs {
		if err := refs[i].Check(); err != nil {
			return Result{}, err
		}
	}
	return s.run(len(refs), func(c *change, i int) error {
		gone := record{state: stateRemoved, by: cut(by, MaxBy), reason: cut(reason, MaxReason), added: c.now.UnixMicro()}
		seen, err := c.read(kindSighting, Ref{refs[i].Tenant, refs[i].Address, ""})
		if err != nil {
			return err
		}
		if seen != nil && seen.state == stateSeen {
			c.write(gone, seen)
		}
		old, err := c.read(kindEntry, refs[i])
		if err != nil {
			return err
		}
		if old == nil || old.state != stateLive {
			c.result.Unchanged++
			return nil
		}
		c.result.Removed++
		c.write(gone, old)
		return nil
	})
}

// change is one batch of operations while it is made, under Store.writing. Its
// memory is used again for the next.
type change struct {
	s      *Store
	now    time.Time
	b      *pebble.Batch
	result Result

	key   []byte // of the last read
	hash  uint64 // of that, for the filter
	value []byte
	arena []byte // keys of what was written
	made  []written
	place map[uint64]int // by the key's hash: where in made
	delta map[string]*Counts
	keys  []byte // the log record
	first uint64 // its first operation
	next  uint64 // the number of the next operation

	reached []Position // how far the batch takes each origin
}

// written is a record of this batch.
type written struct {
	key []byte
	rec record
}

// begin makes ready for a batch of operations.
func (c *change) begin(s *Store) {
	if c.place == nil {
		c.place, c.delta = map[uint64]int{}, map[string]*Counts{}
	}
	clear(c.place)
	clear(c.delta)
	c.s, c.b, c.now = s, s.db.NewBatch(), s.o.Now()
	c.arena, c.made, c.keys, c.result, c.reached = c.arena[:0], c.made[:0], c.keys[:0], Result{}, nil
	if cap(c.arena) > 1<<20 { // bulk with long names
		c.arena, c.keys = nil, nil
	}
}

// read gives the record under a name, nil if there is none, as this batch leaves
// it, and remembers the key for write.
func (c *change) read(class byte, r Ref) (*record, error) {
	c.key = appendKey(c.key[:0], class, r.Tenant, r.Address, r.Stream)
	local, domain := splitAddress(r.Address)
	c.hash = c.s.hash.key(c.s.hash.address(local, domain), class, r.Tenant)
	return c.current()
}

// current is the record under c.key.
func (c *change) current() (*record, error) {
	if i, ok := c.place[maphash.Bytes(c.s.hash.seed, c.key)]; ok {
		for ; i >= 0; i-- { // nearly always the first
			if bytes.Equal(c.made[i].key, c.key) {
				return &c.made[i].rec, nil
			}
		}
	}
	if !c.s.filter.Load().maybe(c.hash) {
		return nil, nil
	}
	v, err := c.s.get(c.key)
	if v == nil || err != nil {
		return nil, err
	}
	r, err := parseRecord(v)
	if err != nil {
		c.s.unreadable(c.key, err)
		must(c.b.Set(append([]byte{kindQuarantine}, c.key...), v, nil))
		return nil, nil
	}
	return &r, nil
}

// write is an operation of this store: r under the key that was read last, in
// place of old.
func (c *change) write(r record, old *record) { c.writeAt(c.now, r, old) }

// writeAt is write of something that happened before now: what was written since,
// here or elsewhere, counts and not it.
func (c *change) writeAt(at time.Time, r record, old *record) {
	w := &c.s.writing
	r.origin, r.seq = w.origin, c.next
	r.time = at.UnixMicro()
	if !at.Before(c.now) {
		r.time = max(r.time, w.last)
		w.last = r.time
	}
	if old != nil && r.time <= old.time {
		r.time = old.time + 1
	}
	c.next++
	c.keys = binary.AppendUvarint(c.keys, uint64(len(c.key)))
	c.keys = append(c.keys, c.key...)
	c.put(r, old)
}

// put stores a record of any origin under c.key.
func (c *change) put(r record, old *record) {
	c.value = appendRecord(c.value[:0], &r)
	must(c.b.Set(c.key, c.value, nil))
	if due := r.due(); due > 0 {
		must(c.b.Set(appendDue(nil, due, c.key), nil, nil))
	}
	f := c.s.filter.Load()
	for _, x := range [...]*filter{f.use, f.next} {
		if x != nil {
			x.add(c.hash)
		}
	}
	if f.use != nil && f.next == nil && f.use.overfull() {
		c.s.askRefill()
	}
	c.count(tenantOf(c.key), old, -1)
	c.count(tenantOf(c.key), &r, 1)
	start := len(c.arena)
	c.arena = append(c.arena, c.key...)
	c.place[maphash.Bytes(c.s.hash.seed, c.key)] = len(c.made)
	c.made = append(c.made, written{c.arena[start:len(c.arena):len(c.arena)], r})
}

func tenantOf(key []byte) []byte {
	tenant, _, _ := bytes.Cut(key[1:], []byte{0})
	return tenant
}

func (c *change) count(tenant []byte, r *record, n int64) {
	if r == nil || r.state == stateRemoved {
		return
	}
	d := c.delta[string(tenant)]
	if d == nil {
		d = &Counts{}
		c.delta[string(tenant)] = d
	}
	d.add(r, n)
}

func appendDue(b []byte, due int64, key []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindDue), uint64(due))
	return append(b, key...)
}

// inFlight bounds the batches of one call that wait for their sync.
const inFlight = 8

// run makes n operations in batches and waits until all are on disk. Batches
// follow each other without waiting: the sync of the last covers all.
func (s *Store) run(n int, fn func(c *change, i int) error) (total Result, err error) {
	if err := s.enter(); err != nil {
		return total, err
	}
	defer s.leave()
	var waits []func() error
	wait := func(leave int) (err error) {
		for len(waits) > leave {
			if werr := waits[0](); err == nil {
				err = werr
			}
			waits = waits[1:]
		}
		return err
	}
	for from := 0; from < n && err == nil; from += chunk {
		var w func() error
		var r Result
		if w, r, err = s.runChunk(from, min(n, from+chunk), fn); err != nil {
			break
		}
		total.add(&r)
		if w != nil {
			waits = append(waits, w)
		}
		err = wait(inFlight)
	}
	if werr := wait(0); err == nil {
		err = werr
	}
	if err == nil && total.At.Seq == 0 {
		// What was found to stand may be another call's, and not on disk yet.
		err = s.syncApplied()
	}
	return total, err
}

// syncApplied waits until all that is applied is on disk.
func (s *Store) syncApplied() error {
	reached := s.unsynced()
	if len(reached) == 0 || s.o.UnsafeNoSync {
		return nil
	}
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return s.fail(err)
	}
	if err := s.Failed(); err != nil {
		return err
	}
	s.synced(reached)
	return nil
}

func (t *Result) add(r *Result) {
	t.Added, t.Changed, t.Unchanged, t.Removed = t.Added+r.Added, t.Changed+r.Changed, t.Unchanged+r.Unchanged, t.Removed+r.Removed
	if r.At.Seq > 0 {
		t.At = r.At
	}
}

func (s *Store) runChunk(from, to int, fn func(c *change, i int) error) (wait func() error, r Result, err error) {
	w := &s.writing
	w.Lock()
	defer w.Unlock()
	if t := s.Total(); t.Entries+t.Sightings+int64(to-from) > s.o.MaxEntries {
		return nil, r, ErrFull
	}
	if w.origin == 0 {
		w.origin = randomOrigin()
	}
	c := &w.made
	c.begin(s)
	c.first = s.have(w.origin).seq + 1
	c.next = c.first
	for i := from; i < to; i++ {
		if err := fn(c, i); err != nil {
			return nil, r, closeBatch(c.b, err)
		}
	}
	if c.next == c.first {
		// Quarantined records may be all there is.
		return nil, c.result, closeBatch(c.b, nil)
	}
	c.logged(w.origin, c.first, c.next-1, c.keys)
	c.result.At = Position{w.origin, c.next - 1}
	wait, err = c.commit()
	return wait, c.result, err
}

func closeBatch(b *pebble.Batch, err error) error {
	if cerr := b.Close(); err == nil {
		return cerr
	}
	return err
}

// commit applies the batch with the counts, and gives what waits for its sync.
// Other batches may be applied meanwhile.
func (c *change) commit() (wait func() error, err error) {
	s, b, reached := c.s, c.b, c.reached
	s.saveCounts(b, c.delta)
	if s.o.UnsafeNoSync {
		if err := b.Commit(pebble.NoSync); err != nil {
			return nil, s.fail(err)
		}
		s.settle(c.delta, reached)
		return func() error { s.synced(reached); return b.Close() }, nil
	}
	if err := s.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return nil, s.fail(err)
	}
	s.settle(c.delta, reached)
	return func() error {
		err := b.SyncWait()
		if err == nil {
			err = b.Close()
		}
		if err != nil {
			return s.fail(err)
		}
		if err := s.Failed(); err != nil {
			return err
		}
		s.synced(reached)
		return nil
	}, nil
}
