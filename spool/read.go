package spool

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// Cursor is a place in a queue: that of the delivery it names.
type Cursor struct {
	Due time.Time
	ID  message.DeliveryID
}

// after is the first key of the queue behind the cursor; a zero cursor is the
// start. prefix must have room or is copied.
func (c *Cursor) after(prefix []byte) []byte {
	if *c == (Cursor{}) {
		return prefix
	}
	b := appendDeliveryID(appendDue(bytes.Clone(prefix), c.Due), c.ID)
	return append(b, 0)
}

// Page reads deliveries of a queue in order of due time, strictly behind the
// cursor, due at until or before, at most limit. more says that the queue goes
// on behind them, with whatever due time. Deliveries whose last change is not
// yet synced are not shown: whoever commits that change hears of it. Nor are
// those that are offered to another node.
func (s *Store) Page(q message.QueueKey, after Cursor, until time.Time, limit int) (ds []*message.Delivery, more bool, err error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.leave()
	prefix := appendQueuePrefix(nil, &q)
	w, err := s.walk(after.after(prefix), keyEnd(prefix))
	if err != nil {
		return nil, false, fmt.Errorf("page queue: %w", err)
	}
	for w.next() {
		if w.due.After(until) || len(ds) == limit {
			more = true
			break
		}
		if d := w.delivery(q); d != nil {
			ds = append(ds, d)
		}
	}
	return ds, more, w.close()
}

// NextDue is the due time of the first delivery of a queue behind the cursor.
func (s *Store) NextDue(q message.QueueKey, after Cursor) (time.Time, bool, error) {
	if err := s.enter(); err != nil {
		return time.Time{}, false, err
	}
	defer s.leave()
	prefix := appendQueuePrefix(nil, &q)
	w, err := s.walk(after.after(prefix), keyEnd(prefix))
	if err != nil {
		return time.Time{}, false, fmt.Errorf("next due: %w", err)
	}
	found := w.next()
	due := w.due
	return due, found, w.close()
}

// Queues gives fn every queue that is not empty, with the due time of its
// first delivery, in the order of keys. It seeks from queue to queue and never
// reads what lies between.
func (s *Store) Queues(ctx context.Context, fn func(q message.QueueKey, firstDue time.Time) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	prefix := []byte{kindQueue}
	w, err := s.walk(prefix, keyEnd(prefix))
	if err != nil {
		return fmt.Errorf("list queues: %w", err)
	}
	for err == nil && w.next() {
		if q, ok := parseQueuePrefix(w.prefix); ok {
			err = fn(q, w.due)
		}
		if err == nil {
			err = ctx.Err()
		}
		w.skipQueue()
	}
	return errors.Join(err, w.close())
}

// Position is a place in a listing, opaque, safe in a URL. "" is the start.
type Position string

// Destination lists the deliveries of one destination over all its queues,
// behind the position. next is "" at the end.
func (s *Store) Destination(ctx context.Context, dest string, after Position, limit int) (ds []*message.Delivery, next Position, err error) {
	return s.List(ctx, message.Scope{Destination: dest}, after, limit)
}

// List lists the deliveries in a scope (its carrier and source are not known
// here and ignored), queue by queue, behind the position, also those that are
// offered to another node (Moving). Queues outside the scope cost one seek each.
// next is "" at the end; a page can be short, even empty, before the end.
func (s *Store) List(ctx context.Context, scope message.Scope, after Position, limit int) (ds []*message.Delivery, next Position, err error) {
	if err := s.enter(); err != nil {
		return nil, "", err
	}
	defer s.leave()
	lower := []byte{kindQueue}
	if scope.Destination != "" {
		lower = appendName(lower, scope.Destination)
	}
	upper := keyEnd(lower)
	if after != "" {
		key, err := base64.RawURLEncoding.DecodeString(string(after))
		if err != nil || bytes.Compare(key, lower) < 0 || bytes.Compare(key, upper) >= 0 {
			return nil, "", fmt.Errorf("%w: position %q", ErrInvalid, after)
		}
		lower = append(key, 0)
	}
	w, err := s.walk(lower, upper)
	if err != nil {
		return nil, "", fmt.Errorf("list deliveries: %w", err)
	}
	w.offered = true
	var at []byte // the queue that q names
	var q message.QueueKey
	inScope := false
	for w.next() && ctx.Err() == nil {
		if !bytes.Equal(at, w.prefix) {
			var ok bool
			at = append(at[:0], w.prefix...)
			q, ok = parseQueuePrefix(at)
			inScope = ok && scope.MatchesQueue(&q)
		}
		if !inScope {
			w.skipQueue()
			continue
		}
		if d := w.delivery(q); d != nil {
			ds = append(ds, d)
		}
		if len(ds) >= limit {
			next = Position(base64.RawURLEncoding.EncodeToString(w.it.Key()))
			break
		}
	}
	return ds, next, errors.Join(ctx.Err(), w.close())
}

// walk goes over queue records.
type walk struct {
	s       *Store
	it      *pebble.Iterator
	started bool
	seek    []byte // where next goes on, if set
	bad     []badRecord
	offered bool // shows what is offered to another node, too

	prefix []byte // of the record it stands on; until the next call
	due    time.Time
	id     message.DeliveryID
}

type badRecord struct {
	key, value []byte
	err        error
}

func (s *Store) walk(lower, upper []byte) (*walk, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	return &walk{s: s, it: it}, err
}

// next goes to the next record that may be shown.
func (w *walk) next() bool {
	for w.step() {
		var ok bool
		w.prefix, w.due, w.id, ok = queueTail(w.it.Key())
		if !ok {
			w.note(errDamaged)
			continue
		}
		if !w.s.pending.has(w.id) && (w.offered || !w.s.transfers.hides(w.id)) {
			return true
		}
	}
	return false
}

func (w *walk) step() bool {
	switch {
	case w.seek != nil:
		k := w.seek
		w.seek = nil
		return w.it.SeekGE(k)
	case !w.started:
		w.started = true
		return w.it.First()
	}
	return w.it.Next()
}

// skipQueue makes next go on behind the present queue.
func (w *walk) skipQueue() { w.seek = keyEnd(w.prefix) }

// delivery decodes the record it stands on; nil when it is unreadable.
func (w *walk) delivery(q message.QueueKey) *message.Delivery {
	d, err := decodeDelivery(w.it.Key(), w.it.Value(), q, w.due, w.id)
	if err != nil {
		w.note(err)
		return nil
	}
	return d
}

func (w *walk) note(err error) {
	if len(w.bad) < 100 { // the rest will be met again
		w.bad = append(w.bad, badRecord{bytes.Clone(w.it.Key()), bytes.Clone(w.it.Value()), err})
	}
}

// close ends the walk and moves what was unreadable on it.
func (w *walk) close() error {
	err := errors.Join(w.it.Error(), w.it.Close())
	for _, b := range w.bad {
		w.s.quarantine(b.key, b.value, b.err)
	}
	if err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	return nil
}

// MessageMeta reads a message without its content.
func (s *Store) MessageMeta(id message.ID) (*message.Message, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	var m *message.Message
	err := s.read(appendIDKey(nil, kindMeta, id), func(key, value []byte) (err error) {
		m, err = decodeMeta(key, value, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", id, err)
	}
	return m, nil
}

// Message reads a message with its content.
func (s *Store) Message(id message.ID) (*message.Message, error) {
	m, err := s.MessageMeta(id)
	if err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	err = s.read(appendIDKey(nil, kindContent, id), func(key, value []byte) error {
		return decodeContent(key, value, m)
	})
	if err != nil {
		return nil, fmt.Errorf("content of message %s: %w", id, err)
	}
	return m, nil
}

// read decodes one record. The error is ErrNotFound, ErrUnreadable, or of the
// disk.
func (s *Store) read(key []byte, decode func(key, value []byte) error) error {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		if in, err := s.inQuarantine(key); err != nil {
			return err
		} else if in {
			return ErrUnreadable
		}
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	bad := decode(key, v)
	var value []byte
	if bad != nil {
		value = bytes.Clone(v)
	}
	if err := closer.Close(); err != nil {
		return fmt.Errorf("read spool: %w", err)
	}
	if bad != nil {
		s.quarantine(key, value, bad)
		return fmt.Errorf("%w: %w", ErrUnreadable, bad)
	}
	return nil
}
