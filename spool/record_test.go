package spool_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/spool"
)

// TestRecordOnce: events under one key are in the outbox once, however many come
// with it at the same time, and after a restart; until the key's time is over.
func TestRecordOnce(t *testing.T) {
	ctx := context.Background()
	clock, fs := newClock(), vfs.NewMem()
	s := open(t, memOptions(fs, clock))
	line := []byte("{\"type\":\"complained\"}\n")
	k := &spool.Idempotency{Tenant: ".feedback", Key: "k1", Expires: epoch.Add(24 * time.Hour)}
	record := func() int {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = s.RecordOnce(ctx, line, k) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, spool.ErrDuplicate) {
				t.Error(err)
			}
		}
		return won
	}
	recorded := func() (n int) {
		err := s.Outbox(0, func(_ uint64, lines []byte) error {
			n += bytes.Count(lines, line)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if won, n := record(), recorded(); won != 1 || n != 1 {
		t.Errorf("%d won, %d recorded", won, n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, memOptions(fs, clock))
	if won, n := record(), recorded(); won != 0 || n != 1 {
		t.Errorf("after a restart: %d won, %d recorded", won, n)
	}
	k = &spool.Idempotency{Tenant: k.Tenant, Key: k.Key, Expires: epoch.Add(96 * time.Hour)}
	clock.advance(48 * time.Hour)
	if won, n := record(), recorded(); won != 1 || n != 2 {
		t.Errorf("after its time: %d won, %d recorded", won, n)
	}
	if err := s.RecordOnce(ctx, line, &spool.Idempotency{Tenant: ".feedback"}); !errors.Is(err, spool.ErrInvalid) {
		t.Errorf("without a key: %v", err)
	}
}
