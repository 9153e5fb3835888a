package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// maxQueuesCounted bounds the queues whose length is kept in memory, some 200
// bytes each. Beyond, the length of a queue is counted when it is asked for.
const (
	maxQueuesCounted  = 1 << 18
	maxTenantsCounted = 1 << 16
)

// counts is how many deliveries are queued. It starts from nothing; every
// synced batch adds its changes, and a scan of what lay there at Open adds the
// rest. Sums do not care about the order, so both run at once; until the scan
// is over a number can be too small, even below zero.
type counts struct {
	mu struct {
		sync.Mutex
		queues   map[string]*int64 // by queue prefix; pointers, so that counting makes no string
		tenants  map[string]*int64
		total    int64
		complete bool // the scan is over
		overflow bool // a queue did not fit: queues is not the whole truth
	}
}

func (c *counts) apply(reqs []*request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// In a batch a queue's changes often follow one another, and cancel out.
	var queue []byte
	var n int64
	for _, r := range reqs {
		if r.err != nil {
			continue
		}
		for _, t := range r.tallies {
			prefix := r.names[t.from:t.to]
			if !bytes.Equal(prefix, queue) {
				if n != 0 {
					c.addLocked(queue, n)
				}
				queue, n = prefix, 0
			}
			n += int64(t.n)
		}
	}
	if n != 0 {
		c.addLocked(queue, n)
	}
}

func (c *counts) addLocked(prefix []byte, n int64) {
	if c.mu.queues == nil {
		c.mu.queues, c.mu.tenants = map[string]*int64{}, map[string]*int64{}
	}
	c.mu.total += n
	if !bump(c.mu.queues, prefix, n, maxQueuesCounted, c.mu.complete) {
		c.mu.overflow = true
	}
	if !bump(c.mu.tenants, tenantOfPrefix(prefix), n, maxTenantsCounted, c.mu.complete) {
		c.mu.overflow = true
	}
}

// bump adds n under key. It forgets zeros, once zero means empty, and refuses
// new keys when the map is full.
func bump(m map[string]*int64, key []byte, n int64, limit int, forget bool) bool {
	v := m[string(key)]
	if v == nil {
		if n == 0 {
			return true
		}
		if len(m) >= limit {
			return false
		}
		v = new(int64)
		m[string(key)] = v
	}
	if *v += n; *v == 0 && forget {
		delete(m, string(key))
	}
	return true
}

// countOf reads a counter that may not be there, or be below zero for now.
func countOf(n *int64) int64 {
	if n == nil {
		return 0
	}
	return max(0, *n)
}

// countBacklog adds what was queued at Open. It reads keys only, but of the
// whole backlog: about a second for a million deliveries.
func (s *Store) countBacklog(ctx context.Context, snapshot *pebble.Snapshot) {
	err := s.countSnapshot(ctx, snapshot)
	if err = errors.Join(err, snapshot.Close()); err != nil && ctx.Err() == nil {
		s.log.Error("count the backlog: lengths of queues stay unknown until the next start", "err", err)
	}
}

func (s *Store) countSnapshot(ctx context.Context, snapshot *pebble.Snapshot) error {
	prefix := []byte{kindQueue}
	it, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return err
	}
	c := &s.counts
	var queue []byte
	var n, seen int64
	flush := func() {
		if n > 0 {
			c.mu.Lock()
			c.addLocked(queue, n)
			c.mu.Unlock()
		}
	}
	for ok := it.First(); ok; ok = it.Next() {
		p, _, _, good := queueTail(it.Key())
		if !good {
			continue
		}
		if string(p) != string(queue) {
			flush()
			queue, n = append(queue[:0], p...), 0
		}
		n++
		if seen++; seen%1024 == 0 && ctx.Err() != nil {
			return errors.Join(ctx.Err(), it.Close())
		}
	}
	flush()
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.complete = true
	for _, m := range []map[string]*int64{c.mu.queues, c.mu.tenants} {
		for k, v := range m {
			if *v == 0 {
				delete(m, k)
			}
		}
	}
	return nil
}

// Stats is how much is queued.
type Stats struct {
	Counted     bool  `json:"counted"` // the numbers are exact
	Deliveries  int64 `json:"deliveries"`
	Queues      int64 `json:"queues"`
	Quarantined int64 `json:"quarantined"`
	Outbox      int64 `json:"outbox"` // records that the event log has not acknowledged
}

// Stats gives totals. They are exact once the background count that follows
// Open is over.
func (s *Store) Stats() Stats {
	c := &s.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Counted:     c.mu.complete,
		Deliveries:  max(0, c.mu.total),
		Queues:      int64(len(c.mu.queues)),
		Quarantined: s.stats.quarantined.Load(),
		Outbox:      int64(s.outbox.durable.Load() - s.outbox.acked.Load()),
	}
}

// TenantQueued is how many deliveries of a tenant are queued, as known now.
func (s *Store) TenantQueued(tenant string) int64 {
	c := &s.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return countOf(c.mu.tenants[tenant])
}

// QueueLen is how many deliveries are in a queue. It answers from memory if it
// can, else it counts up to limit on disk.
func (s *Store) QueueLen(q message.QueueKey, limit int64) (int64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	prefix := appendQueuePrefix(nil, &q)
	c := &s.counts
	c.mu.Lock()
	n, known := countOf(c.mu.queues[string(prefix)]), c.mu.complete && !c.mu.overflow
	c.mu.Unlock()
	if known {
		return n, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return 0, fmt.Errorf("count queue: %w", err)
	}
	n = 0
	for ok := it.First(); ok && n < limit; ok = it.Next() {
		n++
	}
	return n, errors.Join(it.Error(), it.Close())
}

// QueueLens gives fn the queues that are counted in memory with their lengths,
// in no order, until it returns false.
func (s *Store) QueueLens(fn func(q message.QueueKey, n int64) bool) {
	type item struct {
		prefix string
		n      int64
	}
	c := &s.counts
	c.mu.Lock()
	items := make([]item, 0, len(c.mu.queues))
	for k, n := range c.mu.queues {
		if *n > 0 {
			items = append(items, item{k, *n})
		}
	}
	c.mu.Unlock()
	for _, i := range items {
		if q, ok := parseQueuePrefix([]byte(i.prefix)); ok && !fn(q, i.n) {
			return
		}
	}
}
