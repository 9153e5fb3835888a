package suppression

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// tend is the store's own goroutine: it fills the filter and sweeps what is over,
// until Close.
func (s *Store) tend(ctx context.Context) {
	tick := time.NewTicker(s.o.SweepEvery)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-s.refill:
			err = s.fillFilter(ctx)
		case <-tick.C:
			err = s.sweep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.stats.faults.Add(1)
			s.log.Error("tend the suppression list", "error", err)
		}
	}
}

// askRefill wants the filter built anew.
func (s *Store) askRefill() {
	select {
	case s.refill <- struct{}{}:
	default:
	}
}

// fillFilter builds a filter of all keys, with room for half as many more. What
// is written meanwhile goes into it as well, from before the iterator is made.
func (s *Store) fillFilter(ctx context.Context) error {
	s.writing.Lock()
	total := s.Total()
	f := newFilter((total.Entries + total.Sightings) * 3 / 2)
	use := s.filter.Load().use
	s.filter.Store(&filters{use, f})
	it, err := s.db.NewIter(nil)
	s.writing.Unlock()
	for _, class := range [...]byte{kindEntry, kindSighting} {
		if err == nil {
			err = s.fillFrom(ctx, it, class, f)
		}
	}
	if it != nil {
		err = errors.Join(err, it.Close())
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err != nil {
		s.filter.Store(&filters{use, nil})
		return fmt.Errorf("fill the filter: %w", err)
	}
	s.filter.Store(&filters{f, nil})
	if f.overfull() { // an import was quicker
		s.askRefill()
	}
	return nil
}

func (s *Store) fillFrom(ctx context.Context, it *pebble.Iterator, class byte, f *filter) error {
	it.SetBounds([]byte{class}, []byte{class + 1})
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		f.add(s.hashOf(it.Key()))
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return it.Error()
}

// hashOf is the filter's key of a stored key.
func (s *Store) hashOf(k []byte) uint64 {
	var part [3][]byte // tenant, domain, local
	rest := k[1:]
	for i := range part {
		for j, b := range rest {
			if b == 0 {
				part[i], rest = rest[:j], rest[j+1:]
				break
			}
		}
	}
	return s.hash.stored(k[0], part[0], part[1], part[2])
}

// sweep turns entries whose time is over into tombstones, and deletes tombstones
// and sightings whose time is over.
func (s *Store) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := s.sweepSome()
		if n < chunk || err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sweepSome() (n int, err error) {
	w := &s.writing
	w.Lock()
	defer w.Unlock()
	c := &w.made
	c.begin(s)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindDue}, UpperBound: appendDue(nil, c.now.Unix()+1, nil)})
	if err != nil {
		return 0, closeBatch(c.b, err)
	}
	for ok := it.First(); ok && n < chunk && err == nil; ok = it.Next() {
		n++
		must(c.b.Delete(it.Key(), nil))
		if k := it.Key(); len(k) > 9 {
			c.key = append(c.key[:0], k[9:]...)
			err = c.expire(int64(binary.BigEndian.Uint64(k[1:])))
		}
	}
	err = errors.Join(err, it.Error(), it.Close())
	if err != nil || n == 0 {
		return 0, closeBatch(c.b, err)
	}
	s.saveCounts(c.b, c.delta)
	// Not synced: after a crash it is done again.
	if err := c.b.Commit(pebble.NoSync); err != nil {
		return 0, s.fail(err)
	}
	s.settle(c.delta, nil)
	return n, c.b.Close()
}

// expire ends the record under c.key, unless it was replaced by one that is due
// at another time.
func (c *change) expire(due int64) error {
	c.hash = c.s.hashOf(c.key)
	r, err := c.current()
	if r == nil || err != nil || r.due() != due {
		return err
	}
	c.s.stats.swept.Add(1)
	if r.state == stateLive {
		c.put(r.ended(), r)
		return nil
	}
	c.drop(r)
	return nil
}

// drop deletes the record under c.key on this disk. It is no operation.
func (c *change) drop(r *record) {
	must(c.b.Delete(c.key, nil))
	c.count(tenantOf(c.key), r, -1)
}
