package spool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// tamper opens the database under a closed store.
func tamper(t testing.TB, fs vfs.FS, fn func(db *pebble.DB)) {
	t.Helper()
	db, err := pebble.Open("spool", &pebble.Options{FS: fs, Logger: quiet{}, Merger: &pebble.Merger{
		Name: "hikyaku.counters.v1",
		Merge: func(_, v []byte) (pebble.ValueMerger, error) {
			s := &operandSum{}
			return s, s.MergeNewer(v)
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	fn(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }

// operandSum is the format of the counters, told a second time: a version
// byte, five sums, the least and the greatest time.
type operandSum struct{ v [7]int64 }

func (s *operandSum) MergeNewer(b []byte) error {
	b = b[1:]
	for i := range s.v {
		n, size := binary.Varint(b)
		b = b[size:]
		switch {
		case i < 5:
			s.v[i] += n
		case i == 5 && (s.v[i] == 0 || n < s.v[i]), i == 6 && n > s.v[i]:
			s.v[i] = n
		}
	}
	return nil
}

func (s *operandSum) MergeOlder(b []byte) error { return s.MergeNewer(b) }

func (s *operandSum) Finish(bool) ([]byte, io.Closer, error) {
	b := []byte{1}
	for _, n := range s.v {
		b = binary.AppendVarint(b, n)
	}
	return b, nil, nil
}

// damage flips a bit in each record under the prefix and returns their keys.
func damage(t testing.TB, fs vfs.FS, prefix string, offset int) (keys [][]byte) {
	t.Helper()
	tamper(t, fs, func(db *pebble.DB) {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: []byte(prefix + "\xff")})
		if err != nil {
			t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			v := bytes.Clone(it.Value())
			v[(offset+len(v))%len(v)] ^= 1
			k := bytes.Clone(it.Key())
			keys = append(keys, k)
			// Delete first: the store's keys are written once.
			for _, err := range []error{db.Delete(k, nil), db.Set(k, v, pebble.Sync)} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if len(keys) == 0 {
		t.Fatalf("nothing under %q to damage", prefix)
	}
	return keys
}

func TestUnreadableDeliveryIsQuarantinedAndTheRestGoesOn(t *testing.T) {
	for offset := -1; offset < 3; offset++ { // sum, version, first fields
		clock, fs := newClock(), vfs.NewMem()
		s := open(t, memOptions(fs, clock))
		g := newMaker()
		bad, good := g.mail("a.example"), g.mail("b.example")
		mustAppend(t, s, bad)
		mustAppend(t, s, good)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		keys := damage(t, fs, "qa.example", offset)
		o := memOptions(fs, clock)
		o.Logger = testLogger(t)
		s = open(t, o)
		if ds := page(t, s, queue("a.example")); len(ds) != 0 {
			t.Errorf("offset %d: damaged delivery is shown: %+v", offset, ds[0])
		}
		if ds := page(t, s, queue("b.example")); len(ds) != 1 {
			t.Errorf("offset %d: the other queue has %d", offset, len(ds))
		}
		if n := s.Stats().Quarantined; n != 1 {
			t.Errorf("offset %d: %d in quarantine", offset, n)
		}
		if _, err := s.Message(bad.Message.ID); err != nil {
			t.Errorf("offset %d: the content went with the damaged delivery: %v", offset, err)
		}
		r := mustVerify(t, s)
		if r.Quarantined != 1 || r.Deliveries != 1 {
			t.Errorf("offset %d: %+v", offset, r)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, memOptions(fs, clock)) // known after a restart as well
		if n := s.Stats().Quarantined; n != 1 {
			t.Errorf("offset %d: %d in quarantine after restart", offset, n)
		}
		var q spool.Quarantined
		if err := s.Quarantine(func(x spool.Quarantined) error { q = x; return nil }); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(q.Key, keys[0]) || q.Reason == "" || !q.At.Equal(epoch) {
			t.Errorf("offset %d: %+v", offset, q)
		}
		mended := bytes.Clone(q.Value)
		mended[(offset+len(mended))%len(mended)] ^= 1
		if err := s.Restore(context.Background(), q.Key, mended); err != nil {
			t.Fatal(err)
		}
		ds := page(t, s, queue("a.example"))
		if len(ds) != 1 || ds[0].ID != bad.Deliveries[0].ID {
			t.Fatalf("offset %d: after mending: %v", offset, ds)
		}
		mustCommit(t, s, ended(ds[0], message.Delivered))
		if r := mustVerify(t, s); r.Messages != 1 || r.Quarantined != 0 {
			t.Errorf("offset %d: %+v", offset, r)
		}
		if err := s.Restore(context.Background(), q.Key, nil); !errors.Is(err, spool.ErrNotFound) {
			t.Errorf("restore of what is not there: %v", err)
		}
	}
}

func TestDamagedIndexDoesNotStopTheMail(t *testing.T) {
	for _, lost := range []bool{false, true} {
		clock, fs := newClock(), vfs.NewMem()
		s := open(t, memOptions(fs, clock))
		sub := newMaker().mail("a.example", "b.example")
		mustAppend(t, s, sub)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if lost {
			tamper(t, fs, func(db *pebble.DB) {
				if err := db.DeleteRange([]byte("i"), []byte("j"), pebble.Sync); err != nil {
					t.Fatal(err)
				}
			})
		} else {
			damage(t, fs, "i", 3)
		}
		s = open(t, memOptions(fs, clock))
		retry := later(sub.Deliveries[0], 1)
		mustCommit(t, s, retry)
		mustCommit(t, s, ended(retry.Next, message.Delivered))
		if err := commit(s, ended(retry.Next, message.Delivered)); !errors.Is(err, spool.ErrGone) {
			t.Errorf("lost=%v: %v", lost, err)
		}
		if _, err := s.Message(sub.Message.ID); !lost && err != nil {
			t.Errorf("content went while a delivery needs it: %v", err)
		}
		mustCommit(t, s, ended(sub.Deliveries[1], message.Delivered))
		if ds, _, err := s.List(context.Background(), message.Scope{}, "", 10); len(ds) != 0 || err != nil {
			t.Errorf("lost=%v: left: %v %v", lost, ds, err)
		}
	}
}

func TestUnreadableRecordsOfEveryKind(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		kind string
		read func(s *spool.Store, sub *spool.Submission) error
		want error
	}{
		{"m", func(s *spool.Store, sub *spool.Submission) error { _, err := s.MessageMeta(sub.Message.ID); return err }, spool.ErrUnreadable},
		{"b", func(s *spool.Store, sub *spool.Submission) error { _, err := s.Message(sub.Message.ID); return err }, spool.ErrUnreadable},
		{"i", func(s *spool.Store, sub *spool.Submission) error {
			_, err := s.Status(sub.Deliveries[0].ID)
			return err
		}, spool.ErrNotFound},
		{"k", func(s *spool.Store, _ *spool.Submission) error { _, _, err := s.Idempotency("acme", "k1"); return err }, nil},
		{"j", func(s *spool.Store, _ *spool.Submission) error { _, err := s.Job("acme", "j1"); return err }, nil},
		{"x", func(s *spool.Store, _ *spool.Submission) error { _, err := s.Actions(); return err }, nil},
		{"e", func(s *spool.Store, _ *spool.Submission) error {
			return s.Outbox(0, func(uint64, []byte) error { return errors.New("an unreadable record was replayed") })
		}, nil},
		{"f", func(s *spool.Store, _ *spool.Submission) error { return nil }, nil},
	} {
		t.Run(c.kind, func(t *testing.T) {
			clock, fs := newClock(), vfs.NewMem()
			s := open(t, memOptions(fs, clock))
			g := newMaker()
			sub, gone := g.mail("a.example"), g.mail("b.example")
			sub.Events = nil
			sub.Idempotency = &spool.Idempotency{Tenant: "acme", Key: "k1", Expires: far}
			mustAppend(t, s, sub)
			gone.Events = []byte("x\n")
			mustAppend(t, s, gone)
			end := ended(gone.Deliveries[0], message.Delivered)
			end.Events = nil
			mustCommit(t, s, end)
			if err := s.PutJob(ctx, "acme", "j1", spool.JobOrder{State: spool.JobPaused}); err != nil {
				t.Fatal(err)
			}
			if err := s.PutAction(ctx, spool.Action{ID: "a", Kind: "hold"}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, fs, c.kind, -1)
			ro := memOptions(fs, clock)
			ro.ReadOnly = true
			s = open(t, ro)
			if r, err := s.Verify(nil); err != nil || r.OK() {
				t.Errorf("verify does not see the damage: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, memOptions(fs, clock))
			for range 2 { // the second time it is in quarantine already
				if err := c.read(s, sub); !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("read: %v, want %v", err, c.want)
				}
			}
			if c.kind == "f" {
				if _, err := s.Status(gone.Deliveries[0].ID); !errors.Is(err, spool.ErrNotFound) {
					t.Error(err)
				}
			}
			if n := s.Stats().Quarantined; n != 1 {
				t.Errorf("%d in quarantine, want 1", n)
			}
			mustVerify(t, s)
		})
	}
}
