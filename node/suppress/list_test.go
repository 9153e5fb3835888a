package suppress_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
	"hikyaku/node/suppress"
	"hikyaku/reputation"
	"hikyaku/spool/message"
	"hikyaku/spool/suppression"
)

// alone is a list without other nodes, which runs only when the test runs it.
func alone(t testing.TB, with func(*suppress.Options)) (*suppress.List, *suppression.Store) {
	t.Helper()
	s, err := suppression.Open(suppression.Options{Dir: "suppression", FS: vfs.NewMem(), MemTableSize: 1 << 20, CacheSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	o := suppress.Options{Name: "a", Store: s}
	with(&o)
	l, err := suppress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func event(tenant, recipient string) *message.Event {
	return &message.Event{Tenant: tenant, Stream: "news", Recipient: recipient, Reply: message.Reply{Code: 550, Enhanced: message.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: "no such user"}}
}

// TestFeed: which verdicts of which tenants are noted. What was fed when the node
// ends is stored.
func TestFeed(t *testing.T) {
	set := &policy.Set{Tenants: map[string]*policy.Tenant{
		"shop": {}, "none": {Suppress: []string{policy.SuppressNone}}, "complaints": {Suppress: []string{policy.SuppressComplaints}},
	}}
	l, s := alone(t, func(o *suppress.Options) { o.Policy = func() *policy.Set { return set } })
	for _, x := range []struct {
		action    reputation.Action
		tenant    string
		recipient string
		fed       bool
		listed    bool
	}{
		{reputation.ActSuppress, "shop", "Hard@x.example", true, true},
		{reputation.ActSecond, "shop", "doubtful@x.example", true, false},
		{reputation.ActFail, "shop", "fail@x.example", false, false},
		{reputation.ActRetry, "shop", "retry@x.example", false, false},
		{reputation.ActSuppress, "none", "n@x.example", false, false},
		{reputation.ActSuppress, "complaints", "c@x.example", false, false},
		{reputation.ActSuppress, "unknown-tenant", "u@x.example", true, true},
		{reputation.ActSuppress, "shop", "not an address", false, false},
		{reputation.ActSuppress, "shop", `"a..b"@Docomo.ne.jp`, true, true},
	} {
		if got := l.Feed(&reputation.Verdict{Action: x.action, Category: reputation.UnknownUser}, event(x.tenant, x.recipient)); got != x.fed {
			t.Errorf("%s of %s for %s: fed is %v", x.action, x.tenant, x.recipient, got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // what waits is stored all the same
		l.Run(ctx)
		e, ok := l.Suppressed(x.tenant, x.recipient, "other")
		if ok != x.listed || ok && (e.Kind != suppression.Bounce || e.Category != "unknown-user" || !strings.Contains(e.Reason, "550 5.1.1 no such user") || e.By != "node a") {
			t.Errorf("%s of %s for %s: %+v %v", x.action, x.tenant, x.recipient, e, ok)
		}
	}
	if n := s.Total().Sightings; n != 1 {
		t.Errorf("%d sightings", n)
	}
	for _, x := range []struct {
		told suppress.Told
		want bool
	}{
		{suppress.Told{Kind: suppression.Complaint, Tenant: "shop", Address: "z@x.example"}, true},
		{suppress.Told{Kind: suppression.Complaint, Tenant: "complaints", Address: "z@x.example"}, true},
		{suppress.Told{Kind: suppression.Unsubscribe, Tenant: "complaints", Address: "y@x.example"}, false},
		{suppress.Told{Kind: suppression.Complaint, Tenant: "none", Address: "z@x.example"}, false},
		{suppress.Told{Kind: suppression.Unsubscribe, Tenant: "shop", Address: "Y@x.example", Stream: "news"}, true},
	} {
		got, err := l.Note(x.told)
		if _, listed := l.Suppressed(x.told.Tenant, x.told.Address, x.told.Stream); err != nil || got != x.want || listed != x.want {
			t.Errorf("%+v: %v %v, listed %v", x.told, got, err, listed)
		}
	}
	if _, ok := l.Suppressed("shop", "y@x.example", "password"); ok {
		t.Error("an unsubscribe from one stream holds for another")
	}
}

// TestOneKeyForOneQueue: a domain that is written in another way, and leads to the
// same queue, is suppressed as well, whoever of the two was listed.
func TestOneKeyForOneQueue(t *testing.T) {
	l, _ := alone(t, func(o *suppress.Options) { o.Destination = ingest.Destination })
	forms := []string{"u@例え.jp", "U@例え。jp", "u@xn--r8jz45g.JP", "u@例え．ｊｐ"}
	for i, listed := range forms {
		e := entry("shop", listed)
		e.Tenant = fmt.Sprint("t", i)
		if _, err := l.Add([]suppression.Entry{e}); err != nil {
			t.Fatal(err)
		}
		for _, sent := range forms {
			if _, ok := l.Suppressed(e.Tenant, sent, ""); !ok {
				t.Errorf("%s is listed, %s gets mail", listed, sent)
			}
		}
		if l.Feed(&hard, event(e.Tenant, forms[(i+1)%len(forms)])); l.Metrics().Queue != 1 {
			t.Error("not fed")
		}
		l.StoreFed()
		if es, err := l.Get(e.Tenant, forms[(i+2)%len(forms)]); err != nil || len(es) != 1 || es[0].Kind != suppression.Manual {
			t.Errorf("%s: %+v, %v", listed, es, err)
		}
		if r, err := l.Remove([]suppression.Ref{{Tenant: e.Tenant, Address: forms[(i+3)%len(forms)]}}, "ann", ""); err != nil || r.Removed != 1 {
			t.Errorf("%s: %+v, %v", listed, r, err)
		}
	}
	// Decomposed letters, and what is no domain at all.
	if a, b := l.Key("u@cafe\u0301.example"), l.Key("u@café.example"); a != b || a != "u@xn--caf-dma.example" {
		t.Errorf("%q and %q", a, b)
	}
	if a := l.Key("u@-é.example"); a != message.SuppressionKey("u@-é.example") {
		t.Errorf("%q", a)
	}
}

// TestAFullDisk: an import is refused in time, since a write that fails ends the
// process; what people tell is taken, and a removal.
func TestAFullDisk(t *testing.T) {
	var full error
	l, _ := alone(t, func(o *suppress.Options) { o.Room = func() error { return full } })
	if _, err := l.Add([]suppression.Entry{entry("shop", "a@x.example")}); err != nil {
		t.Fatal(err)
	}
	full = errors.New("100 MiB free")
	if _, err := l.Add([]suppression.Entry{entry("shop", "b@x.example")}); !errors.Is(err, suppression.ErrFull) || !errors.Is(err, full) {
		t.Errorf("add: %v", err)
	}
	if added, err := l.Note(suppress.Told{Kind: suppression.Complaint, Tenant: "shop", Address: "c@x.example"}); !added || err != nil {
		t.Errorf("a complaint: %v %v", added, err)
	}
	if r, err := l.Remove([]suppression.Ref{{Tenant: "shop", Address: "a@x.example"}}, "ann", ""); r.Removed != 1 || err != nil {
		t.Errorf("remove: %+v %v", r, err)
	}
	full = nil
	if r, err := l.Add([]suppression.Entry{entry("shop", "b@x.example")}); r.Added != 1 || err != nil {
		t.Errorf("with room again: %+v %v", r, err)
	}
}

// TestTheFeedIsBounded: with nobody storing, what does not fit is dropped and
// counted, and nobody waits.
func TestTheFeedIsBounded(t *testing.T) {
	l, _ := alone(t, func(o *suppress.Options) { o.Queue = 3 })
	for range 5 {
		l.Feed(&reputation.Verdict{Action: reputation.ActSuppress}, event("shop", "u@x.example"))
	}
	if m := l.Metrics(); m.Queue != 3 || m.MaxQueue != 3 || m.Dropped != 2 {
		t.Errorf("%+v", m)
	}
}

func TestSuppressedAllocatesNothing(t *testing.T) {
	l, s := alone(t, func(*suppress.Options) {})
	if _, err := l.Add([]suppression.Entry{entry("shop", "a@x.example")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the filter is filled", func() bool { return s.Metrics().FilterReady })
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := l.Suppressed("shop", "nobody.here@docomo.ne.jp", "news"); ok {
			t.Error("found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAnswer: what another node answers, and says that it has, changes nothing
// that it should not, and neither hangs nor panics.
func FuzzAnswer(f *testing.F) {
	_, s := alone(f, func(*suppress.Options) {})
	if _, err := s.Add([]suppression.Entry{entry("shop", "a@x.example")}); err != nil {
		f.Fatal(err)
	}
	p, err := s.Pull(nil, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 0, 0})
	f.Add(s.Vector().Append(append([]byte{0, byte(len(p.Parcel))}, p.Parcel...)))
	f.Add([]byte{3, 0, 0})
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := suppress.ParseAnswer(b)
		if err != nil {
			return
		}
		again, err := suppress.ParseAnswer(a.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), a.Bytes()) {
			t.Fatalf("%x becomes %x: %v", b, a.Bytes(), err)
		}
	})
}

// FuzzQuestions asks a node anything.
func FuzzQuestions(f *testing.F) {
	l, _ := alone(f, func(*suppress.Options) {})
	if _, err := l.Add([]suppression.Entry{entry("shop", "a@x.example")}); err != nil {
		f.Fatal(err)
	}
	h := l.Handler()
	f.Add("pull", []byte("v\x00"))
	f.Add("pull", append([]byte("d"), make([]byte, 32)...))
	f.Add("poke", []byte{})
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if strings.ContainsAny(path, "/?# %") || strings.ContainsFunc(path, func(r rune) bool { return r < '!' || r > '~' }) {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://a"+suppress.Path+"/"+path+"?from=b", bytes.NewReader(body)))
		if !slices.Contains([]int{200, 204, 307, 400, 404, 405, 409}, w.Code) {
			t.Fatalf("%s %q: %d %s", path, body, w.Code, w.Body)
		}
	})
}

// BenchmarkSuppressed is the check of one recipient who is on no list.
func BenchmarkSuppressed(b *testing.B) {
	l, s := alone(b, func(*suppress.Options) {})
	var es []suppression.Entry
	for i := range 100_000 {
		es = append(es, entry("shop", "u"+strings.Repeat("x", i%20)+time.Duration(i).String()+"@x.example"))
	}
	if _, err := l.Add(es); err != nil {
		b.Fatal(err)
	}
	eventually(b, "the filter is filled", func() bool { return s.Metrics().FilterReady })
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := l.Suppressed("shop", "nobody.here@docomo.ne.jp", "news"); ok {
			b.Fatal("found")
		}
	}
}

// BenchmarkEverywhere is the time from before Add, which is on disk when it
// returns, to when each of three other nodes has it on its own disk, over
// loopback.
func BenchmarkEverywhere(b *testing.B) {
	c := newCluster(b)
	c.every = time.Second
	dirs := b.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		n := &node{c: c, name: name, mem: vfs.Default, dir: dirs + "/" + name, done: make(chan struct{})}
		n.open(func(o *suppress.Options) { o.ParcelBytes = 0 })
	}
	a := c.node("a")
	eventually(b, "all have met", func() bool {
		for _, n := range c.nodes() {
			if m := n.l.Metrics(); len(m.Peers) != 3 {
				return false
			}
		}
		return true
	})
	var times []time.Duration
	i := 0
	for b.Loop() {
		i++
		start := time.Now()
		r := a.add(entry("shop", time.Duration(i).String()+"@x.example"))
		var all sync.WaitGroup
		for _, n := range c.nodes() {
			all.Go(func() {
				if !n.l.Has(context.Background(), r.At, 10*time.Second) {
					b.Error("not within 10 s")
				}
			})
		}
		all.Wait()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "max-ms")
}
