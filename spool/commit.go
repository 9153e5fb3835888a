package spool

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// Group commit. Callers encode their records into a fragment and queue a
// request; one goroutine (build) merges what waits into one Pebble batch and
// applies it; another (settle) waits for the WAL sync and answers, in order,
// while the next batch, with all that came during the sync, is on its way.
//
// One builder, because a transition reads the state that it changes, and
// because the outbox has one order. Handing each caller's batch to Pebble's
// own commit pipeline, without either, takes 25,000 appends of 4 KiB a second
// where this takes 22,500 (BenchmarkCommitPipeline).
const (
	// unsynced is how many batches may be between log and disk. More than one
	// was the obvious thing, to overlap writing with syncing, and is slower:
	// the batches get smaller, and each has its price. Accept and end of 4 KiB
	// messages, 20 clients, two cores, medians: with 1, 39 µs CPU and 17,800
	// messages a second; with 2, 57 µs and 14,900; with 4, 54 µs and 16,900.
	unsynced = 1
	// gatherDelay is how long outcomes wait for company when nobody who would
	// have to wait with them is there. Nothing waits for an outcome's sync but
	// memory and the next attempt of the same delivery.
	gatherDelay = 2 * time.Millisecond
	// gatherEnough ends the gathering early.
	gatherEnough = 128
	// maxBatchBytes of submissions, or of moves, end a batch; what is left goes
	// into the next.
	maxBatchBytes = 2 << 20
	// maxBatchMoves bounds the outcomes in one batch, and maxMovesBeside those
	// in a batch that somebody waits for: each move reads the index, some 5 µs,
	// and tells its delivery's owner. With the lower bound for all, the cancel of
	// a large job waited for syncs more than it worked.
	maxBatchMoves  = 2048
	maxMovesBeside = 512
	// largeAppend is from which size on a submission makes small ones wait.
	largeAppend = 256 << 10
	// maxPooledBatch is the largest batch whose buffer is used again. Pebble's
	// own batches keep no more.
	maxPooledBatch = 1 << 20
	// maxWaiting bounds the queue. Only bulk administration can reach it.
	maxWaiting = 1 << 16
)

type committer struct {
	s    *Store
	wake chan struct{} // capacity 1: look at mu again
	mu   struct {
		sync.Mutex
		waiting []*request
		urgent  int  // of waiting, those with somebody who waits
		large   int  // of waiting, large submissions
		small   int  // of waiting, other submissions
		passed  bool // the last batch left large submissions to small ones
		closed  bool
	}
	room    *sync.Cond // on mu: waiting is below maxWaiting
	slots   chan struct{}
	flights chan *flight
	spare   chan *flight   // answered, to be used again with their buffers
	wg      sync.WaitGroup // build and settle

	// The builder's own.
	company           company
	seq               uint64
	shared            map[message.ID]int32
	jobs              map[string]jobCounts
	key, index, value []byte
}

// flight is a batch between its building and its answer.
type flight struct {
	seq     uint64 // of its outbox record, if it has events
	batch   *pebble.Batch
	room    int // what its buffer holds at least
	reqs    []*request
	events  []byte
	applied time.Time
	err     error
}

func (c *committer) init(s *Store) {
	c.s = s
	c.wake = make(chan struct{}, 1)
	c.slots = make(chan struct{}, unsynced)
	c.flights = make(chan *flight, unsynced)
	c.spare = make(chan *flight, unsynced+1)
	c.room = sync.NewCond(&c.mu)
	c.shared = map[message.ID]int32{}
	c.jobs = map[string]jobCounts{}
	s.pending.deliveries = map[message.DeliveryID]uint64{}
	s.pending.keys = map[string]uint64{}
}

func (c *committer) start() {
	c.wg.Add(2)
	go func() {
		defer c.wg.Done()
		c.build()
	}()
	go func() {
		defer c.wg.Done()
		c.settle()
	}()
}

// close commits what waits and ends both goroutines.
func (c *committer) close() {
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
	c.room.Broadcast()
	c.signal()
	if c.s.Failed() == nil {
		c.wg.Wait()
	}
}

func (c *committer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// enqueue hands r to the builder. After an error r is still the caller's.
func (c *committer) enqueue(r *request) error {
	c.mu.Lock()
	for len(c.mu.waiting) >= maxWaiting && !c.mu.closed {
		c.room.Wait()
	}
	if c.mu.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.mu.waiting = append(c.mu.waiting, r)
	n := len(c.mu.waiting)
	first := n == 1 || n == gatherEnough
	c.countLocked(r, +1)
	if r.kind != kindMove {
		first = first || c.mu.urgent == 1
	}
	c.mu.Unlock()
	if first {
		c.signal()
	}
	return nil
}

// await queues r and waits for its answer.
func (s *Store) await(ctx context.Context, r *request) error {
	if err := s.commits.enqueue(r); err != nil {
		return err
	}
	return r.wait(ctx)
}

// wait takes the answer to r, and ends it.
func (r *request) wait(ctx context.Context) error {
	select {
	case err := <-r.ack:
		r.recycle()
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the spool: %w", context.Cause(ctx))
	}
}

// write runs fn on the builder and returns when what it wrote is durable.
func (s *Store) write(ctx context.Context, fn func(b *pebble.Batch) error) error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	r := s.newRequest(kindWrite, 0)
	r.write = fn
	return s.await(ctx, r)
}

// barrier returns when all that was applied before is durable, and its events have
// been handed on.
func (s *Store) barrier(ctx context.Context) error {
	return s.await(ctx, s.newRequest(kindBarrier, 0))
}

// gather waits until there is something worth a batch and takes it; nil when
// the committer is closed and empty.
func (c *committer) gather(timer *time.Timer) []*request {
	late, armed := false, false
	for {
		c.mu.Lock()
		n := len(c.mu.waiting)
		ready := c.mu.urgent > 0 || n >= gatherEnough || c.mu.closed || late
		if n > 0 && ready && !c.company.expected(n, c.mu.closed) {
			return c.takeLocked()
		}
		closed := c.mu.closed
		c.mu.Unlock()
		if closed && n == 0 {
			return nil
		}
		if n > 0 && ready {
			runtime.Gosched()
			continue
		}
		if n > 0 && !armed {
			timer.Reset(gatherDelay)
			armed = true
		}
		select {
		case <-c.wake:
		case <-timer.C:
			late = true
		}
	}
}

// giveBack puts requests that could not go into this batch before all others.
func (c *committer) giveBack(rs []*request) {
	if len(rs) == 0 {
		return
	}
	c.mu.Lock()
	c.mu.waiting = append(rs, c.mu.waiting...)
	for _, r := range rs {
		c.countLocked(r, +1)
	}
	c.mu.Unlock()
	c.signal()
}

// build is the first stage.
func (c *committer) build() {
	defer close(c.flights)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var ordinal uint64
	for {
		c.slots <- struct{}{} // first, so that the batch is as full as it can be
		reqs := c.gather(timer)
		if reqs == nil {
			return
		}
		ordinal++
		f := c.newFlight()
		c.apply(f, reqs, ordinal)
		c.flights <- f
	}
}

// apply makes one batch of reqs and writes it to Pebble. Pebble panics when it
// cannot write or change its log; that ends the process as it should, so
// nothing recovers it.
func (c *committer) apply(f *flight, reqs []*request, ordinal uint64) {
	f.reqs = reqs
	if f.err = c.s.Failed(); f.err != nil {
		return
	}
	c.merge(f, reqs, ordinal)
	f.applied = time.Now()
	switch {
	case f.batch.Empty():
	case c.s.opt.UnsafeNoSync:
		f.err = c.s.db.Apply(f.batch, pebble.NoSync)
	default:
		f.err = c.s.db.ApplyNoSyncWait(f.batch, pebble.Sync)
	}
	if f.err != nil {
		c.s.fail(f.err)
	}
}

// newFlight is an empty flight, with the buffers of an earlier one if there is
// one.
func (c *committer) newFlight() *flight {
	select {
	case f := <-c.spare:
		return f
	default:
		return &flight{}
	}
}

// reuse keeps a flight's buffers for the next, unless they grew past what an
// ordinary batch needs. Pebble keeps nothing of a batch that is synced (it takes
// the buffer of one that it did not copy).
func (c *committer) reuse(f *flight) {
	f.room = max(f.room, f.batch.Len())
	if f.room > maxPooledBatch || cap(f.events) > maxPooledBatch {
		if err := f.batch.Close(); err != nil {
			c.s.log.Error("close batch", "err", err)
		}
		return
	}
	f.batch.Reset()
	*f = flight{batch: f.batch, room: f.room, events: f.events[:0]}
	select {
	case c.spare <- f:
	default:
	}
}

// merge fills the flight's batch.
func (c *committer) merge(f *flight, reqs []*request, ordinal uint64) {
	size := 4 << 10
	for _, r := range reqs {
		size += r.size()
	}
	if size > f.room { // rather a new buffer than one that is copied as it grows
		if f.batch != nil {
			must(f.batch.Close())
		}
		f.room = size + size/4
		f.batch = c.s.db.NewBatchWithSize(f.room)
	}
	c.trimShared()
	clear(c.jobs)
	kept := reqs[:0:len(reqs)]
	var later []*request
	for _, r := range reqs {
		if !c.claim(r, ordinal) {
			later = append(later, r)
			continue
		}
		kept = append(kept, r)
		if r.err = c.add(f.batch, r); r.err != nil {
			continue
		}
		f.events = append(f.events, r.events...)
		for i := range r.jobs {
			j := &r.jobs[i]
			name := r.names[j.from:j.to]
			sum := c.jobs[string(name)]
			sum.add(&j.counts)
			c.jobs[string(name)] = sum
		}
	}
	f.reqs = kept
	c.giveBack(later)
	c.addOutbox(f)
	c.addJobs(f.batch)
}

// claim hides the deliveries and the idempotency key of r until they are
// durable. It fails when this same batch already holds a change of one of
// them: what the second change finds must be what the first one left, and
// reads do not see into the batch.
func (c *committer) claim(r *request, ordinal uint64) bool {
	p := &c.s.pending
	p.Lock()
	defer p.Unlock()
	switch r.kind {
	case kindMove:
		if p.deliveries[r.id] == ordinal {
			return false
		}
	case kindWrite: // of a transfer
		for _, id := range r.ids {
			if p.deliveries[id] == ordinal {
				return false
			}
		}
	}
	if r.idem != nil {
		c.key = appendPairKey(c.key[:0], kindIdempotency, r.idem.Tenant, r.idem.Key)
		if p.keys[string(c.key)] == ordinal {
			return false
		}
		p.keys[string(c.key)] = ordinal
	}
	for _, id := range r.ids {
		p.deliveries[id] = ordinal
	}
	return true
}

// add puts one request into the batch.
func (c *committer) add(b *pebble.Batch, r *request) error {
	switch r.kind {
	case kindAppend:
		if r.idem != nil {
			if err := c.addIdempotency(b, r.idem); err != nil {
				return err
			}
		}
		must(b.Apply(r.frag, nil))
	case kindMove:
		if err := c.applyMove(b, r); err != nil {
			return err
		}
	case kindReceive:
		return c.addParcel(b, r)
	case kindWrite:
		return r.write(b)
	}
	for _, sc := range r.shared {
		c.shared[sc.id] = sc.n
	}
	return nil
}

// settle is the second stage.
func (c *committer) settle() {
	var ordinal uint64
	for f := range c.flights {
		ordinal++
		if f.err == nil && !f.batch.Empty() && !c.s.opt.UnsafeNoSync {
			if f.err = f.batch.SyncWait(); f.err != nil {
				c.s.fail(fmt.Errorf("sync write-ahead log: %w", f.err))
			}
		}
		// Pebble may have called Fatalf and gone on: the latch decides.
		if err := c.s.Failed(); err != nil {
			f.err = err
		}
		<-c.slots
		c.answer(f, ordinal)
	}
}

// answer tells everybody in the flight: those who wait first, then who has moved
// deliveries, then who takes the events; barriers last, for whom all of that must
// have happened.
func (c *committer) answer(f *flight, ordinal uint64) {
	s := c.s
	if f.err == nil {
		s.stats.commits.Add(1)
		s.stats.committed.Add(uint64(len(f.reqs)))
		s.stats.syncs.observe(time.Since(f.applied))
		s.counts.apply(f.reqs)
	}
	s.reveal(f, ordinal)
	for i, r := range f.reqs {
		if r.kind != kindMove && r.kind != kindBarrier {
			f.reqs[i] = nil // it is the waiter's now, or nobody's
			r.ack <- r.verdict(f.err)
		}
	}
	for i, r := range f.reqs {
		if r != nil && r.kind == kindMove {
			f.reqs[i] = nil
			r.done(r.verdict(f.err))
			r.recycle()
		}
	}
	if f.err == nil {
		s.outbox.deliver(f.seq, f.events)
	}
	for _, r := range f.reqs {
		if r != nil {
			r.ack <- r.verdict(f.err)
		}
	}
	if f.err == nil {
		c.reuse(f)
	}
}

func (r *request) verdict(err error) error {
	if err != nil {
		return err
	}
	return r.err
}

// reveal ends the hiding of what the flight made durable, unless a later
// flight changes it again. After a failure all stays hidden.
func (s *Store) reveal(f *flight, ordinal uint64) {
	if f.err != nil {
		return
	}
	p := &s.pending
	p.Lock()
	defer p.Unlock()
	var key []byte
	for _, r := range f.reqs {
		for _, id := range r.ids {
			if p.deliveries[id] == ordinal {
				delete(p.deliveries, id)
			}
		}
		if r.idem != nil {
			key = appendPairKey(key[:0], kindIdempotency, r.idem.Tenant, r.idem.Key)
			if p.keys[string(key)] == ordinal {
				delete(p.keys, string(key))
			}
		}
	}
}

// addOutbox adds one record with the events of the whole batch.
func (c *committer) addOutbox(f *flight) {
	if len(f.events) == 0 {
		return
	}
	c.seq++
	f.seq = c.seq
	c.key = appendOutboxKey(c.key[:0], f.seq)
	c.value = append(append(c.value[:0], recordVersion), f.events...)
	c.value = seal(c.value, 0, c.key)
	must(f.batch.Set(c.key, c.value, nil))
	if cap(c.value) > maxBatchBytes {
		c.value = nil
	}
}
