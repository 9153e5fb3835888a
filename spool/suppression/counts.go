package suppression

import (
	"encoding/binary"
	"fmt"
	"maps"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// Counts are how much a tenant has on the list. What has expired counts until it
// is swept, about a minute.
type Counts struct {
	Entries   int64
	ByKind    [kinds]int64 // by Kind
	Sightings int64        // seen once, not suppressed
}

func (c *Counts) add(r *record, n int64) {
	switch r.state {
	case stateLive:
		c.Entries += n
		c.ByKind[r.kind] += n
	case stateSeen:
		c.Sightings += n
	}
}

func (c *Counts) plus(d *Counts) {
	c.Entries += d.Entries
	c.Sightings += d.Sightings
	for k := range c.ByKind {
		c.ByKind[k] += d.ByKind[k]
	}
}

// Counts are those of each tenant that has any; "" is the global list.
func (s *Store) Counts() map[string]Counts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[string]Counts, len(s.mu.counts))
	for t, c := range s.mu.counts {
		if *c != (Counts{}) {
			out[t] = *c
		}
	}
	return out
}

// Total is the sum of all.
func (s *Store) Total() Counts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.total
}

// saveCounts puts the counts into the batch that changes them, so that they are
// exact after a crash. Under writing.
func (s *Store) saveCounts(b *pebble.Batch, delta map[string]*Counts) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for t, d := range delta {
		if *d == (Counts{}) {
			continue
		}
		c := Counts{}
		if had := s.mu.counts[t]; had != nil {
			c = *had
		}
		c.plus(d)
		k := append([]byte{kindCount}, t...)
		if c == (Counts{}) {
			must(b.Delete(k, nil))
			continue
		}
		must(b.Set(k, c.append(nil), nil))
	}
}

// settle makes known what a batch has changed. Under writing.
func (s *Store) settle(delta map[string]*Counts, reached []Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, d := range delta {
		c := s.mu.counts[t]
		if c == nil {
			c = &Counts{}
			s.mu.counts[t] = c
		}
		c.plus(d)
		s.mu.total.plus(d)
		if *c == (Counts{}) {
			delete(s.mu.counts, t)
		}
	}
	for _, r := range reached {
		p := s.mu.vector[r.Origin]
		if p == nil {
			p = &progress{}
			s.mu.vector[r.Origin] = p
		}
		p.seq, p.at = r.Seq, s.o.Now().Unix()
	}
}

func (c *Counts) append(b []byte) []byte {
	b = binary.AppendVarint(b, c.Entries)
	b = binary.AppendVarint(b, c.Sightings)
	for _, n := range c.ByKind[1:] {
		b = binary.AppendVarint(b, n)
	}
	return b
}

func parseCounts(b []byte) (*Counts, error) {
	c := &Counts{}
	for i := range 2 + kinds - 1 {
		v, n := binary.Varint(b)
		if n <= 0 {
			return nil, fmt.Errorf("malformed counts %x", b)
		}
		b = b[n:]
		switch i {
		case 0:
			c.Entries = v
		case 1:
			c.Sightings = v
		default:
			c.ByKind[i-1] = v
		}
	}
	return c, nil
}

// counters are what Metrics shows.
type counters struct {
	hits, passed, faults, unreadable, applied, swept, dropped atomic.Uint64
}

// Metrics is a snapshot.
type Metrics struct {
	Total       Counts
	Tenants     int
	Hits        uint64 // look-ups that found an entry
	Passed      uint64 // look-ups that the filter could not answer, and found none
	Faults      uint64 // reads and background writes that failed
	Unreadable  uint64 // records in quarantine since the start
	Applied     uint64 // operations taken from other stores
	Swept       uint64 // records deleted since their time was over
	Dropped     uint64 // records deleted since another store had deleted them
	FilterBytes int64
	FilterReady bool
	CacheBytes  int64
	DiskBytes   uint64
	Log         int64 // operations in the log
	Origins     int
}

// Metrics is a snapshot of the store's counters.
func (s *Store) Metrics() Metrics {
	m := Metrics{
		Hits: s.stats.hits.Load(), Passed: s.stats.passed.Load(), Faults: s.stats.faults.Load(), Unreadable: s.stats.unreadable.Load(),
		Applied: s.stats.applied.Load(), Swept: s.stats.swept.Load(), Dropped: s.stats.dropped.Load(),
	}
	if f := s.filter.Load(); f.use != nil {
		m.FilterReady, m.FilterBytes = true, f.use.bytes()
	}
	s.mu.RLock()
	m.Total, m.Tenants, m.Origins = s.mu.total, len(s.mu.counts), len(s.mu.vector)
	for p := range maps.Values(s.mu.vector) {
		m.Log += int64(p.seq - p.floor)
	}
	s.mu.RUnlock()
	if s.enter() == nil {
		defer s.leave()
		db := s.db.Metrics()
		m.CacheBytes, m.DiskBytes = db.BlockCache.Size, db.DiskSpaceUsage()
	}
	return m
}
