package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// End states lie in buckets of the time in which they came about, so that all
// of a bucket is forgotten by one range deletion, and so that a look-up asks
// few buckets. They are apart from the index of queued deliveries because that
// must never expire: a message scheduled for next week is queued until then.
const bucketSpan = 10 * time.Minute

func bucketOf(t time.Time) uint32 { return uint32(max(0, t.Unix()) / int64(bucketSpan/time.Second)) }

func appendBucket(b []byte, bucket uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kindFinal), bucket)
}

// appendFinalKey names what one transition ended. How many recipients the
// delivery had before it tells the transitions of one delivery apart, in their
// order: each that ends somebody leaves fewer. Due times do not: an operator
// can move them back and forth.
func appendFinalKey(b []byte, bucket uint32, id message.DeliveryID, recipients int) []byte {
	return binary.BigEndian.AppendUint32(appendDeliveryID(appendBucket(b, bucket), id), math.MaxUint32-uint32(recipients))
}

const finalKeyLen = 1 + 4 + deliveryIDLen + 4

// Status is where the recipients of one delivery stand. Queue is the one it is
// or was in.
type Status struct {
	ID     message.DeliveryID
	Queue  message.QueueKey
	Queued *message.Delivery // nil when nothing of it is queued
	Final  []Final           // recipients that ended, kept StatusRetention after that
	// Moving, when it is queued, is the node that it is offered to. Gone, when it
	// is not, says where it went, for StatusRetention after that.
	Moving *Peer
	Gone   *Gone
}

// Status finds one delivery. The error is ErrNotFound when it is unknown or
// ended more than StatusRetention ago. What it returns is durable.
func (s *Store) Status(id message.DeliveryID) (Status, error) {
	if err := s.enter(); err != nil {
		return Status{}, err
	}
	defer s.leave()
	if s.pending.has(id) && !s.opt.ReadOnly {
		if err := s.barrier(context.Background()); err != nil {
			return Status{}, err
		}
	}
	sts, _, err := s.statuses(id.Message, id.Index, 1)
	if err == nil && (len(sts) == 0 || sts[0].ID != id) {
		err = ErrNotFound
	}
	if err != nil {
		return Status{}, fmt.Errorf("status of %s: %w", id, err)
	}
	return sts[0], nil
}

// MessageStatus finds the deliveries of a message in the order of their
// numbers, starting with from, at most limit.
func (s *Store) MessageStatus(id message.ID, from uint16, limit int) (sts []Status, more bool, err error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.leave()
	if s.pending.hasMessage(id) && !s.opt.ReadOnly {
		if err := s.barrier(context.Background()); err != nil {
			return nil, false, err
		}
	}
	if sts, more, err = s.statuses(id, from, max(1, limit)); err != nil {
		return nil, false, fmt.Errorf("status of %s: %w", id, err)
	}
	return sts, more, nil
}

// statuses merges index and end states. Each source gives its first limit+1
// deliveries; the first limit of all are among them.
func (s *Store) statuses(id message.ID, from uint16, limit int) ([]Status, bool, error) {
	snap := s.db.NewSnapshot()
	defer func() { _ = snap.Close() }() // it only fails when closed before
	found := map[uint16]*Status{}
	at := func(i uint16) *Status {
		if found[i] == nil {
			found[i] = &Status{ID: message.DeliveryID{Message: id, Index: i}}
		}
		return found[i]
	}
	bad, err := s.queuedStatuses(snap, id, from, limit+1, at)
	if err == nil {
		var badFinals []badRecord
		badFinals, err = s.finalStatuses(snap, id, from, limit+1, at)
		bad = append(bad, badFinals...)
	}
	if err == nil && s.format.Load() >= transferFormat {
		var badGone []badRecord
		badGone, err = s.goneStatuses(snap, id, from, limit+1, at)
		bad = append(bad, badGone...)
	}
	for _, b := range bad {
		s.quarantine(b.key, b.value, b.err)
	}
	if err != nil {
		return nil, false, err
	}
	sts := make([]Status, 0, len(found))
	for _, st := range found {
		if t, ok := s.transfers.moving(st.ID); ok && st.Queued != nil {
			st.Moving = &t.To
		}
		sts = append(sts, *st)
	}
	slices.SortFunc(sts, func(a, b Status) int { return int(a.ID.Index) - int(b.ID.Index) })
	if len(sts) > limit {
		return sts[:limit], true, nil
	}
	return sts, false, nil
}

func (s *Store) queuedStatuses(snap *pebble.Snapshot, id message.ID, from uint16, limit int, at func(uint16) *Status) (bad []badRecord, err error) {
	it, err := snap.NewIter(&pebble.IterOptions{
		LowerBound: appendIndexKey(nil, message.DeliveryID{Message: id, Index: from}),
		UpperBound: keyEnd(appendIDKey(nil, kindIndex, id)),
	})
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	for ok := it.First(); ok && limit > 0; ok = it.Next() {
		if len(it.Key()) != 1+deliveryIDLen {
			continue
		}
		limit--
		did := deliveryIDOf(it.Key()[1:])
		p, derr := decodePointer(it.Key(), it.Value())
		if derr != nil {
			bad = append(bad, badRecord{slices.Clone(it.Key()), slices.Clone(it.Value()), derr})
			continue
		}
		d, b, err := readQueued(snap, appendDeliveryID(slices.Clone(p.place), did))
		if err != nil {
			return bad, errors.Join(err, it.Close())
		}
		bad = append(bad, b...)
		st := at(did.Index)
		if st.Queued = d; d != nil {
			st.Queue = d.Queue
		} else if len(p.place) > dueLen {
			// In quarantine: it is still queued, but not to be had.
			st.Queue, _ = parseQueuePrefix(p.place[:len(p.place)-dueLen])
		}
	}
	return bad, errors.Join(it.Error(), it.Close())
}

// readQueued reads the queue record under key; nil when it is not there or bad.
func readQueued(r pebble.Reader, key []byte) (*message.Delivery, []badRecord, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read spool: %w", err)
	}
	d, derr := decodeQueued(key, v)
	var bad []badRecord
	if derr != nil {
		d, bad = nil, []badRecord{{key, slices.Clone(v), derr}}
	}
	return d, bad, closer.Close()
}

// decodeQueued reads a queue record with all that its key says.
func decodeQueued(key, value []byte) (*message.Delivery, error) {
	prefix, due, id, ok := queueTail(key)
	if !ok {
		return nil, fmt.Errorf("%w: key", errDamaged)
	}
	q, ok := parseQueuePrefix(prefix)
	if !ok {
		return nil, fmt.Errorf("%w: key", errDamaged)
	}
	return decodeDelivery(key, value, q, due, id)
}

func (s *Store) finalStatuses(snap *pebble.Snapshot, id message.ID, from uint16, limit int, at func(uint16) *Status) (bad []badRecord, err error) {
	now := s.now()
	first := bucketOf(now.Add(-s.opt.StatusRetention))
	if b := bucketOf(id.Time().Add(-bucketSpan)); b > first {
		first = b // not before the message; one more for clocks that were set back
	}
	last := bucketOf(now) + 1
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: appendBucket(nil, first), UpperBound: appendBucket(nil, last+1)})
	if err != nil {
		return nil, fmt.Errorf("read end states: %w", err)
	}
	for b := first; b <= last; b++ {
		start := appendDeliveryID(appendBucket(nil, b), message.DeliveryID{Message: id, Index: from})
		end := keyEnd(append(appendBucket(nil, b), id[:]...))
		seen, lastIndex := 0, -1
		for ok := it.SeekGE(start); ok && string(it.Key()) < string(end); ok = it.Next() {
			if len(it.Key()) != finalKeyLen {
				continue
			}
			index := deliveryIDOf(it.Key()[5:]).Index
			if int(index) != lastIndex {
				if seen++; seen > limit {
					break
				}
				lastIndex = int(index)
			}
			q, fs, derr := decodeFinals(it.Key(), it.Value())
			if derr != nil {
				bad = append(bad, badRecord{slices.Clone(it.Key()), slices.Clone(it.Value()), derr})
				continue
			}
			st := at(index)
			st.Queue = q
			st.Final = append(st.Final, fs...)
		}
	}
	return bad, errors.Join(it.Error(), it.Close())
}

// expireFinals forgets end states older than the retention, whole buckets at a
// time.
func (s *Store) expireFinals(now time.Time) error {
	end := appendBucket(nil, bucketOf(now.Add(-s.opt.StatusRetention)))
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindFinal}, UpperBound: end})
	if err != nil {
		return fmt.Errorf("expire end states: %w", err)
	}
	var first []byte
	if it.First() {
		first = slices.Clone(it.Key())
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil || first == nil {
		return err
	}
	return s.housekeepingWrite(func(b *pebble.Batch) error { return b.DeleteRange(first, end, nil) })
}
