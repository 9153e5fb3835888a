package events

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestCursorsReadAtPlaces reads every block from each place, alone and in turn.
func TestCursorsReadAtPlaces(t *testing.T) {
	o := newOutbox()
	l := o.open(t, osFS{}, func(o *Options) { o.Dir, o.SegmentBytes, o.BlockBytes = t.TempDir(), 600, 100 })
	defer l.Close()
	c := l.Cursor()
	defer c.Close()
	if _, err := c.Read(l.End()); !errors.Is(err, io.EOF) {
		t.Fatalf("an empty log: %v", err)
	}
	first := l.End()
	for i := range 30 {
		changed := l.Changed()
		o.commit(fmt.Appendf(nil, "{\"n\":%d,%q:1}\n", i, strings.Repeat("x", 50)))
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		case <-time.After(30 * time.Second):
			t.Fatal("nobody was told")
		}
	}
	if n := l.Metrics().Segments; n < 3 {
		t.Fatalf("%d segments: the test does not cross one", n)
	}
	var places []Place
	var texts []string
	prev := uint64(0)
	for at := first; ; {
		b, err := c.Read(at)
		if errors.Is(err, io.EOF) {
			if at != l.End() {
				t.Errorf("the last block ends at %+v, the log at %+v", at, l.End())
			}
			break
		}
		if err != nil || b.Prev != prev || b.First != prev+1 {
			t.Fatalf("%+v after %d: %v", b, prev, err)
		}
		places, texts, prev = append(places, at), append(texts, string(b.Lines)), b.Last
		at = b.End()
	}
	if prev != 30 {
		t.Fatalf("read up to %d", prev)
	}
	for i := len(places) - 1; i >= 0; i-- {
		b, err := c.Read(places[i])
		if err != nil || string(b.Lines) != texts[i] {
			t.Errorf("again at %+v: %q, %v", places[i], b.Lines, err)
		}
	}
}

// TestHoldKeepsSegments holds a place across a restart, then lets it go.
func TestHoldKeepsSegments(t *testing.T) {
	dir := t.TempDir()
	o := newOutbox()
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	options := func(o *Options) {
		o.Dir, o.SegmentBytes, o.BlockBytes, o.RetentionBytes, o.HardBytes = dir, 600, 100, 1000, 1<<20
		o.Now = func() time.Time { return time.Unix(0, now.Load()) }
	}
	l := o.open(t, osFS{}, options)
	if _, ok := l.Held("hooks"); ok {
		t.Error("something is held")
	}
	if err := l.Release("hooks"); err != nil {
		t.Errorf("release of nothing: %v", err)
	}
	write := func() {
		for range 30 {
			now.Add(int64(2 * time.Minute))
			o.commit([]byte("{\"x\":\"" + strings.Repeat("y", 60) + "\"}\n"))
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.commit([]byte("{}\n"))
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := l.End()
	if err := l.Hold("hooks", at); err != nil {
		t.Fatal(err)
	}
	write()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = o.open(t, osFS{}, options)
	if got, ok := l.Held("hooks"); !ok || got != at {
		t.Fatalf("after a restart %+v, %v", got, ok)
	}
	write()
	c := l.Cursor()
	if b, err := c.Read(at); err != nil || b.First != 2 {
		t.Errorf("what is held: %+v, %v", b, err)
	}
	if err := l.Release("hooks"); err != nil {
		t.Fatal(err)
	}
	write()
	if b, err := c.Read(at); err != nil || b.First == 2 || b.Prev <= at.Seq {
		t.Errorf("the control: retention took nothing: %+v, %v", b, err)
	}
	if _, err := os.Stat(dir + "/consumers/hooks.json"); err == nil {
		t.Error("the place is still on disk")
	}
	c.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
