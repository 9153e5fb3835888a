package spool_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/controlplane/policy"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

func TestJobsAndActionsSurviveRestart(t *testing.T) {
	ctx := context.Background()
	clock, fs := newClock(), vfs.NewMem()
	s := open(t, memOptions(fs, clock))
	g := newMaker()
	if _, err := s.Job("acme", "j1"); !errors.Is(err, spool.ErrNotFound) {
		t.Errorf("unknown job: %v", err)
	}
	for i := range 10 {
		sub := g.mail("a.example")
		mustAppend(t, s, sub)
		mustCommit(t, s, ended(sub.Deliveries[0], message.Delivered+message.State(i%4)))
	}
	rate := policy.Rate{N: 5, Per: time.Second}
	order := spool.JobOrder{State: spool.JobPaused, Rate: &rate, Reason: "r", Author: "op", Updated: epoch}
	if err := s.PutJob(ctx, "acme", "j1", order); err != nil {
		t.Fatal(err)
	}
	if err := s.PutJob(ctx, "beta", "other", spool.JobOrder{State: spool.JobCancelled}); err != nil {
		t.Fatal(err)
	}
	a := spool.Action{ID: "a1", Kind: "hold", Scope: message.Scope{Tenant: "acme"}, Reason: "why", Author: "op", Created: epoch}
	b := spool.Action{ID: "b1", Kind: "cancel", Scope: message.Scope{Job: "x"}, Created: epoch, Expires: epoch.Add(time.Hour)}
	for _, x := range []spool.Action{a, b, {ID: "c1", Kind: "hold"}} {
		if err := s.PutAction(ctx, x); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteAction(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, memOptions(fs, clock))
	j, err := s.Job("acme", "j1")
	if err != nil {
		t.Fatal(err)
	}
	want := spool.JobRecord{Tenant: "acme", Job: "j1", JobOrder: order, Accepted: 10, Delivered: 3, Bounced: 3, Expired: 2, Cancelled: 2, Created: epoch, Activity: epoch}
	if d := cmp.Diff(want, j); d != "" {
		t.Error(d)
	}
	as, err := s.Actions()
	if d := cmp.Diff([]spool.Action{a, b}, as); d != "" || err != nil {
		t.Error(d, err)
	}
	js, more, err := s.Jobs("", "", "", 1)
	if err != nil || len(js) != 1 || !more || js[0].Job != "j1" {
		t.Errorf("jobs: %+v %v %v", js, more, err)
	}
	if js, more, err = s.Jobs("", "acme", "j1", 10); err != nil || len(js) != 1 || more || js[0].Tenant != "beta" {
		t.Errorf("jobs behind the first: %+v %v %v", js, more, err)
	}
	clock.advance(2 * time.Hour)
	if as, _ = s.Actions(); len(as) != 1 {
		t.Errorf("actions after expiry: %+v", as)
	}
	clock.advance(31 * 24 * time.Hour)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, s); r.Jobs != 0 || r.Actions != 1 {
		t.Errorf("after retention: %+v", r)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	ctx := context.Background()
	clock, fs := newClock(), vfs.NewMem()
	s := open(t, memOptions(fs, clock))
	g := newMaker()
	k := &spool.Idempotency{Tenant: "acme", Key: "k1", BodyHash: [32]byte{1, 2}, Expires: epoch.Add(24 * time.Hour), Answer: []byte(`{"job":"x"}`)}
	subs := make([]*spool.Submission, 8)
	for i := range subs {
		subs[i] = g.mail("a.example")
		subs[i].Idempotency = k
	}
	var wg sync.WaitGroup
	errs := make([]error, len(subs))
	for i, sub := range subs {
		wg.Add(1)
		go func() { // eight requests with one key at the same time
			defer wg.Done()
			errs[i] = s.Append(ctx, sub)
			if _, ok, err := s.Idempotency("acme", "k1"); !ok || err != nil {
				t.Errorf("after the answer: %v %v", ok, err)
			}
		}()
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
	if r := mustVerify(t, s); won != 1 || r.Deliveries != 1 || r.Messages != 1 {
		t.Errorf("%d won, %d messages", won, r.Messages)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, memOptions(fs, clock))
	got, ok, err := s.Idempotency("acme", "k1")
	if d := cmp.Diff(k, got); d != "" || !ok || err != nil {
		t.Error(d, ok, err)
	}
	if _, ok, _ := s.Idempotency("beta", "k1"); ok {
		t.Error("another tenant's key is found")
	}
	clock.advance(25 * time.Hour)
	if _, ok, _ := s.Idempotency("acme", "k1"); ok {
		t.Error("key lives after its expiry")
	}
	k2 := *k
	k2.Expires = clock.now().Add(24 * time.Hour)
	sub := g.mail("a.example")
	sub.Idempotency = &k2
	mustAppend(t, s, sub) // used again after expiry
	clock.advance(2 * time.Hour)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Idempotency("acme", "k1"); !ok {
		t.Errorf("housekeeping took the live key with the dead one: %v", err)
	}
	clock.advance(48 * time.Hour)
	if err := s.Housekeep(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, s); r.Idempotency != 0 {
		t.Errorf("%d keys left", r.Idempotency)
	}
}

func TestOutboxReplaysWhatWasNotAcknowledged(t *testing.T) {
	clock, fs := newClock(), vfs.NewMem()
	s := open(t, memOptions(fs, clock))
	var mu sync.Mutex
	var live []string
	var seqs []uint64
	s.OnEvents(func(seq uint64, events []byte) {
		mu.Lock()
		defer mu.Unlock()
		live = append(live, string(events))
		seqs = append(seqs, seq)
	})
	g := newMaker()
	var want []string
	for range 10 {
		sub := g.mail("a.example")
		mustAppend(t, s, sub)
		want = append(want, string(sub.Events))
	}
	if err := s.Close(); err != nil { // after Close all was handed over
		t.Fatal(err)
	}
	if d := cmp.Diff(want, live); d != "" {
		t.Error(d)
	}
	s = open(t, memOptions(fs, clock))
	replay := func(after uint64) (got []string) {
		t.Helper()
		err := s.Outbox(after, func(_ uint64, e []byte) error { got = append(got, string(e)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if d := cmp.Diff(want, replay(0)); d != "" {
		t.Error(d)
	}
	if err := s.AckOutbox(seqs[6]); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[7:], replay(0)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want[9:], replay(seqs[8])); d != "" {
		t.Error(d)
	}
	if err := s.AckOutbox(seqs[9] + 1000); err != nil { // not beyond what there is
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, memOptions(fs, clock))
	var next uint64
	s.OnEvents(func(seq uint64, _ []byte) { next = seq })
	mustAppend(t, s, g.mail("a.example"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if next != seqs[9]+1 {
		t.Errorf("numbers go on with %d, want %d", next, seqs[9]+1)
	}
}
