package suppress_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/node/suppress"
	"hikyaku/reputation"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// diary is an event log: what was found, and how far back it was asked.
type diary struct {
	events []message.Event
	since  []time.Time
	fail   error
}

func (d *diary) missed(_ context.Context, since time.Time, found func(*reputation.Verdict, *message.Event) error) error {
	d.since = append(d.since, since)
	if d.fail != nil {
		return d.fail
	}
	for i := range d.events {
		if e := &d.events[i]; !e.Time.Before(since) {
			if err := found(&hard, e); err != nil {
				return err
			}
		}
	}
	return nil
}

var hard = reputation.Verdict{Action: reputation.ActSuppress, Category: reputation.UnknownUser}

// lives is one list that is opened again and again on one disk.
type lives struct {
	t     *testing.T
	fs    *vfs.MemFS
	now   time.Time
	diary *diary
	s     *suppression.Store
	l     *suppress.List
	k     *suppress.Keeper
}

func (x *lives) begin(missed bool, queue int) {
	x.t.Helper()
	var err error
	now := func() time.Time { return x.now }
	if x.s, err = suppression.Open(suppression.Options{Dir: "suppression", FS: x.fs, Now: now, MemTableSize: 256 << 10, CacheSize: 1 << 20}); err != nil {
		x.t.Fatal(err)
	}
	o := suppress.Options{Name: "a", Store: x.s, Now: now, Queue: queue}
	if missed {
		o.Missed = x.diary.missed
	}
	if x.l, err = suppress.New(o); err != nil {
		x.t.Fatal(err)
	}
	x.k = &suppress.Keeper{}
}

func (x *lives) end() {
	if err := x.s.Close(); err != nil {
		x.t.Error(err)
	}
}

// found is an outcome: its event is on disk, then the list is told.
func (x *lives) found(address string) {
	e := event("shop", address)
	e.Time = x.now
	x.diary.events = append(x.diary.events, *e)
	x.l.Feed(&hard, e)
}

func (x *lives) move() {
	x.t.Helper()
	if err := x.k.Move(x.t.Context(), x.l); err != nil {
		x.t.Fatal(err)
	}
	x.now = x.now.Add(10 * time.Second)
}

func (x *lives) listed(address string) bool {
	_, yes := x.l.Suppressed("shop", address, "")
	return yes
}

// TestWhatACrashTook: what was fed and not stored when the process died is on the
// list after the next start, if the event log can be asked.
func TestWhatACrashTook(t *testing.T) {
	for _, asked := range []bool{true, false} { // false is the control
		x := &lives{t: t, fs: vfs.NewMem(), now: epoch, diary: &diary{}}
		x.begin(asked, 100)
		x.move()
		x.now = x.now.Add(time.Hour)
		x.found("stored@x.example")
		x.l.StoreFed()
		x.found("lost@x.example")
		x.end() // without storing what waits
		x.now = x.now.Add(time.Hour)
		x.begin(asked, 100)
		if !x.listed("stored@x.example") || x.listed("lost@x.example") {
			t.Fatal("the crash took something else")
		}
		x.l.Run(ended(t))
		if got := x.listed("lost@x.example"); got != asked {
			t.Errorf("the event log is asked: %v; listed: %v", asked, got)
		}
		if m := x.l.Metrics(); asked && (m.Found != 1 || m.Queue != 0) {
			t.Errorf("%+v", m)
		}
		x.end()
	}
}

// TestWhatDidNotFit: what the queue had no room for is on the list a little later.
func TestWhatDidNotFit(t *testing.T) {
	x := &lives{t: t, fs: vfs.NewMem(), now: epoch, diary: &diary{}}
	x.begin(true, 3)
	defer x.end()
	x.move()
	for i := range 5 {
		x.found(fmt.Sprintf("u%d@x.example", i))
	}
	x.l.StoreFed()
	if x.listed("u4@x.example") || x.l.Metrics().Dropped != 2 {
		t.Fatalf("all fitted: %+v", x.l.Metrics())
	}
	x.move()
	for i := range 5 {
		if !x.listed(fmt.Sprintf("u%d@x.example", i)) {
			t.Errorf("u%d is not listed", i)
		}
	}
}

// TestTheMarkNeverOvertakes: it stands while something waits to be stored, and
// while the event log cannot be read.
func TestTheMarkNeverOvertakes(t *testing.T) {
	x := &lives{t: t, fs: vfs.NewMem(), now: epoch, diary: &diary{}}
	x.begin(true, 100)
	marked := func() time.Time {
		at, err := x.s.Marked()
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	x.move()
	x.found("waits@x.example")
	x.move() // the mark of the turn before: nothing waited then
	first := marked()
	for range 5 {
		x.move()
	}
	if at := marked(); at.After(first.Add(10 * time.Second)) {
		t.Errorf("the mark went from %v to %v while something waited", first, at)
	}
	x.l.StoreFed()
	x.move()
	x.move()
	if at := marked(); at.Before(x.now.Add(-30 * time.Second)) {
		t.Errorf("at %v the mark is still %v", x.now, at)
	}
	x.end()

	last := marked
	x.begin(true, 100)
	defer x.end()
	before := last()
	x.diary.fail = errors.New("the disk is bad")
	for range 3 {
		x.now = x.now.Add(time.Minute)
		if err := x.k.Move(t.Context(), x.l); !errors.Is(err, x.diary.fail) {
			t.Fatalf("the log was not asked: %v", err)
		}
	}
	if at := marked(); !at.Equal(before) {
		t.Errorf("the mark went from %v to %v though the log cannot be read", before, at)
	}
	x.diary.fail = nil
	x.move()
	x.move()
	if at := marked(); !at.After(before) {
		t.Error("the mark stands for ever")
	}
	for _, since := range x.diary.since[len(x.diary.since)-4:] {
		if !since.Before(before) {
			t.Errorf("the log was read from %v, the mark was %v", since, before)
		}
	}
}

// TestARemovalOutlivesTheLog: what a person took off the list is not put back from
// the event log.
func TestARemovalOutlivesTheLog(t *testing.T) {
	x := &lives{t: t, fs: vfs.NewMem(), now: epoch, diary: &diary{}}
	x.begin(true, 100)
	x.move()
	x.found("u@x.example")
	x.l.StoreFed()
	x.now = x.now.Add(time.Second)
	if _, err := x.l.Remove([]suppression.Ref{{Tenant: "shop", Address: "u@x.example"}}, "ann", "asked to be back"); err != nil {
		t.Fatal(err)
	}
	x.end()
	x.begin(true, 100)
	defer x.end()
	x.l.Run(ended(t))
	if x.listed("u@x.example") || len(x.diary.since) == 0 {
		t.Error("it is back, or the log was not asked")
	}
}

// ended is a context that is over.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
