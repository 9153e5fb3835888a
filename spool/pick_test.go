package spool_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// turnstile lets a sync of the log through for each token.
type turnstile struct {
	shut    chan struct{} // closed when syncs have to stop
	arrived chan struct{} // one for each that stands before it
	open    chan struct{} // closed when all may go
}

func (t *turnstile) String() string { return "turnstile" }

func (t *turnstile) MaybeError(op errorfs.Op) error {
	if !slices.Contains(opSyncs, op.Kind) || !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	select {
	case <-t.shut:
	default:
		return nil
	}
	select {
	case t.arrived <- struct{}{}:
	case <-t.open:
	}
	<-t.open
	return nil
}

// batches records which batch each event was in.
type batches struct {
	sync.Mutex
	of map[string]uint64 // by the event's text
}

func (b *batches) note(seq uint64, events []byte) {
	b.Lock()
	defer b.Unlock()
	for line := range bytes.Lines(events) {
		b.of[string(line)] = seq
	}
}

func (b *batches) seq(t *testing.T, event []byte) uint64 {
	t.Helper()
	b.Lock()
	defer b.Unlock()
	seq, ok := b.of[string(event)]
	if !ok {
		t.Fatalf("no event %q", event)
	}
	return seq
}

// large makes a submission that takes long to write.
func (g *maker) large() *spool.Submission {
	sub := g.mail("large.example")
	sub.Message.Raw = bytes.Repeat([]byte("0123456789abcdef"), 32<<10)
	return sub
}

// TestAClientDoesNotWaitForABulkJob: what waits while a sync takes long goes in
// an order that is good for single messages and breaks no promise.
func TestAClientDoesNotWaitForABulkJob(t *testing.T) {
	gate := &turnstile{shut: make(chan struct{}), arrived: make(chan struct{}), open: make(chan struct{})}
	s := open(t, memOptions(errorfs.Wrap(vfs.NewMem(), gate), newClock()))
	seen := &batches{of: map[string]uint64{}}
	s.OnEvents(seen.note)
	g := newMaker()
	job := g.mail(slices.Repeat([]string{"bulk.example"}, 2000)...)
	mustAppend(t, s, job)

	close(gate.shut)
	var wg sync.WaitGroup
	waiting := 0
	queued := func(fn func() error) { // hands one request in and waits until it stands in line
		waiting++
		wg.Go(func() {
			if err := fn(); err != nil {
				t.Error(err)
			}
		})
		waitFor(t, func() bool { return s.Metrics().Waiting == waiting })
	}
	add := func(sub *spool.Submission) *spool.Submission {
		queued(func() error { return s.Append(context.Background(), sub) })
		return sub
	}
	wg.Go(func() {
		if err := s.Append(context.Background(), g.mail("first.example")); err != nil {
			t.Error(err)
		}
	})
	<-gate.arrived // it is under way, and the next batch waits for it

	moves := make([]*spool.Transition, len(job.Deliveries))
	for i, d := range job.Deliveries {
		moves[i] = ended(d, message.Delivered)
		wg.Add(1)
		waiting++
		s.Commit(moves[i], func(err error) {
			defer wg.Done()
			if err != nil {
				t.Error(err)
			}
		})
	}
	page1, page2, small := add(g.large()), add(g.large()), add(g.mail("small.example"))
	queued(func() error { // a barrier tells that all of them are durable
		err := s.Barrier(t.Context())
		for dest, want := range map[string]int{"bulk.example": 0, "large.example": 2, "small.example": 1} {
			ds, _, lerr := s.Destination(context.Background(), dest, "", 10)
			if lerr != nil || len(ds) != want {
				t.Errorf("behind the barrier %d deliveries to %s, want %d; %v", len(ds), dest, want, lerr)
			}
		}
		return err
	})
	late := add(g.mail("late.example"))
	close(gate.open)
	wg.Wait()
	if err := s.Barrier(t.Context()); err != nil { // events are handed on after the answers
		t.Fatal(err)
	}

	of := func(sub *spool.Submission) uint64 { return seen.seq(t, sub.Events) }
	if of(small) != of(late) || of(small) >= of(page1) || of(page1) > of(page2) {
		t.Errorf("small messages in batches %d and %d, large ones in %d and %d: want both small ones before the large", of(small), of(late), of(page1), of(page2))
	}
	last := uint64(0)
	for i, m := range moves {
		seq := seen.seq(t, m.Events)
		if seq < last {
			t.Fatalf("move %d in batch %d, the one before in %d", i, seq, last)
		}
		last = seq
	}
	if first := seen.seq(t, moves[0].Events); last-first < 3 {
		t.Errorf("2000 moves in batches %d to %d: want them in more, for those who wait", first, last)
	}
}

// TestABarrierWaitsForTheEvents: who waited behind a barrier finds in the event log
// what came before it, also what went in the same batch.
func TestABarrierWaitsForTheEvents(t *testing.T) {
	gate := &turnstile{shut: make(chan struct{}), arrived: make(chan struct{}), open: make(chan struct{})}
	s := open(t, memOptions(errorfs.Wrap(vfs.NewMem(), gate), newClock()))
	g := newMaker()
	sub := g.mail("with.example")
	var answered, handed atomic.Bool
	s.OnEvents(func(_ uint64, events []byte) {
		if !bytes.Equal(events, sub.Events) {
			return
		}
		for range 1000 { // time enough for who would have been answered already
			runtime.Gosched()
		}
		if answered.Load() {
			t.Error("the barrier was answered before the events were handed on")
		}
		handed.Store(true)
	})
	close(gate.shut)
	var wg sync.WaitGroup
	add := func(sub *spool.Submission) {
		wg.Go(func() {
			if err := s.Append(context.Background(), sub); err != nil {
				t.Error(err)
			}
		})
	}
	add(g.mail("first.example"))
	<-gate.arrived // it is under way, and the next batch waits for it
	add(sub)
	waitFor(t, func() bool { return s.Metrics().Waiting == 1 })
	wg.Go(func() {
		if err := s.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
		answered.Store(true)
		if !handed.Load() {
			t.Error("the events have not been handed on")
		}
	})
	waitFor(t, func() bool { return s.Metrics().Waiting == 2 })
	close(gate.open)
	wg.Wait()
}
