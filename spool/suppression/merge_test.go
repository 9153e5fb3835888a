package suppression_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/spool/suppression"
)

// state is all that a store shows: its entries, its counts and its vector.
type state struct {
	Entries []suppression.Entry
	Counts  map[string]suppression.Counts
	Vector  suppression.Vector
}

func stateOf(s *suppression.Store) (st state, err error) {
	for cursor := ""; ; {
		page, err := s.List(suppression.Filter{}, cursor, 500)
		if err != nil {
			return st, err
		}
		st.Entries = append(st.Entries, page.Entries...)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	st.Counts, st.Vector = s.Counts(), s.Vector()
	return st, nil
}

// recount is what the counts must be by what lies there.
func recount(st *state) map[string]int64 {
	out := map[string]int64{}
	for i := range st.Entries {
		out[st.Entries[i].Tenant]++
	}
	return out
}

// life does something to a store: adds, removals, sightings of few addresses, so
// that stores meet on the same ones.
func life(t testing.TB, r *rand.Rand, s *suppression.Store, name string) {
	t.Helper()
	address := fmt.Sprintf("u%d@d%d.example", r.IntN(6), r.IntN(2))
	tenant := []string{"", "bank", "shop"}[r.IntN(3)]
	var err error
	switch r.IntN(6) {
	case 0, 1:
		e := suppression.Entry{Tenant: tenant, Address: address, Kind: suppression.Kind(1 + r.IntN(5)), Reason: fmt.Sprintf("%s %d", name, r.IntN(1000)), By: name}
		if r.IntN(3) == 0 {
			e.Stream = "news"
		}
		if r.IntN(4) == 0 {
			e.Expires = epoch.Add(time.Duration(r.IntN(60*24)) * time.Hour)
		}
		_, err = s.Add([]suppression.Entry{e})
	case 2, 3:
		_, err = s.Remove([]suppression.Ref{{Tenant: tenant, Address: address}}, name, "")
	case 4:
		_, err = s.Seen(bounce(tenant, address))
	case 5:
		var es []suppression.Entry
		for i := range 1 + r.IntN(5) {
			es = append(es, bounce(tenant, fmt.Sprintf("b%d@d.example", i)))
		}
		_, err = s.Add(es)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// carry brings what one store has to another, in parcels of a random size; it may
// give up in between, and it may bring a parcel twice.
func carry(t testing.TB, r *rand.Rand, from, to *suppression.Store, whole bool) {
	t.Helper()
	for {
		p, err := from.Pull(to.Vector(), 1+r.IntN(2000))
		if err != nil {
			t.Fatal(err)
		}
		if p.Snapshot {
			var b bytes.Buffer
			if err := from.WriteSnapshot(&b); err != nil {
				t.Fatal(err)
			}
			if _, err := to.LoadSnapshot(&b); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for range 1 + r.IntN(2) {
			if _, err := to.Apply(p.Parcel); err != nil {
				t.Fatal(err)
			}
		}
		if !p.More || !whole && r.IntN(3) == 0 {
			return
		}
	}
}

// follow brings all that one store has to another.
func follow(from, to *suppression.Store) error {
	for {
		p, err := from.Pull(to.Vector(), 1<<20)
		if err != nil {
			return err
		}
		if p.Snapshot {
			var b bytes.Buffer
			if err := from.WriteSnapshot(&b); err != nil {
				return err
			}
			if _, err := to.LoadSnapshot(&b); err != nil {
				return err
			}
			continue
		}
		if _, err := to.Apply(p.Parcel); err != nil || !p.More {
			return err
		}
	}
}

// TestAnyOrderConverges: whatever a few stores do, cut off from each other, over
// weeks, with restarts, trimmed logs and expiry, and in whatever order they hear
// of it: when all have heard of all they hold the same.
func TestAnyOrderConverges(t *testing.T) {
	seeds := 8
	switch {
	case long():
		seeds = 300
	case testing.Short():
		seeds = 3
	}
	dropped := 0
	for seed := range seeds {
		stores := wander(t, uint64(seed), false)
		for _, s := range stores {
			dropped += int(s.Metrics().Dropped)
		}
		if d := differ(t, stores); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
	t.Logf("%d seeds; by snapshots %d records were dropped", seeds, dropped)
}

// TestConvergenceCheckerSeesDifferences is the negative control: if what was heard
// last counts, stores differ in the end.
func TestConvergenceCheckerSeesDifferences(t *testing.T) {
	for seed := range 50 {
		if d := differ(t, wander(t, uint64(seed), true)); d != "" {
			return
		}
	}
	t.Error("in 50 stories no two stores differ: the checker is blind")
}

// wander is a story of a few stores: what they do, and what they hear of each
// other, in the end all.
func wander(t *testing.T, seed uint64, unsafe bool) []*suppression.Store {
	r := rand.New(rand.NewPCG(seed, 7))
	c := newClock()
	const n = 3
	disks, stores := make([]*vfs.MemFS, n), make([]*suppression.Store, n)
	start := func(i int) {
		o := options(disks[i], c)
		o.UnsafeLastHeard = unsafe
		stores[i] = open(t, o)
	}
	for i := range stores {
		disks[i] = vfs.NewMem()
		start(i)
	}
	for range 150 {
		i := r.IntN(n)
		switch r.IntN(12) {
		case 0:
			c.advance(time.Duration(r.IntN(30)) * time.Hour)
		case 1, 2:
			carry(t, r, stores[r.IntN(n)], stores[i], false)
		case 3:
			if err := stores[i].Trim(stores[i].Vector(), 0); err != nil { // as if all had it
				t.Fatal(err)
			}
		case 4:
			if err := stores[i].Close(); err != nil {
				t.Fatal(err)
			}
			start(i)
		default:
			life(t, r, stores[i], fmt.Sprintf("store %d", i))
		}
	}
	// Sightings that meet make operations of their own, so once around is not
	// always enough.
	for range 3 {
		for i := range stores {
			for j := range stores {
				if i != j {
					carry(t, r, stores[j], stores[i], true)
				}
			}
		}
	}
	return stores
}

// differ says how stores differ, or their counts from what lies there.
func differ(t *testing.T, stores []*suppression.Store) string {
	first, err := settled(stores[0])
	if err != nil {
		return err.Error()
	}
	if len(first.Entries) == 0 {
		return "nothing is left"
	}
	for i, s := range stores[1:] {
		st, err := settled(s)
		if err != nil {
			return err.Error()
		}
		if d := cmp.Diff(first, st); d != "" {
			return fmt.Sprintf("store %d and store 0 differ: %s", i+1, d)
		}
	}
	return ""
}

// settled is the state when the sweep has caught up with the clock: then the
// counts are those of what lies there.
func settled(s *suppression.Store) (st state, err error) {
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if st, err = stateOf(s); err != nil {
			return st, err
		}
		got := map[string]int64{}
		for tenant, c := range st.Counts {
			if c.Entries != 0 {
				got[tenant] = c.Entries
			}
		}
		want := recount(&st)
		if cmp.Equal(got, want) {
			return st, nil
		}
		select {
		case <-tick.C:
		case <-limit:
			return st, fmt.Errorf("it counts %v and has %v", got, want)
		}
	}
}

// TestATombstoneWins: an entry that was removed does not come back, in whichever
// order the two are heard of, though the clock of who removed it is behind.
func TestATombstoneWins(t *testing.T) {
	ahead, behind := newClock(), newClock()
	ahead.advance(time.Hour)
	a, b := open(t, options(vfs.NewMem(), ahead)), open(t, options(vfs.NewMem(), behind))
	e := bounce("shop", "u@x.example")
	add(t, a, e)
	r := rand.New(rand.NewPCG(1, 1))
	carry(t, r, a, b, true)
	if _, err := b.Remove([]suppression.Ref{e.Ref()}, "ann", ""); err != nil {
		t.Fatal(err)
	}
	carry(t, r, b, a, true)
	for name, from := range map[string][2]*suppression.Store{"the entry first": {a, b}, "the removal first": {b, a}} {
		third := open(t, options(vfs.NewMem(), newClock()))
		carry(t, r, from[0], third, true)
		carry(t, r, from[1], third, true)
		if _, ok := third.Lookup("shop", e.Address, ""); ok {
			t.Errorf("%s: it is back", name)
		}
	}
	if _, ok := a.Lookup("shop", e.Address, ""); ok {
		t.Error("it stands where it was added")
	}
}

// TestMalformedBytesChangeNothing: neither parcels nor snapshots of a peer that
// lies, or is cut off.
func TestMalformedBytesChangeNothing(t *testing.T) {
	a, _ := memory(t)
	add(t, a, bounce("shop", "u@x.example"), bounce("shop", "v@x.example"))
	p, err := a.Pull(nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var snap bytes.Buffer
	if err := a.WriteSnapshot(&snap); err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 11
	}
	for i := 0; i < len(p.Parcel); i += step {
		b, _ := memory(t)
		if n, err := b.Apply(p.Parcel[:i]); i > 0 && (err == nil || n != 0 || b.Total().Entries != 0 || len(b.Vector()) != 0) {
			t.Fatalf("a parcel cut at %d of %d: %d %v", i, len(p.Parcel), n, err)
		}
	}
	for i := 0; i < snap.Len(); i += step {
		b, _ := memory(t)
		if _, err := b.LoadSnapshot(bytes.NewReader(snap.Bytes()[:i])); err == nil || len(b.Vector()) != 0 {
			t.Fatalf("a snapshot cut at %d: %v, vector %v", i, err, b.Vector())
		}
	}
	turned := bytes.Clone(snap.Bytes())
	turned[len(turned)-20] ^= 1
	b, _ := memory(t)
	if _, err := b.LoadSnapshot(bytes.NewReader(turned)); err == nil {
		t.Error("a snapshot with a bit turned is taken")
	}
	// Nobody makes operations in a store's own name.
	if _, err := a.Apply(p.Parcel); err != nil {
		t.Errorf("its own, that it has made: %v", err)
	}
	more := add(t, a, bounce("shop", "w@x.example"))
	forged, err := a.Pull(suppression.Vector{more.At.Origin: more.At.Seq - 1}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := memory(t)
	if _, err := c.Apply(forged.Parcel); err == nil {
		t.Error("operations with a gap before them are taken")
	}
}

func FuzzApply(f *testing.F) {
	a, _ := memory(f)
	add(f, a, bounce("shop", "u@x.example"), suppression.Entry{Address: "g@x.example", Stream: "s", Kind: suppression.Manual, Expires: epoch.Add(time.Hour)})
	if _, err := a.Seen(bounce("shop", "seen@x.example")); err != nil {
		f.Fatal(err)
	}
	if _, err := a.Remove([]suppression.Ref{{Tenant: "shop", Address: "u@x.example"}}, "ann", "why"); err != nil {
		f.Fatal(err)
	}
	p, err := a.Pull(nil, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Parcel)
	f.Add([]byte{1})
	s, _ := memory(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := s.Vector()
		n, err := s.Apply(b)
		if errors.Is(err, suppression.ErrFailed) || err != nil && n == 0 && len(before) != len(s.Vector()) {
			t.Fatal(err)
		}
		st, err := stateOf(s)
		if err != nil {
			t.Fatal(err)
		}
		want := recount(&st)
		for tenant, c := range st.Counts {
			if c.Entries < want[tenant] { // more: what has expired is not swept yet
				t.Fatalf("tenant %q counts %d, has %d", tenant, c.Entries, want[tenant])
			}
		}
		if len(st.Vector) > suppression.MaxOrigins/4 { // a new one, so that all are reached
			s, _ = memory(t)
		}
	})
}

func FuzzLoadSnapshot(f *testing.F) {
	a, _ := memory(f)
	add(f, a, bounce("shop", "u@x.example"), bounce("", "v@x.example"))
	var b bytes.Buffer
	if err := a.WriteSnapshot(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	s, _ := memory(f)
	add(f, s, bounce("shop", "here@x.example"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4 { // with a sum that fits, or nothing gets past it
			b = binary.BigEndian.AppendUint32(bytes.Clone(b[:len(b)-4]), crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)))
		}
		if _, err := s.LoadSnapshot(bytes.NewReader(b)); errors.Is(err, suppression.ErrFailed) {
			t.Fatal(err)
		}
		if _, ok := s.Lookup("shop", "here@x.example", ""); !ok {
			if _, err := s.Add([]suppression.Entry{bounce("shop", "here@x.example")}); err != nil { // a snapshot may say that it was removed
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseVector(f *testing.F) {
	f.Add(suppression.Vector{1: 2, 3: 4}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := suppression.ParseVector(b)
		if err != nil {
			return
		}
		again, err := suppression.ParseVector(v.Append(nil))
		if err != nil || !cmp.Equal(v, again) {
			t.Fatalf("%v %v %v", v, again, err)
		}
	})
}
