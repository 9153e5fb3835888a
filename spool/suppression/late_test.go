package suppression_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/spool/suppression"
)

// TestFedLate: what the event log tells once more changes nothing that was stored,
// or decided by a person, since.
func TestFedLate(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	e := bounce("shop", "u@x.example")
	ref := []suppression.Ref{e.Ref()}
	type step struct {
		wait   time.Duration
		do     string // feed, seen: now; late, late seen: found so long ago; remove
		ago    time.Duration
		listed bool // after it
	}
	for name, steps := range map[string][]step{
		"was not stored":                     {{0, "late", hour, true}},
		"was stored":                         {{0, "feed", 0, true}, {hour, "late", hour, true}},
		"removed since":                      {{0, "feed", 0, true}, {hour, "remove", 0, false}, {hour, "late", 2 * hour, false}},
		"found since the removal":            {{0, "feed", 0, true}, {hour, "remove", 0, false}, {2 * hour, "late", hour, true}},
		"one sighting is not two":            {{0, "seen", 0, false}, {2 * day, "late seen", 2 * day, false}},
		"a sighting that was not stored":     {{0, "late seen", hour, false}, {day, "seen", 0, true}},
		"two sightings that were not":        {{0, "late seen", 2 * day, false}, {0, "late seen", hour, true}},
		"in any order":                       {{0, "late seen", hour, false}, {0, "late seen", 2 * day, true}},
		"a sighting before a removal":        {{0, "seen", 0, false}, {hour, "remove", 0, false}, {hour, "late seen", 2 * hour, false}, {23 * hour, "seen", 0, false}},
		"what is told to be of the future":   {{0, "late", -hour, true}, {hour, "remove", 0, false}},
		"a sighting that is forgotten since": {{0, "late seen", 80 * day, false}, {0, "late seen", hour, false}},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := memory(t)
			c.advance(100 * day)
			for i, x := range steps {
				c.advance(x.wait)
				f := suppression.Finding{Entry: e, Second: x.do == "seen" || x.do == "late seen"}
				var err error
				switch x.do {
				case "remove":
					_, err = s.Remove(ref, "ann", "")
				case "late", "late seen":
					f.At = c.now().Add(-x.ago)
					fallthrough
				default:
					_, _, err = s.Feed([]suppression.Finding{f})
				}
				got, ok := s.Lookup("shop", e.Address, "")
				if err != nil || ok != x.listed {
					t.Fatalf("step %d, %s: listed %v, %v", i, x.do, ok, err)
				}
				if x.do == "late" && ok && i == 0 && got.Added.After(c.now()) {
					t.Errorf("added at %v, in the future", got.Added)
				}
			}
		})
	}
}

// TestAnOldCopyOfTheList: an export that is imported again does not end what has no
// end any more, and adds nothing that is over.
func TestAnOldCopyOfTheList(t *testing.T) {
	s, c := memory(t)
	ends, over := bounce("shop", "ends@x.example"), bounce("shop", "over@x.example")
	ends.Expires, over.Expires = c.now().Add(24*time.Hour), c.now().Add(24*time.Hour)
	old := []suppression.Entry{ends, over}
	add(t, s, old...)
	c.advance(time.Hour)
	ends.Expires = time.Time{}
	add(t, s, ends)
	c.advance(48 * time.Hour)
	if r := add(t, s, old...); r.Unchanged != 2 || r.At.Seq != 0 {
		t.Errorf("the import: %+v", r)
	}
	for address, want := range map[string]bool{"ends@x.example": true, "over@x.example": false} {
		if _, ok := s.Lookup("shop", address, ""); ok != want {
			t.Errorf("%s: %v", address, ok)
		}
	}
	if got, err := s.Get("shop", "ends@x.example"); err != nil || len(got) != 1 || !got[0].Expires.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestFedLateLosesToALaterRemoval: another store's removal, which this one had not
// heard of, was later than what was found.
func TestFedLateLosesToALaterRemoval(t *testing.T) {
	c := newClock()
	a, b := open(t, options(vfs.NewMem(), c)), open(t, options(vfs.NewMem(), c))
	e := bounce("shop", "u@x.example")
	add(t, b, e)
	found := c.now()
	c.advance(time.Hour)
	if _, err := b.Remove([]suppression.Ref{e.Ref()}, "ann", ""); err != nil {
		t.Fatal(err)
	}
	c.advance(time.Hour)
	if _, _, err := a.Feed([]suppression.Finding{{Entry: e, At: found}}); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	carry(t, r, a, b, true)
	carry(t, r, b, a, true)
	for name, s := range map[string]*suppression.Store{"a": a, "b": b} {
		if _, ok := s.Lookup("shop", e.Address, ""); ok {
			t.Errorf("%s: the removal was undone", name)
		}
	}
}

// TestMark: it is there after a restart, and after a crash it is not ahead of what
// was fed.
func TestMark(t *testing.T) {
	mem, c := vfs.NewCrashableMem(), newClock()
	s := open(t, options(mem, c))
	if at, err := s.Marked(); err != nil || !at.IsZero() {
		t.Errorf("a new list is marked %v, %v", at, err)
	}
	for i, address := range []string{"a@x.example", "b@x.example", "c@x.example"} {
		add(t, s, bounce("shop", address))
		want := c.now()
		if err := s.Mark(want); err != nil {
			t.Fatal(err)
		}
		if at, err := s.Marked(); err != nil || !at.Equal(want) {
			t.Errorf("marked %v, %v; want %v", at, err, want)
		}
		crashed := open(t, options(mem.CrashClone(vfs.CrashCloneCfg{}), c))
		at, err := crashed.Marked()
		if n := crashed.Total().Entries; err != nil || n != int64(i+1) || at.After(want) {
			t.Errorf("after a crash: %d entries, marked %v, %v", n, at, err)
		}
		c.advance(time.Minute)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(c.now()); !errors.Is(err, suppression.ErrClosed) {
		t.Errorf("mark of a closed list: %v", err)
	}
	s = open(t, options(mem, c))
	if at, err := s.Marked(); err != nil || !at.Equal(c.now().Add(-time.Minute)) {
		t.Errorf("after a restart: %v, %v", at, err)
	}
}
