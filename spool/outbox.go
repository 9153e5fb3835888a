package spool

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// outbox is the way of events from the spool into the event log. A record
// holds the events of one batch, under a sequence number, in that same batch.
// After the sync it is handed on in memory; the log acknowledges what it has
// made durable itself; what was not acknowledged is replayed after a restart.
// The log ignores numbers that it has, so it holds each transition once.
type outbox struct {
	durable atomic.Uint64 // last number that is synced
	acked   atomic.Uint64
	mu      struct {
		sync.Mutex
		fn func(seq uint64, events []byte)
	}
	ackMu sync.Mutex // one AckOutbox at a time
}

const outboxAcked = "outbox"

func (s *Store) loadOutbox() error {
	text, err := s.getState(outboxAcked)
	if err != nil {
		return err
	}
	acked, _ := strconv.ParseUint(text, 10, 64)
	last := acked
	prefix := []byte{kindOutbox}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	if it.Last() && len(it.Key()) == 9 {
		last = max(last, outboxSeq(it.Key()))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	s.outbox.acked.Store(acked)
	s.outbox.durable.Store(last)
	s.commits.seq = last
	return nil
}

// OnEvents sets who gets the events of each batch, in order, once they are
// durable. fn runs on the goroutine that acknowledges, so a slow one slows the
// spool; it must not keep events, nor call back into the store but for
// AckOutbox. Set it after replaying Outbox and before anything is committed.
func (s *Store) OnEvents(fn func(seq uint64, events []byte)) {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	s.outbox.mu.fn = fn
}

// deliver hands on the events of a synced batch.
func (o *outbox) deliver(seq uint64, events []byte) {
	if seq == 0 {
		return
	}
	o.durable.Store(seq)
	o.mu.Lock()
	fn := o.mu.fn
	o.mu.Unlock()
	if fn != nil {
		fn(seq, events)
	}
}

// Outbox gives fn all records after the number given that are not
// acknowledged, in order. fn must not keep events.
func (s *Store) Outbox(after uint64, fn func(seq uint64, events []byte) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: appendOutboxKey(nil, max(after, s.outbox.acked.Load())+1),
		UpperBound: appendOutboxKey(nil, s.outbox.durable.Load()+1),
	})
	if err != nil {
		return fmt.Errorf("read outbox: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		f, bad := unseal(it.Key(), it.Value())
		if bad != nil || len(it.Key()) != 9 {
			s.quarantine(it.Key(), it.Value(), bad)
			continue
		}
		err = fn(outboxSeq(it.Key()), f.rest())
	}
	return errors.Join(err, it.Error(), it.Close())
}

// AckOutbox forgets all records up to the number given: the event log has
// them on disk. It is not synced; after a crash some may be replayed.
func (s *Store) AckOutbox(upTo uint64) error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	o := &s.outbox
	o.ackMu.Lock()
	defer o.ackMu.Unlock()
	acked := o.acked.Load()
	upTo = min(upTo, o.durable.Load())
	if upTo <= acked {
		return nil
	}
	b := s.db.NewBatch()
	// Each number was written once, so SingleDelete, which leaves nothing
	// behind. After a long time without acknowledgement, one range.
	if upTo-acked <= 4096 {
		var key [9]byte
		for seq := acked + 1; seq <= upTo; seq++ {
			must(b.SingleDelete(appendOutboxKey(key[:0], seq), nil))
		}
	} else {
		must(b.DeleteRange(appendOutboxKey(nil, acked+1), appendOutboxKey(nil, upTo+1), nil))
	}
	setState(b, outboxAcked, strconv.FormatUint(upTo, 10))
	if err := s.db.Apply(b, pebble.NoSync); err != nil {
		return fmt.Errorf("acknowledge outbox: %w", err)
	}
	o.acked.Store(upTo)
	if err := s.Failed(); err != nil {
		return err
	}
	return b.Close()
}

func outboxSeq(key []byte) (seq uint64) {
	for _, c := range key[1:] {
		seq = seq<<8 | uint64(c)
	}
	return seq
}
