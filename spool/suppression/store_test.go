package suppression_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"hikyaku/spool/suppression"
)

var epoch = time.Date(2026, 4, 1, 9, 0, 0, 0, time.UTC)

// testClock is a clock that tests move.
type testClock struct {
	mu struct {
		sync.Mutex
		now time.Time
	}
}

func newClock() *testClock {
	c := &testClock{}
	c.mu.now = epoch
	return c
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
}

func options(fs vfs.FS, c *testClock) suppression.Options {
	return suppression.Options{Dir: "suppression", FS: fs, Now: c.now, MemTableSize: 1 << 20, CacheSize: 1 << 20, SweepEvery: time.Millisecond}
}

func open(t testing.TB, o suppression.Options) *suppression.Store {
	t.Helper()
	s, err := suppression.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func memory(t testing.TB) (*suppression.Store, *testClock) {
	c := newClock()
	return open(t, options(vfs.NewMem(), c)), c
}

func bounce(tenant, address string) suppression.Entry {
	return suppression.Entry{Tenant: tenant, Address: address, Kind: suppression.Bounce, Category: "unknown-user", Reason: "550 5.1.1 no such user", By: "node a"}
}

func add(t testing.TB, s *suppression.Store, es ...suppression.Entry) suppression.Result {
	t.Helper()
	r, err := s.Add(es)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eventually waits for a condition; the limit is for a machine that stands still.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestLookup(t *testing.T) {
	s, c := memory(t)
	later := epoch.Add(time.Hour)
	add(t, s,
		bounce("shop", "a@x.example"),
		bounce("", "g@x.example"),
		suppression.Entry{Tenant: "shop", Address: "n@x.example", Stream: "news", Kind: suppression.Unsubscribe},
		suppression.Entry{Tenant: "shop", Address: "n@x.example", Stream: "promo", Kind: suppression.Unsubscribe},
		suppression.Entry{Tenant: "shop", Address: "e@x.example", Kind: suppression.Manual, Expires: later},
		suppression.Entry{Tenant: "shop", Address: "odd@at@x.example", Kind: suppression.Manual},
	)
	eventually(t, "the filter is filled", func() bool { return s.Metrics().FilterReady })
	for _, x := range []struct {
		tenant, address, stream string
		want                    string // tenant and stream of the entry
	}{
		{"shop", "a@x.example", "news", "shop/"},
		{"shop", "a@x.example", "", "shop/"},
		{"bank", "a@x.example", "", ""},
		{"", "a@x.example", "", ""},
		{"shop", "g@x.example", "news", "/"},
		{"", "g@x.example", "", "/"},
		{"shop", "n@x.example", "news", "shop/news"},
		{"shop", "n@x.example", "promo", "shop/promo"},
		{"shop", "n@x.example", "password", ""},
		{"shop", "e@x.example", "", "shop/"},
		{"shop", "odd@at@x.example", "", "shop/"},
		{"shop", "odd@x.example", "", ""},
		{"shop", "nobody", "", ""},
		{"shop", "", "", ""},
	} {
		e, ok := s.Lookup(x.tenant, x.address, x.stream)
		got := ""
		if ok {
			got = e.Tenant + "/" + e.Stream
		}
		if got != x.want || ok && e.Address != x.address {
			t.Errorf("%q %s %s: %q, want %q (%+v)", x.tenant, x.address, x.stream, got, x.want, e)
		}
	}
	c.advance(time.Hour)
	if _, ok := s.Lookup("shop", "e@x.example", ""); ok {
		t.Error("an entry suppresses after its time")
	}
	e, _ := s.Lookup("shop", "a@x.example", "")
	want := bounce("shop", "a@x.example")
	want.Added = epoch
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
	if got, err := s.Get("shop", "n@x.example"); err != nil || len(got) != 2 || got[0].Stream != "news" || got[1].Stream != "promo" {
		t.Errorf("get: %v %v", got, err)
	}
}

func TestWhatAddChanges(t *testing.T) {
	s, _ := memory(t)
	e := bounce("shop", "a@x.example")
	other := e
	other.Kind, other.Reason = suppression.Complaint, strings.Repeat("é", suppression.MaxReason)
	for i, x := range []struct {
		es   []suppression.Entry
		want [3]int // added, changed, unchanged
	}{
		{[]suppression.Entry{e}, [3]int{1, 0, 0}},
		{[]suppression.Entry{e}, [3]int{0, 0, 1}},
		{[]suppression.Entry{other}, [3]int{0, 1, 0}},
		{[]suppression.Entry{e, e, other, bounce("shop", "b@x.example"), bounce("shop", "b@x.example")}, [3]int{1, 2, 2}},
	} {
		r := add(t, s, x.es...)
		if got := [3]int{r.Added, r.Changed, r.Unchanged}; got != x.want {
			t.Errorf("%d: %v, want %v", i, got, x.want)
		}
		if !s.Vector().Has(r.At) || (r.At.Seq == 0) != (r.Added+r.Changed == 0) {
			t.Errorf("%d: %+v is not in %v", i, r.At, s.Vector())
		}
	}
	if e, _ := s.Lookup("shop", "a@x.example", ""); len(e.Reason) > suppression.MaxReason || !strings.HasSuffix(e.Reason, "é") {
		t.Errorf("reason of %d bytes", len(e.Reason))
	}
	want := suppression.Counts{Entries: 2}
	want.ByKind[suppression.Bounce], want.ByKind[suppression.Complaint] = 1, 1
	if got := s.Counts()["shop"]; got != want {
		t.Errorf("counts %+v", got)
	}
	r, err := s.Remove([]suppression.Ref{{Tenant: "shop", Address: "a@x.example"}, {Tenant: "shop", Address: "z@x.example"}}, "ann", "asked for it")
	if err != nil || r.Removed != 1 || r.Unchanged != 1 {
		t.Errorf("%+v %v", r, err)
	}
	if _, ok := s.Lookup("shop", "a@x.example", ""); ok {
		t.Error("removed, and still suppressed")
	}
	if got := s.Counts()["shop"].Entries; got != 1 {
		t.Errorf("%d entries", got)
	}
	if r := add(t, s, e); r.Added != 1 {
		t.Errorf("after a removal: %+v", r)
	}
}

func TestInvalidEntriesChangeNothing(t *testing.T) {
	s, _ := memory(t)
	good := bounce("shop", "a@x.example")
	for name, spoil := range map[string]func(*suppression.Entry){
		"no address":      func(e *suppression.Entry) { e.Address = "" },
		"no domain":       func(e *suppression.Entry) { e.Address = "a@" },
		"no local part":   func(e *suppression.Entry) { e.Address = "@x.example" },
		"NUL in address":  func(e *suppression.Entry) { e.Address = "a\x00b@x.example" },
		"NUL in tenant":   func(e *suppression.Entry) { e.Tenant = "sh\x00op" },
		"NUL in stream":   func(e *suppression.Entry) { e.Stream = "\x00" },
		"not UTF-8":       func(e *suppression.Entry) { e.Address = "\xff@x.example" },
		"long local part": func(e *suppression.Entry) { e.Address = strings.Repeat("a", 129) + "@x.example" },
		"long domain":     func(e *suppression.Entry) { e.Address = "a@" + strings.Repeat("a", 256) },
		"no kind":         func(e *suppression.Entry) { e.Kind = 0 },
		"unknown kind":    func(e *suppression.Entry) { e.Kind = 6 },
		"year 3000":       func(e *suppression.Entry) { e.Expires = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"before 1970":     func(e *suppression.Entry) { e.Added = time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := good
		spoil(&e)
		if _, err := s.Add([]suppression.Entry{good, e}); !errors.Is(err, suppression.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.Total().Entries; n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestSecondSight(t *testing.T) {
	e := bounce("shop", "a@x.example")
	for name, x := range map[string]struct {
		start time.Time
		waits []time.Duration
		want  []bool // of the first sighting and each later one
	}{
		"same day":              {epoch, []time.Duration{10 * time.Hour}, []bool{false, false}},
		"next day":              {epoch, []time.Duration{24 * time.Hour}, []bool{false, true}},
		"across midnight":       {epoch.Add(14 * time.Hour), []time.Duration{2 * time.Hour}, []bool{false, false}},
		"20 h, another day":     {epoch, []time.Duration{20 * time.Hour}, []bool{false, true}},
		"just under 20 h":       {epoch, []time.Duration{20*time.Hour - time.Second}, []bool{false, false}},
		"20 h, same day":        {time.Date(2026, 4, 1, 1, 0, 0, 0, time.UTC), []time.Duration{20 * time.Hour}, []bool{false, false}},
		"counts from the first": {epoch, []time.Duration{12 * time.Hour, 12 * time.Hour}, []bool{false, false, true}},
		"forgotten":             {epoch, []time.Duration{60 * 24 * time.Hour, 23 * time.Hour}, []bool{false, false, true}},
		"just remembered":       {epoch, []time.Duration{60*24*time.Hour - time.Second}, []bool{false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := memory(t)
			c.advance(x.start.Sub(epoch))
			for i, want := range x.want {
				if i > 0 {
					c.advance(x.waits[i-1])
				}
				got, err := s.Seen(e)
				if err != nil || got != want {
					t.Errorf("sighting %d: %v %v, want %v", i, got, err, want)
				}
				if _, ok := s.Lookup("shop", e.Address, ""); ok != want {
					t.Errorf("sighting %d: looked up: %v", i, ok)
				}
			}
		})
	}
}

func TestRemovalForgetsSightings(t *testing.T) {
	s, c := memory(t)
	e := bounce("shop", "a@x.example")
	for _, want := range []bool{false, true} {
		if got, err := s.Seen(e); got != want || err != nil {
			t.Fatal(got, err)
		}
		c.advance(24 * time.Hour)
	}
	if _, err := s.Remove([]suppression.Ref{e.Ref()}, "ann", ""); err != nil {
		t.Fatal(err)
	}
	if n := s.Total().Sightings; n != 0 {
		t.Errorf("%d sightings", n)
	}
	for _, want := range []bool{false, true} {
		if got, err := s.Seen(e); got != want || err != nil {
			t.Errorf("after the removal: %v %v, want %v", got, err, want)
		}
		c.advance(24 * time.Hour)
	}
}

func TestFeedKeepsTheFirstReason(t *testing.T) {
	s, _ := memory(t)
	first := suppression.Entry{Tenant: "shop", Address: "a@x.example", Kind: suppression.Complaint, Reason: "spam button"}
	got, r, err := s.Feed([]suppression.Finding{{Entry: first}, {Entry: bounce("shop", "a@x.example")}, {Entry: bounce("shop", "b@x.example"), Second: true}})
	if err != nil || !slices.Equal(got, []bool{true, true, false}) || r.Added != 1 || r.Unchanged != 1 {
		t.Errorf("%v %+v %v", got, r, err)
	}
	if e, ok := s.Lookup("shop", "a@x.example", ""); !ok || e.Kind != suppression.Complaint {
		t.Errorf("%+v", e)
	}
}

func TestSweep(t *testing.T) {
	fs, c := vfs.NewMem(), newClock()
	s := open(t, options(fs, c))
	short := bounce("shop", "short@x.example")
	short.Expires = epoch.Add(time.Hour)
	add(t, s, short, bounce("shop", "gone@x.example"), bounce("shop", "stays@x.example"))
	if _, err := s.Seen(bounce("shop", "seen@x.example")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove([]suppression.Ref{{Tenant: "shop", Address: "gone@x.example"}}, "", ""); err != nil {
		t.Fatal(err)
	}
	want := suppression.Counts{Entries: 2, Sightings: 1}
	want.ByKind[suppression.Bounce] = 2
	if got := s.Counts()["shop"]; got != want {
		t.Fatalf("%+v", got)
	}
	c.advance(2 * time.Hour)
	want.Entries, want.ByKind[suppression.Bounce] = 1, 1
	eventually(t, "the expired entry is swept", func() bool { return s.Counts()["shop"] == want })
	c.advance(61 * 24 * time.Hour)
	want.Sightings = 0
	eventually(t, "sighting and tombstones are swept", func() bool { return s.Counts()["shop"] == want && s.Metrics().Swept == 4 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, options(fs, c))
	if got := s.Counts()["shop"]; got != want {
		t.Errorf("after a restart: %+v", got)
	}
	page, err := s.List(suppression.Filter{}, "", 100)
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Address != "stays@x.example" {
		t.Errorf("%+v %v", page, err)
	}
}

func TestList(t *testing.T) {
	s, _ := memory(t)
	var want []suppression.Entry
	for _, tenant := range []string{"", "bank", "shop"} {
		for d := range 4 {
			for u := range 25 {
				e := bounce(tenant, fmt.Sprintf("user%02d@d%d.example", u, d))
				if u%5 == 0 {
					e.Kind = suppression.Manual
				}
				e.Added = epoch.Add(time.Duration(u) * time.Minute)
				want = append(want, e)
			}
		}
	}
	shuffled := slices.Clone(want)
	slices.SortFunc(shuffled, func(x, y suppression.Entry) int {
		return strings.Compare(x.Address[4:6]+x.Tenant, y.Address[4:6]+y.Tenant)
	})
	add(t, s, shuffled...)
	if _, err := s.Remove([]suppression.Ref{{Tenant: "shop", Address: "user03@d1.example"}}, "", ""); err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(e suppression.Entry) bool { return e.Tenant == "shop" && e.Address == "user03@d1.example" })
	tenant := func(s string) *string { return &s }
	for name, x := range map[string]struct {
		f    suppression.Filter
		pick func(*suppression.Entry) bool
	}{
		"all":    {suppression.Filter{}, func(*suppression.Entry) bool { return true }},
		"tenant": {suppression.Filter{Tenant: tenant("shop")}, func(e *suppression.Entry) bool { return e.Tenant == "shop" }},
		"global": {suppression.Filter{Tenant: tenant("")}, func(e *suppression.Entry) bool { return e.Tenant == "" }},
		"domain": {suppression.Filter{Domain: "d2.example"}, func(e *suppression.Entry) bool { return strings.HasSuffix(e.Address, "@d2.example") }},
		"tenant, domain": {suppression.Filter{Tenant: tenant("shop"), Domain: "d1.example"}, func(e *suppression.Entry) bool {
			return e.Tenant == "shop" && strings.HasSuffix(e.Address, "@d1.example")
		}},
		"prefix": {suppression.Filter{Prefix: "user1"}, func(e *suppression.Entry) bool { return strings.HasPrefix(e.Address, "user1") }},
		"prefix, domain": {suppression.Filter{Tenant: tenant("bank"), Domain: "d3.example", Prefix: "user2"}, func(e *suppression.Entry) bool {
			return e.Tenant == "bank" && strings.HasSuffix(e.Address, "@d3.example") && e.Address[4] == '2'
		}},
		"whole address":  {suppression.Filter{Tenant: tenant("bank"), Domain: "d3.example", Prefix: "user07@d3"}, func(e *suppression.Entry) bool { return e.Tenant == "bank" && e.Address == "user07@d3.example" }},
		"kind":           {suppression.Filter{Kind: suppression.Manual}, func(e *suppression.Entry) bool { return e.Kind == suppression.Manual }},
		"time":           {suppression.Filter{Since: epoch.Add(3 * time.Minute), Until: epoch.Add(5 * time.Minute)}, func(e *suppression.Entry) bool { m := e.Added.Sub(epoch) / time.Minute; return m == 3 || m == 4 }},
		"nothing":        {suppression.Filter{Domain: "elsewhere.example"}, func(*suppression.Entry) bool { return false }},
		"unknown tenant": {suppression.Filter{Tenant: tenant("nobody")}, func(*suppression.Entry) bool { return false }},
		"stream":         {suppression.Filter{Stream: "news"}, func(*suppression.Entry) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			var got, expect []suppression.Entry
			for cursor := ""; ; {
				page, err := s.List(x.f, cursor, 7)
				if err != nil || len(page.Entries) > 7 {
					t.Fatal(len(page.Entries), err)
				}
				got = append(got, page.Entries...)
				if cursor = page.Next; cursor == "" {
					break
				}
			}
			for i := range want {
				if x.pick(&want[i]) {
					expect = append(expect, want[i])
				}
			}
			if d := cmp.Diff(expect, got); d != "" {
				t.Errorf("%d of %d: %.2000s", len(got), len(expect), d)
			}
		})
	}
	for _, cursor := range []string{"x", "!!", "AAAA", strings.Repeat("ZQ", 1000)} {
		if _, err := s.List(suppression.Filter{}, cursor, 7); !errors.Is(err, suppression.ErrInvalid) {
			t.Errorf("cursor %.20q: %v", cursor, err)
		}
	}
}

func TestRestart(t *testing.T) {
	fs, c := vfs.NewMem(), newClock()
	s := open(t, options(fs, c))
	add(t, s, bounce("shop", "a@x.example"), bounce("bank", "b@x.example"))
	before := s.Vector()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add([]suppression.Entry{bounce("shop", "c@x.example")}); !errors.Is(err, suppression.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, ok := s.Lookup("shop", "a@x.example", ""); ok {
		t.Error("a closed list answers")
	}
	s = open(t, options(fs, c))
	if d := cmp.Diff(before, s.Vector()); d != "" {
		t.Error(d)
	}
	if _, ok := s.Lookup("shop", "a@x.example", ""); !ok { // whether the filter is filled or not
		t.Error("lost")
	}
	r := add(t, s, bounce("shop", "d@x.example"))
	if before[r.At.Origin] != 0 || r.At.Seq != 1 {
		t.Errorf("a new life goes on as the old one: %+v in %v", r.At, before)
	}
	if n := len(s.Vector()); n != 2 {
		t.Errorf("%d origins", n)
	}
}

func TestTheFilterFollows(t *testing.T) {
	s, _ := memory(t)
	eventually(t, "the filter is filled", func() bool { return s.Metrics().FilterReady })
	first := s.Metrics().FilterBytes
	var es []suppression.Entry
	for i := range 22_000 { // more than the least room
		es = append(es, bounce("shop", fmt.Sprintf("u%d@x.example", i)))
	}
	add(t, s, es...)
	eventually(t, "a larger filter", func() bool { return s.Metrics().FilterBytes > first })
	for i := range es {
		if _, ok := s.Lookup("shop", es[i].Address, ""); !ok {
			t.Fatalf("%s is not found", es[i].Address)
		}
	}
	passed := s.Metrics().Passed
	for i := range 10_000 {
		if _, ok := s.Lookup("shop", fmt.Sprintf("n%d@x.example", i), ""); ok {
			t.Fatal("found what is not there")
		}
	}
	if n := s.Metrics().Passed - passed; n > 500 {
		t.Errorf("%d of 10,000 look-ups of absent addresses passed the filter", n)
	}
}

func TestBounds(t *testing.T) {
	o := options(vfs.NewMem(), newClock())
	o.MaxEntries = 3
	s := open(t, o)
	add(t, s, bounce("shop", "a@x.example"), bounce("shop", "b@x.example"))
	if _, err := s.Add([]suppression.Entry{bounce("shop", "c@x.example"), bounce("shop", "d@x.example")}); !errors.Is(err, suppression.ErrFull) {
		t.Errorf("%v", err)
	}
}
