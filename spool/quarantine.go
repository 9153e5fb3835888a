package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Nothing unreadable is deleted (design.md 5.11). A record that does not pass
// its checks is moved, as it is, under 'z' and its old key: out of the way of
// the rest, there to be looked at, exported and put back.

// Quarantined is one record in quarantine.
type Quarantined struct {
	Key    []byte    `json:"key"` // where it was
	Value  []byte    `json:"value"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

func quarantineKey(key []byte) []byte { return append([]byte{kindQuarantine}, key...) }

// quarantineInto moves a record within a batch of the builder.
func (s *Store) quarantineInto(b *pebble.Batch, key, value []byte, reason error) {
	v := appendTime(nil, s.now())
	v = appendText(v, reason.Error())
	v = append(v, value...)
	must(b.Delete(key, nil))
	must(b.Set(quarantineKey(key), v, nil))
	s.stats.quarantined.Add(1)
	s.log.Error("unreadable record moved to quarantine", "key", fmt.Sprintf("%q", key), "bytes", len(value), "err", reason)
}

// quarantine moves a record that a reader could not decode and waits until
// that is durable. If the record is no longer what the reader saw, it stays.
func (s *Store) quarantine(key, value []byte, reason error) {
	if reason == nil {
		reason = errDamaged
	}
	if s.opt.ReadOnly {
		s.stats.unreadable.Add(1)
		return
	}
	key, value = bytes.Clone(key), bytes.Clone(value)
	err := s.write(context.Background(), func(b *pebble.Batch) error {
		now, err := s.get(key)
		if err != nil || !bytes.Equal(now, value) {
			return err
		}
		s.quarantineInto(b, key, value, reason)
		return nil
	})
	if err != nil {
		s.log.Error("move unreadable record to quarantine", "key", fmt.Sprintf("%q", key), "err", err)
	}
}

func (s *Store) loadQuarantineCount() error {
	return s.eachQuarantined(func(Quarantined) error {
		s.stats.quarantined.Add(1)
		return nil
	})
}

// Quarantine gives fn every record in quarantine, in the order of their keys.
func (s *Store) Quarantine(fn func(Quarantined) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.eachQuarantined(fn)
}

func (s *Store) eachQuarantined(fn func(Quarantined) error) error {
	prefix := []byte{kindQuarantine}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return fmt.Errorf("read quarantine: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		f := fields{b: it.Value()}
		q := Quarantined{Key: bytes.Clone(it.Key()[1:]), At: f.time(), Reason: f.str()}
		q.Value = bytes.Clone(f.rest())
		err = fn(q)
	}
	return errors.Join(err, it.Error(), it.Close())
}

// inQuarantine reports whether the record of key is there.
func (s *Store) inQuarantine(key []byte) (bool, error) {
	if s.stats.quarantined.Load() == 0 {
		return false, nil
	}
	v, err := s.get(quarantineKey(key))
	return v != nil, err
}

// Restore puts a record from quarantine back under its key, as it is, or with
// another value if value is not nil. It refuses if the key is taken.
func (s *Store) Restore(ctx context.Context, key, value []byte) error {
	return s.write(ctx, func(b *pebble.Batch) error {
		z := quarantineKey(key)
		v, err := s.get(z)
		if err != nil {
			return err
		}
		if v == nil {
			return fmt.Errorf("restore %q: %w in quarantine", key, ErrNotFound)
		}
		if old, err := s.get(key); err != nil || old != nil {
			return errors.Join(err, fmt.Errorf("restore %q: %w: there is a record under its key", key, ErrInvalid))
		}
		if value == nil {
			f := fields{b: v}
			f.time()
			f.str()
			value = f.rest()
		}
		must(b.Set(key, value, nil))
		must(b.Delete(z, nil))
		s.stats.quarantined.Add(-1)
		return nil
	})
}
