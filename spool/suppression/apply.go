package suppression

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Apply takes what another store's Pull gave. It returns when that is on disk,
// with how many operations were new. A parcel that is malformed changes nothing.
func (s *Store) Apply(parcel []byte) (applied int, err error) {
	if len(parcel) == 0 {
		return 0, nil
	}
	gs, err := parseParcel(parcel)
	if err != nil {
		return 0, err
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	var wait func() error
	var twice []Finding
	for i := range gs {
		for part := (group{}); len(gs[i].ops) > 0; {
			n := min(chunk, len(gs[i].ops))
			part = group{gs[i].origin, gs[i].first, gs[i].ops[:n]}
			w, more, a, err := s.applyGroup(&part)
			if err != nil {
				return applied, err
			}
			if w != nil {
				if wait != nil { // batches are synced in order
					if err := wait(); err != nil {
						return applied, err
					}
				}
				wait = w
			}
			applied += a
			twice = append(twice, more...)
			gs[i].first, gs[i].ops = gs[i].first+uint64(n), gs[i].ops[n:]
		}
	}
	if wait != nil {
		err = wait()
	}
	if err == nil && len(twice) > 0 {
		_, _, err = s.Feed(twice)
	}
	s.stats.applied.Add(uint64(applied))
	return applied, err
}

// applyGroup makes one batch of one origin's operations.
func (s *Store) applyGroup(g *group) (wait func() error, twice []Finding, applied int, err error) {
	w := &s.writing
	w.Lock()
	defer w.Unlock()
	p := s.have(g.origin)
	last := g.first + uint64(len(g.ops)) - 1
	switch {
	case g.origin == w.origin && last > p.seq:
		return nil, nil, 0, fmt.Errorf("%w parcel: operations of this store's own life that it has not made", ErrMalformed)
	case last <= p.seq:
		return nil, nil, 0, nil // had
	case g.first > p.seq+1:
		return nil, nil, 0, fmt.Errorf("operations of %s from %d, when it has those up to %d", g.origin, g.first, p.seq)
	case s.tooMany():
		return nil, nil, 0, fmt.Errorf("%w: %d entries", ErrFull, s.o.MaxEntries)
	case p.seq == 0 && s.originsFull():
		return nil, nil, 0, fmt.Errorf("%w: %d origins", ErrFull, MaxOrigins)
	}
	g.ops, g.first = g.ops[p.seq+1-g.first:], p.seq+1
	c := &w.made
	c.begin(s)
	for i := range g.ops {
		o := &g.ops[i]
		f, err := c.merge(o)
		if err != nil {
			return nil, nil, 0, closeBatch(c.b, err)
		}
		twice = append(twice, f...)
		c.keys = append(binary.AppendUvarint(c.keys, uint64(len(o.key))), o.key...)
	}
	c.logged(g.origin, g.first, last, c.keys)
	wait, err = c.commit()
	return wait, twice, len(g.ops), err
}

func (s *Store) tooMany() bool {
	t := s.Total()
	return t.Entries+t.Sightings > s.o.MaxEntries
}

func (s *Store) originsFull() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.mu.vector) >= MaxOrigins
}

// merge stores a record of another store if it counts and not the one that is
// here. It gives a finding where two first sightings of different days meet.
func (c *change) merge(o *operation) (twice []Finding, err error) {
	if len(o.key) == 0 {
		return nil, nil
	}
	c.key = append(c.key[:0], o.key...)
	c.hash = c.s.hash.key(c.s.hash.address(o.k.local, o.k.domain), o.k.class, o.k.tenant)
	old, err := c.current()
	if err != nil {
		return nil, err
	}
	if standing(old, c.now) && standing(&o.rec, c.now) && second(time.UnixMicro(old.added), time.UnixMicro(o.rec.added)) {
		twice = []Finding{{Entry: o.rec.promoted(&o.k)}}
	}
	if old != nil && !o.rec.after(old) && !c.s.o.UnsafeLastHeard || old == nil && o.rec.over(c.now) {
		return twice, nil
	}
	c.put(o.rec, old)
	return twice, nil
}

// promoted is the entry that a second sighting makes.
func (r *record) promoted(k *key) Entry {
	e := r.entry(k)
	if e.Kind == 0 {
		e.Kind = Bounce
	}
	e.Added, e.Expires = time.Time{}, time.Time{}
	return e
}
