package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// An order to cancel or expire a scope is through when nothing of the scope is
// left here. But some may be on its way from another node that has not heard of
// the order yet. So it is remembered, and what comes later is held against it.

const (
	// PastOrders bounds the orders that are remembered; the oldest go first.
	PastOrders = 10_000
	// PastRetention is how long they are: until then each node has heard of the
	// order itself, or is not part of the cluster any more.
	PastRetention = 7 * 24 * time.Hour
)

// RetireAction takes an action out of force and remembers it.
func (s *Store) RetireAction(ctx context.Context, a Action, events ...byte) error {
	a.Expires = s.now().Add(PastRetention)
	key := append([]byte{kindPast}, a.ID...)
	v, err := encodeJSON(key, &a)
	if err != nil {
		return err
	}
	return s.writeEvents(ctx, events, func(b *pebble.Batch) error {
		must(b.Delete(append([]byte{kindAction}, a.ID...), nil))
		return b.Set(key, v, nil)
	})
}

// PastActions lists the orders that are remembered, in the order of their ids.
func (s *Store) PastActions() ([]Action, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	now := s.now()
	var as []Action
	err := s.eachActionOf(kindPast, func(_ []byte, a Action) {
		if a.Expires.After(now) {
			as = append(as, a)
		}
	})
	return as, err
}

// expirePast forgets what is over, and what is too much.
func (s *Store) expirePast(now time.Time) error {
	var dead, live [][]byte
	err := s.eachActionOf(kindPast, func(key []byte, a Action) {
		if a.Expires.After(now) {
			live = append(live, key)
		} else {
			dead = append(dead, key)
		}
	})
	if n := len(live) - PastOrders; n > 0 {
		dead = append(dead, live[:n]...) // ids are in the order of time
	}
	if err != nil || len(dead) == 0 {
		return err
	}
	return s.housekeepingWrite(func(b *pebble.Batch) error {
		for _, key := range dead {
			must(b.Delete(key, nil))
		}
		return nil
	})
}

// eachActionOf gives fn the actions of one kind of key.
func (s *Store) eachActionOf(kind byte, fn func(key []byte, a Action)) error {
	prefix := []byte{kind}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return fmt.Errorf("read actions: %w", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		key := append([]byte(nil), it.Key()...)
		var a Action
		if err := decodeJSON(key, it.Value(), &a); err != nil {
			s.quarantine(key, it.Value(), err)
			continue
		}
		fn(key, a)
	}
	return errors.Join(it.Error(), it.Close())
}
