package mx_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
	"hikyaku/node/mx"
	"hikyaku/spool/message"
)

// The cache in virtual time: used until the TTL has passed and not a moment
// longer, within the bounds.
func TestTTL(t *testing.T) {
	s := start(t, `
test.          SOA ns.test. hostmaster.test. 1 3600 600 86400 120
a.test.    100 MX 10 mx.test.
zero.test.   0 MX 10 mx.test.
long.test. 9999999 MX 10 mx.test.
short.test. 3600 CNAME a.test.
chain.test. 30 CNAME a.test.
mx.test. 9999999 A 192.0.2.1
`)
	for _, c := range []struct {
		name string
		life time.Duration
	}{
		{"a.test", 100 * time.Second},
		{"zero.test", 10 * time.Second},
		{"long.test", 30 * time.Minute},
		{"short.test", 100 * time.Second},
		{"chain.test", 30 * time.Second},
		{"gone.test", time.Minute}, // the SOA says 120 s
	} {
		r := resolver(t, mx.Config{MinTTL: 10 * time.Second, MaxTTL: 30 * time.Minute, NegativeTTL: time.Minute}, s)
		ask := func(at time.Duration) uint64 {
			a, _ := r.Resolve(t.Context(), c.name, mx.Options{Now: t0.Add(at), Addresses: "ipv4"})
			if a != nil && at == 0 && a.Until.Sub(t0) != c.life {
				t.Errorf("%s: good for %v, want %v", c.name, a.Until.Sub(t0), c.life)
			}
			return s.Asked(c.name, "MX")
		}
		if n := ask(0); n != 1 {
			t.Errorf("%s: asked %d times at first", c.name, n)
		}
		if n := ask(c.life - 1); n != 1 {
			t.Errorf("%s: asked again before %v", c.name, c.life)
		}
		if n := ask(c.life); n != 2 {
			t.Errorf("%s: not asked again after %v", c.name, c.life)
		}
		if m := r.Metrics(); m.CacheHits == 0 || m.CacheMisses != m.Queries || m.Entries == 0 {
			t.Errorf("metrics %+v", m)
		}
	}
}

// A failure is remembered for seconds, not longer.
func TestFailureIsForgottenSoon(t *testing.T) {
	s := start(t, zone)
	s.SetFault("one.test", "MX", &dns.Fault{Rcode: wire.RcodeServerFailure})
	r := resolver(t, mx.Config{}, s)
	for i := range 10 {
		r.Resolve(t.Context(), "one.test", mx.Options{Now: t0.Add(time.Duration(i) * 100 * time.Millisecond)})
	}
	if n := s.Asked("one.test", "MX"); n != 3 {
		t.Errorf("asked %d times, want one round of 3", n)
	}
	s.SetFault("one.test", "MX", nil)
	if a, reply := r.Resolve(t.Context(), "one.test", mx.Options{Now: t0.Add(10 * time.Second)}); a == nil {
		t.Errorf("still failing: %s", reply)
	}
	if m := r.Metrics(); m.ServFail != 3 {
		t.Errorf("metrics %+v", m)
	}
}

// The cache never holds more than it has room for.
func TestCacheBound(t *testing.T) {
	s := start(t, "test. SOA ns.test. h.test. 1 3600 600 86400 60\n*.wild.test. MX 10 mx.test.\nmx.test. A 192.0.2.1\n")
	r := resolver(t, mx.Config{CacheEntries: 10}, s)
	for i := range 50 {
		if _, reply := r.Resolve(t.Context(), fmt.Sprintf("d%d.wild.test", i), mx.Options{Now: t0}); reply != nil {
			t.Fatal(reply)
		}
	}
	m := r.Metrics()
	if m.Entries > 10 || m.Evictions < 40 {
		t.Errorf("%d entries, %d evictions", m.Entries, m.Evictions)
	}
	if n := s.Asked("mx.test", "A"); n != 1 {
		t.Errorf("what is used all the time was evicted: asked %d times", n)
	}
}

// Many callers with one question send it once; one that gives up does not take
// the answer from the others.
func TestSingleFlight(t *testing.T) {
	s := start(t, zone)
	s.SetFault("one.test", "MX", &dns.Fault{Delay: 100 * time.Millisecond})
	r := resolver(t, mx.Config{}, s)
	impatient, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 50 {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = impatient
		}
		wg.Go(func() {
			got := show(r.Resolve(ctx, "one.test", mx.Options{Now: t0}))
			if ctx == impatient && strings.HasPrefix(got, "451 ") {
				return
			}
			if got != "10 mx1.one.test 192.0.2.1 | mx1.one.test" {
				t.Errorf("got %s", got)
			}
		})
	}
	for s.Asked("one.test", "MX") == 0 { // until the question is under way
		runtime.Gosched()
	}
	cancel()
	wg.Wait()
	if n := s.Asked("one.test", "MX"); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
}

// No more questions are under way than there are slots, and a caller can give
// up while it waits for one.
func TestSlots(t *testing.T) {
	s := start(t, zone)
	s.SetFault("*", "", &dns.Fault{Delay: time.Hour})
	r := resolver(t, mx.Config{MaxInFlight: 2, Timeout: time.Minute}, s)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if a, reply := r.Resolve(ctx, fmt.Sprintf("d%d.test", i), mx.Options{Now: t0}); a != nil || reply.Class() != message.Temporary {
				t.Errorf("got %s", show(a, reply))
			}
		})
	}
	for s.Queries() < 2 {
		runtime.Gosched()
	}
	if m := r.Metrics(); m.InFlight != 2 || m.MaxInFlight != 2 {
		t.Errorf("%d of %d in flight", m.InFlight, m.MaxInFlight)
	}
	cancel()
	wg.Wait()
	if n := s.Queries(); n != 2 {
		t.Errorf("%d questions were sent", n)
	}
	r.Close()
	if m := r.Metrics(); m.InFlight != 0 {
		t.Errorf("%d in flight after Close", m.InFlight)
	}
	if _, reply := r.Resolve(t.Context(), "late.test", mx.Options{Now: t0}); reply == nil || reply.Class() != message.Temporary {
		t.Errorf("after Close: %v", reply)
	}
}
