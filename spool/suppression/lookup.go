package suppression

import (
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Lookup says whether an address gets no mail of a tenant's stream, by the
// tenant's list or by the global one, and by which entry. It is asked for every
// recipient: where nothing is stored it allocates nothing and asks no disk. What
// cannot be read counts as not suppressed, and is counted (Metrics.Faults).
func (s *Store) Lookup(tenant, address, stream string) (Entry, bool) {
	local, domain := splitAddress(address)
	h := s.hash.address(local, domain)
	f := s.filter.Load()
	own := tenant != "" && f.maybe(s.hash.key(h, kindEntry, tenant))
	global := f.maybe(s.hash.key(h, kindEntry, ""))
	if !own && !global {
		return Entry{}, false
	}
	return s.lookup(own, global, Ref{tenant, address, stream})
}

func (s *Store) lookup(own, global bool, r Ref) (Entry, bool) {
	if s.enter() != nil {
		return Entry{}, false
	}
	defer s.leave()
	now := s.o.Now()
	if own {
		if e, ok := s.lookupIn(r, now); ok {
			return e, true
		}
	}
	if global {
		r.Tenant = ""
		if e, ok := s.lookupIn(r, now); ok {
			return e, true
		}
	}
	s.stats.passed.Add(1)
	return Entry{}, false
}

// lookupIn asks one list for all streams, and for the one.
func (s *Store) lookupIn(r Ref, now time.Time) (Entry, bool) {
	stream := r.Stream
	r.Stream = ""
	if e, ok := s.find(&r, now); ok || stream == "" {
		return e, ok
	}
	r.Stream = stream
	return s.find(&r, now)
}

var keys = sync.Pool{New: func() any { b := make([]byte, 0, maxKey); return &b }}

// find reads one entry that holds at now.
func (s *Store) find(r *Ref, now time.Time) (Entry, bool) {
	p := keys.Get().(*[]byte)
	defer keys.Put(p)
	*p = appendKey((*p)[:0], kindEntry, r.Tenant, r.Address, r.Stream)
	v, closer, err := s.db.Get(*p)
	if errors.Is(err, pebble.ErrNotFound) {
		return Entry{}, false
	}
	if err != nil {
		s.stats.faults.Add(1)
		s.log.Error("read the suppression list", "error", err)
		return Entry{}, false
	}
	defer closer.Close()
	state, until, err := quickRecord(v)
	if err == nil && (state != stateLive || until != 0 && now.Unix() >= until) {
		return Entry{}, false
	}
	rec, err := parseRecord(v)
	if err != nil {
		s.unreadable(*p, err)
		return Entry{}, false
	}
	s.stats.hits.Add(1)
	local, domain := splitAddress(r.Address)
	return rec.entry(&key{kindEntry, r.Tenant, domain, local, r.Stream}), true
}

// unreadable counts a record that cannot be read. It stays where it is until it
// is written over, and is put aside then.
func (s *Store) unreadable(k []byte, err error) {
	s.stats.unreadable.Add(1)
	s.log.Error("a record of the suppression list is unreadable", "key", string(k), "error", err)
}

// Get gives all entries of an address in one list that hold now: for all
// streams, and for single ones.
func (s *Store) Get(tenant, address string) ([]Entry, error) {
	r := Ref{tenant, address, ""}
	if err := r.Check(); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	low := appendKey(nil, kindEntry, tenant, address, "")
	high := append(append([]byte(nil), low[:len(low)-1]...), 1)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: low, UpperBound: high})
	if err != nil {
		return nil, err
	}
	var out []Entry
	now := s.o.Now()
	for ok := it.First(); ok && len(out) < 1000; ok = it.Next() {
		if e, ok := s.entryAt(it, now); ok {
			out = append(out, e)
		}
	}
	return out, errors.Join(it.Error(), it.Close())
}

// entryAt is the entry under an iterator, if it holds at now.
func (s *Store) entryAt(it *pebble.Iterator, now time.Time) (Entry, bool) {
	v, err := it.ValueAndErr()
	if err != nil {
		s.stats.faults.Add(1)
		return Entry{}, false
	}
	r, err := parseRecord(v)
	if err != nil {
		s.unreadable(it.Key(), err)
		return Entry{}, false
	}
	if !r.live(now) {
		return Entry{}, false
	}
	k, err := parseKey(it.Key())
	if err != nil {
		s.unreadable(it.Key(), err)
		return Entry{}, false
	}
	return r.entry(&k), true
}
