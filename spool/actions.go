package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"hikyaku/spool/message"
)

// maxActions bounds the actions in force: the scheduler asks them all.
const maxActions = 10_000

// Action is an order over a scope that stays in force until it is taken back
// or expires, through restarts: a hold, a cancel.
type Action struct {
	ID      string        `json:"id"` // chosen by the caller, unique, 1 to 128 bytes
	Kind    string        `json:"kind"`
	Scope   message.Scope `json:"scope"`
	Message string        `json:"message,omitempty"` // id of a message or delivery, in place of the scope
	Reason  string        `json:"reason,omitempty"`
	Author  string        `json:"author,omitempty"`
	Created time.Time     `json:"created"`
	Expires time.Time     `json:"expires,omitzero"` // zero: never
}

// Actions lists those in force, in the order of their ids.
func (s *Store) Actions() ([]Action, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	now := s.now()
	var as []Action
	err := s.eachAction(func(_ []byte, a Action) {
		if a.Expires.IsZero() || a.Expires.After(now) {
			as = append(as, a)
		}
	})
	return as, err
}

func (s *Store) eachAction(fn func(key []byte, a Action)) error {
	return s.eachActionOf(kindAction, fn)
}

// PutAction stores or replaces an action and returns when it is durable. The
// events, if any, go into the outbox in the same batch.
func (s *Store) PutAction(ctx context.Context, a Action, events ...byte) error {
	if len(a.ID) == 0 || len(a.ID) > 128 {
		return fmt.Errorf("%w: action id of %d bytes", ErrInvalid, len(a.ID))
	}
	return s.writeEvents(ctx, events, func(b *pebble.Batch) error {
		key := append([]byte{kindAction}, a.ID...)
		n := 0
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindAction}, UpperBound: []byte{kindAction + 1}})
		if err != nil {
			return fmt.Errorf("count actions: %w", err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			n++
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return fmt.Errorf("count actions: %w", err)
		}
		if n >= maxActions {
			return fmt.Errorf("%w: there are %d actions, which is the limit", ErrInvalid, n)
		}
		v, err := encodeJSON(key, &a)
		if err != nil {
			return err
		}
		return b.Set(key, v, nil)
	})
}

// DeleteAction takes an action back. Deleting one that is not there is
// harmless. The events, if any, go into the outbox in the same batch.
func (s *Store) DeleteAction(ctx context.Context, id string, events ...byte) error {
	return s.writeEvents(ctx, events, func(b *pebble.Batch) error {
		return b.Delete(append([]byte{kindAction}, id...), nil)
	})
}

// Record makes events durable that belong to no transition: what came back later.
func (s *Store) Record(ctx context.Context, events []byte) error {
	return s.writeEvents(ctx, events, func(*pebble.Batch) error { return nil })
}

// RecordOnce is Record under a key, written in the same batch: as long as that
// holds, whoever comes with it again is told ErrDuplicate, and what was recorded
// then is durable.
func (s *Store) RecordOnce(ctx context.Context, events []byte, k *Idempotency) error {
	if err := checkName(k.Tenant, k.Key); err != nil {
		return err
	}
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	r := s.newRequest(kindWrite, 0)
	r.idem = k
	r.write = func(b *pebble.Batch) error { return s.commits.addIdempotency(b, k) }
	r.events = append(r.events, events...)
	return s.await(ctx, r)
}

// writeEvents is write with events for the outbox.
func (s *Store) writeEvents(ctx context.Context, events []byte, fn func(b *pebble.Batch) error) error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	r := s.newRequest(kindWrite, 0)
	r.write = fn
	r.events = append(r.events, events...)
	return s.await(ctx, r)
}

// Barrier returns when every change that was handed in before is durable, so
// that listings hide none of them, and its events have been handed on.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.enterWrite(); err != nil {
		return err
	}
	defer s.leave()
	return s.barrier(ctx)
}

// expireActions removes those that are no longer in force.
func (s *Store) expireActions(now time.Time) error {
	var dead [][]byte
	err := s.eachAction(func(key []byte, a Action) {
		if !a.Expires.IsZero() && !a.Expires.After(now) {
			dead = append(dead, key)
		}
	})
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
