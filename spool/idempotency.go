package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

func appendIdempotency(b, key []byte, k *Idempotency) []byte {
	start := len(b)
	b = append(append(b, recordVersion), k.BodyHash[:]...)
	b = appendTime(b, k.Expires)
	b = append(b, k.Answer...)
	return seal(b, start, key)
}

func decodeIdempotency(key, value []byte) (*Idempotency, error) {
	f, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	k := &Idempotency{}
	tenant, name, ok := parsePair(key)
	if !ok || len(f.b) < len(k.BodyHash) {
		return nil, fmt.Errorf("%w: idempotency record of %d bytes", errDamaged, len(f.b))
	}
	k.Tenant, k.Key = tenant, name
	f.off = copy(k.BodyHash[:], f.b)
	k.Expires = f.time()
	k.Answer = append([]byte(nil), f.rest()...)
	return k, f.done()
}

// Idempotency finds the stored answer to a request. What it returns is
// durable: if the record is just being written, it waits for the sync.
func (s *Store) Idempotency(tenant, key string) (*Idempotency, bool, error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.leave()
	if err := checkName(tenant, key); err != nil {
		return nil, false, err
	}
	k := appendPairKey(nil, kindIdempotency, tenant, key)
	v, err := s.get(k)
	if v == nil || err != nil {
		return nil, false, err
	}
	if s.pending.hasKey(k) {
		if err := s.barrier(context.Background()); err != nil {
			return nil, false, err
		}
	}
	rec, err := decodeIdempotency(k, v)
	if err != nil {
		s.quarantine(k, v, err)
		return nil, false, nil
	}
	return rec, rec.Expires.After(s.now()), nil
}

// addIdempotency stores k unless a live record has its key.
func (c *committer) addIdempotency(b *pebble.Batch, k *Idempotency) error {
	c.key = appendPairKey(c.key[:0], kindIdempotency, k.Tenant, k.Key)
	v, closer, err := c.s.db.Get(c.key)
	switch {
	case err == nil:
		old, derr := decodeIdempotency(c.key, v)
		if derr != nil {
			c.s.quarantineInto(b, c.key, v, derr)
		}
		if err := closer.Close(); err != nil {
			return fmt.Errorf("read idempotency key: %w", err)
		}
		if derr == nil && old.Expires.After(c.s.now()) {
			return ErrDuplicate
		}
	case !errors.Is(err, pebble.ErrNotFound):
		return fmt.Errorf("read idempotency key: %w", err)
	}
	must(b.Set(c.key, appendIdempotency(nil, c.key, k), nil))
	must(b.Set(idemExpiryKey(k.Expires, c.key), nil, nil))
	return nil
}

// idemExpiryKey orders idempotency keys by the hour after which they are dead.
func idemExpiryKey(expires time.Time, key []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kindIdemExpiry}, hourOf(expires)+1)
	return append(b, key[1:]...)
}

func hourOf(t time.Time) uint32 { return uint32(max(0, t.Unix()) / 3600) }

// expireIdempotency removes dead keys, some thousands at a time. A key that was
// used again meanwhile has a later entry and stays.
func (s *Store) expireIdempotency(now time.Time) error {
	end := binary.BigEndian.AppendUint32([]byte{kindIdemExpiry}, hourOf(now)+1)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindIdemExpiry}, UpperBound: end})
	if err != nil {
		return fmt.Errorf("expire idempotency keys: %w", err)
	}
	var dead [][]byte
	for ok := it.First(); ok && len(dead) < 10_000; ok = it.Next() {
		dead = append(dead, append([]byte(nil), it.Key()...))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil || len(dead) == 0 {
		return err
	}
	return s.housekeepingWrite(func(b *pebble.Batch) error {
		for _, entry := range dead {
			key := append([]byte{kindIdempotency}, entry[5:]...)
			v, err := s.get(key)
			if err != nil {
				return err
			}
			must(b.Delete(entry, nil))
			if v == nil {
				continue
			}
			rec, err := decodeIdempotency(key, v)
			if err != nil {
				s.quarantineInto(b, key, v, err)
			} else if !rec.Expires.After(now) {
				must(b.Delete(key, nil))
			}
		}
		return nil
	})
}
