package load

import (
	"context"
	"math"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/sink"
)

// pipes is a listener in memory, so that a bubble of virtual time holds the
// client, the network and the server.
type pipes struct {
	conns chan net.Conn
	done  chan bool
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan bool)} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// server answers content after a delay that depends on the time of the run.
type server struct {
	sink.AcceptAll
	delay func() time.Duration
}

func (s *server) Content(*sink.Received) sink.Verdict { return sink.Verdict{Delay: s.delay()} }

// inBubble runs a source against a server of that kind in virtual time.
func inBubble(t *testing.T, o Options, delay func(since time.Duration) time.Duration) *Result {
	t.Helper()
	p := newPipes()
	began := time.Now()
	s, err := sink.Start(sink.Options{Listener: p, Chunking: true, NewSession: func(sink.Peer) sink.Session {
		return &server{delay: func() time.Duration { return delay(time.Since(began)) }}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o.Addrs, o.Dial = []string{"pipe"}, p.dial
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// stall is a server that answers within 2 ms, but says nothing at all in the
// sixth second.
func stall(since time.Duration) time.Duration {
	if since >= 5*time.Second && since < 6*time.Second {
		return 6*time.Second - since
	}
	return 2 * time.Millisecond
}

// TestStallShowsInIntendedTime is the proof against coordinated omission: 100
// messages a second for ten seconds, one of which the server sleeps. A tenth of
// the users waited, half a second on average; who asks the connection sees one
// slow message of a thousand.
func TestStallShowsInIntendedTime(t *testing.T) {
	// Not Chunking: a pipe in memory has no buffer for the replies under way.
	for _, mode := range []Mode{PlainCommands, Pipelining} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{Mix: &Mix{Recipients: 1000}, Mode: mode, Rate: 100, Connections: 1}
				res := inBubble(t, o, stall)
				in, naive := res.Intended, res.Service
				if res.Accepted != 1000 || in.Count() != 1000 || res.Shed != 0 {
					t.Fatalf("%+v", res)
				}
				// Arrivals in the stalled second waited for its rest, those behind them for
				// the queue to be worked off: together 12.5 % of all.
				if in.Quantile(0.5) > 5*time.Millisecond || in.Quantile(0.95) < 400*time.Millisecond || in.Max() < 990*time.Millisecond {
					t.Errorf("from the intended time: %+v", in.Summary())
				}
				if naive.Quantile(0.99) > 10*time.Millisecond || naive.Max() < 990*time.Millisecond {
					t.Errorf("from the first byte: %+v", naive.Summary())
				}
				if res.LongestQueue < 90 || res.LongestQueue > 110 || res.Elapsed < 9990*time.Millisecond || res.Elapsed > 10100*time.Millisecond {
					t.Errorf("%+v", res.Progress)
				}
			})
		})
	}
}

// With connections to spare, those that came during the stall were sent at
// their time, and both clocks agree.
func TestStallWithConnectionsToSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		res := inBubble(t, Options{Mix: &Mix{Recipients: 1000}, Mode: PlainCommands, Rate: 100, Connections: 200}, stall)
		if a, b := res.Service.Quantile(0.95), res.Intended.Quantile(0.95); a < 400*time.Millisecond || b-a > 5*time.Millisecond {
			t.Errorf("%v, %v", a, b)
		}
	})
}

func TestQueueIsBoundedAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := ledger.New(1000)
		res := inBubble(t, Options{Mix: &Mix{Recipients: 1000}, Rate: 100, Connections: 1, Queue: 20, Ledger: l}, stall)
		// Some hundred arrive while nothing moves; twenty may wait.
		if res.Shed < 70 || res.Shed > 90 || res.Offered+res.Shed != 1000 || res.Accepted != res.Offered || l.Balance().Offered != int(res.Offered) {
			t.Errorf("%+v", res.Progress)
		}
	})
}

func TestRateIsMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := func(time.Duration) time.Duration { return 0 }
		res := inBubble(t, Options{Mix: &Mix{Recipients: 5000}, Rate: 500, Connections: 3}, quick)
		if took := res.Elapsed; took < 9990*time.Millisecond || took > 10*time.Second || res.Intended.Max() > time.Millisecond {
			t.Errorf("5000 at 500/s took %v: %+v", took, res.Intended.Summary())
		}
		res = inBubble(t, Options{Mix: &Mix{Recipients: 5000}, Rate: 500, Poisson: true, Connections: 3, Duration: 4 * time.Second}, quick)
		if res.Ended != "duration" || math.Abs(float64(res.Accepted)-2000) > 4*math.Sqrt(2000) || res.Elapsed != 4*time.Second {
			t.Errorf("%v: %+v", res.Ended, res.Progress)
		}
	})
}

// TestPoissonGaps compares the gaps with the exponential distribution (its mean
// and its deviation are one over the rate) and with themselves.
func TestPoissonGaps(t *testing.T) {
	const n, rate = 100_000, 1000.0
	m := prepared(t, &Mix{Seed: 4, Recipients: n})
	gaps := func() (list []float64) {
		c := newCursor(&cursor{mix: m, end: n, rate: rate, poisson: true, bound: n})
		last := time.Duration(0)
		for {
			p, ok, _ := c.take(0, false)
			if !ok {
				return list
			}
			list = append(list, (p.at - last).Seconds())
			last = p.at
		}
	}
	a, b := gaps(), gaps()
	sum, square := 0.0, 0.0
	for i := range a {
		if a[i] != b[i] {
			t.Fatal("the arrivals differ from run to run")
		}
		sum += a[i]
		square += a[i] * a[i]
	}
	mean := sum / n
	deviation := math.Sqrt(square/n - mean*mean)
	if math.Abs(mean*rate-1) > 0.02 || math.Abs(deviation*rate-1) > 0.02 {
		t.Errorf("mean %v, deviation %v, want both %v", mean, deviation, 1/rate)
	}
}

// Each tenant's cursor sees the arrivals of the whole run at their times.
func TestTenantsShareTheArrivals(t *testing.T) {
	m := prepared(t, &Mix{Recipients: 1000, Tenants: []Tenant{{Name: "a", Weight: 4, User: "a"}, {Name: "b", Weight: 1, User: "b"}}})
	seen := map[int]bool{}
	for i := range m.Tenants {
		c := newCursor(&cursor{mix: m, end: 1000, rate: 100, bound: 1000, login: &m.Tenants[i]})
		for {
			p, ok, _ := c.take(0, false)
			if !ok {
				break
			}
			if seen[p.i] || m.Message(p.i).Tenant != &m.Tenants[i] || p.at != time.Duration(p.i)*10*time.Millisecond {
				t.Fatalf("message %d at %v, tenant %s", p.i, p.at, m.Message(p.i).Tenant.Name)
			}
			seen[p.i] = true
		}
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000", len(seen))
	}
}

// Waits before further attempts double up to their bound, in virtual time.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		var mu sync.Mutex
		var at []time.Duration
		began := time.Now()
		s, err := sink.Start(sink.Options{Listener: p, Recipient: func(string, string) string {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
			return "450 4.2.1 later"
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		res, err := Run(t.Context(), Options{Mix: &Mix{Recipients: 1}, Addrs: []string{"pipe"}, Dial: p.dial, Connections: 1, Attempts: 10, Backoff: 100 * time.Millisecond})
		if err != nil || res.Refused != 1 || res.Retried != 9 || len(at) != 10 {
			t.Fatalf("%v %+v, attempts at %v", err, res, at)
		}
		for i := range 9 {
			wait, least := at[i+1]-at[i], min(100*time.Millisecond<<i, maxBackoff)
			if wait < least || wait > least*5/4+time.Millisecond {
				t.Errorf("wait %d: %v, want %v and up to a quarter", i+1, wait, least)
			}
		}
	})
}
