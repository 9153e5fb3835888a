package load

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/sink"
)

func prepared(tb testing.TB, m *Mix) *Mix {
	tb.Helper()
	if err := m.Prepare(); err != nil {
		tb.Fatal(err)
	}
	return m
}

// receiver is the other side of a run: it notes what comes, and compares it.
type receiver struct {
	*ledger.Ledger
	mix   *Mix
	began time.Time
	fault func(n int, data []byte) (times int, got []byte) // what an honest receiver would not do
	mu    struct {
		sync.Mutex
		wrong []error
	}
}

func newReceiver(tb testing.TB, m *Mix) *receiver {
	return &receiver{Ledger: ledger.New(prepared(tb, m).Recipients), mix: m, began: time.Now()}
}

func (r *receiver) message(m *sink.Received) string {
	for _, to := range m.To {
		n, ok := ledger.Number(to)
		if !ok || string(r.mix.AppendRecipient(nil, n)) != to {
			n = -1 // nobody of ours
		}
		times, data := 1, m.Data
		if r.fault != nil {
			times, data = r.fault(n, m.Data)
		}
		for range times {
			r.Received(n, time.Since(r.began))
		}
		if err := r.mix.Check(n, data); times > 0 && err != nil {
			r.Altered(n)
			r.mu.Lock()
			r.mu.wrong = append(r.mu.wrong, err)
			r.mu.Unlock()
		}
	}
	return ""
}

// first are the first differences found.
func (r *receiver) first() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.wrong[:min(3, len(r.mu.wrong))]
}

// balanced fails the test unless all was accepted and everything balances.
func (r *receiver) balanced(tb testing.TB, res *Result, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	b := r.Balance()
	if err := b.Err(0); err != nil {
		tb.Error(err, r.first())
	}
	if int(res.Accepted) != r.mix.Recipients || b.Accepted != r.mix.Recipients {
		tb.Errorf("accepted %d by the source, %d by the ledger, want %d; errors %+v", res.Accepted, b.Accepted, r.mix.Recipients, res.Errors)
	}
	if res.InFlight != 0 || res.Connections != 0 || res.Ended != "messages" {
		tb.Errorf("at the end: %d in flight, %d connections, ended by %s", res.InFlight, res.Connections, res.Ended)
	}
	if res.Service.Count() != uint64(res.MessagesAccepted) {
		tb.Errorf("%d latencies of %d messages", res.Service.Count(), res.MessagesAccepted)
	}
}

func startSink(tb testing.TB, o sink.Options) *sink.Sink {
	tb.Helper()
	s, err := sink.Start(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

// mixed has a bit of everything.
func mixed(n int) *Mix {
	return &Mix{Seed: 11, Recipients: n, Spread: []Count{{Recipients: 1, Weight: 5}, {Recipients: 3, Weight: 1}, {Recipients: 20, Weight: 1}}, Sizes: []Share{{Bytes: 1000, Weight: 1, Kind: Plain}, {Bytes: 4096, Weight: 4, Kind: Plain}, {Bytes: 8192, Weight: 1, Kind: Multipart}, {Bytes: 100_000, Weight: 0.2, Kind: Plain}},
		Destinations: Destinations{Spreading: Zipf, N: 100}}
}

func TestSMTPModes(t *testing.T) {
	for name, o := range map[string]Options{
		"plain":                      {Mode: PlainCommands},
		"pipelining":                 {Mode: Pipelining},
		"chunking":                   {Mode: Chunking},
		"chunking, window of one":    {Mode: Chunking, Window: 1},
		"chunking, window of fifty":  {Mode: Chunking, Window: 50, Connections: 2},
		"pipelining, one connection": {Mode: Pipelining, Connections: 1},
		"plain, three a connection":  {Mode: PlainCommands, PerConnection: 3},
		"pipelining, one each":       {Mode: Pipelining, PerConnection: 1},
		"pipelining, seven each":     {Mode: Pipelining, PerConnection: 7},
		"chunking, seven each":       {Mode: Chunking, PerConnection: 7},
		"open loop":                  {Mode: Pipelining, Rate: 20_000, Poisson: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, mixed(3000))
			s := startSink(t, sink.Options{Chunking: true, Message: r.message})
			o.Mix, o.Addrs, o.Ledger, o.Start = r.mix, []string{s.Addr}, r.Ledger, r.began
			res, err := Run(t.Context(), o)
			r.balanced(t, res, err)
			if res.Offered != res.Accepted || len(res.Errors) > 0 {
				t.Errorf("%+v", res)
			}
			if o.PerConnection > 0 && int(res.Connected) < r.mix.Messages()/o.PerConnection {
				t.Errorf("%d connections for %d messages", res.Connected, r.mix.Messages())
			}
			if o.Rate > 0 && res.Intended.Count() != uint64(r.mix.Messages()) {
				t.Errorf("%d latencies from the intended time", res.Intended.Count())
			}
		})
	}
}

// TestNegativeControls: a receiver that does one thing wrong makes the run fail.
func TestNegativeControls(t *testing.T) {
	const victim = 777
	for want, fault := range map[string]func(n int, data []byte) (int, []byte){
		"1 of 1500 accepted were lost: [777]": func(n int, data []byte) (int, []byte) {
			if n == victim {
				return 0, data
			}
			return 1, data
		},
		"1 duplicates, 0 allowed: [777]": func(n int, data []byte) (int, []byte) {
			if n == victim {
				return 2, data
			}
			return 1, data
		},
		"1 arrived with other content than was sent: [777]": func(n int, data []byte) (int, []byte) {
			if n == victim {
				data = bytes.Clone(data)
				data[len(data)-100] ^= 0x01
			}
			return 1, data
		},
		"1 were received that nobody offered: [777]": func(n int, data []byte) (int, []byte) { return 1, data },
	} {
		r := newReceiver(t, &Mix{Recipients: 1500})
		r.fault = fault
		s := startSink(t, sink.Options{Message: r.message})
		res, err := Run(t.Context(), Options{Mix: r.mix, Addrs: []string{s.Addr}, Ledger: r.Ledger, Messages: 1500})
		if err != nil || res.Accepted != 1500 {
			t.Fatalf("%v, %+v", err, res)
		}
		if strings.Contains(want, "nobody offered") { // the mail of another source
			r = newReceiver(t, &Mix{Recipients: 1500})
			r.Received(victim, 0)
		}
		if err := r.Balance().Err(0); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestRefusals: what is refused for now comes again, what is refused for good
// does not, recipient by recipient.
func TestRefusals(t *testing.T) {
	for _, mode := range []Mode{PlainCommands, Pipelining, Chunking} {
		t.Run(string(mode), func(t *testing.T) {
			r := newReceiver(t, mixed(2000))
			var deferred atomic.Int64
			once := make([]atomic.Bool, 2000)
			s := startSink(t, sink.Options{Chunking: true, Message: r.message, Recipient: func(_, to string) string {
				n, _ := ledger.Number(to)
				switch {
				case n%10 == 3:
					return "550 5.1.1 no such user"
				case n%10 == 5 && !once[n].Swap(true):
					deferred.Add(1)
					return "451 4.7.1 greylisted"
				}
				return ""
			}})
			res, err := Run(t.Context(), Options{Mix: r.mix, Mode: mode, Addrs: []string{s.Addr}, Ledger: r.Ledger, Backoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			b := r.Balance()
			if err := b.Err(0); err != nil {
				t.Error(err, r.first())
			}
			if b.Accepted != 1800 || b.Refused != 200 || res.Refused != 200 || res.Retried != deferred.Load() || deferred.Load() != 200 || res.Unknown != 0 || res.InFlight != 0 {
				t.Errorf("%v\n%+v", b, res.Progress)
			}
			if len(res.Errors) != 2 || res.Errors[0].Count != 200 || res.Errors[0].Phase != "rcpt" || res.Errors[0].Enhanced != "4.7.1" || res.Errors[1].First[0] != "5.1.1 no such user" {
				t.Errorf("%+v", res.Errors)
			}
		})
	}
}

func TestWhatIsAlwaysRefusedForNowEndsAsRefused(t *testing.T) {
	for where, o := range map[string]sink.Options{
		"rcpt":    {Recipient: func(string, string) string { return "450 4.2.1 later" }},
		"content": {Message: func(*sink.Received) string { return "452 4.3.1 disk full" }},
	} {
		for _, mode := range []Mode{PlainCommands, Pipelining, Chunking} {
			o.Chunking = true
			s := startSink(t, o)
			l := ledger.New(50)
			res, err := Run(t.Context(), Options{Mix: &Mix{Recipients: 50}, Mode: mode, Addrs: []string{s.Addr}, Ledger: l, Backoff: time.Microsecond, Attempts: 3, Connections: 4})
			if err != nil {
				t.Fatal(err)
			}
			if res.Accepted != 0 || res.Refused != 50 || res.Retried != 100 || l.Balance().Refused != 50 || res.Errors[0].Phase != where || res.Errors[0].Count != 150 {
				t.Errorf("%s, %s: %+v", where, mode, res)
			}
		}
	}
}

func TestCancelEndsAtOnce(t *testing.T) {
	for _, mode := range []Mode{PlainCommands, Pipelining, Chunking} {
		entered, block := make(chan bool, 1000), make(chan bool)
		s := startSink(t, sink.Options{Chunking: true, Message: func(*sink.Received) string {
			entered <- true
			<-block // a server that does not answer
			return ""
		}})
		ctx, cancel := context.WithCancel(t.Context())
		l := ledger.New(100_000)
		done := make(chan *Result, 1)
		go func() {
			res, err := Run(ctx, Options{Mix: &Mix{Recipients: 100_000}, Mode: mode, Addrs: []string{s.Addr}, Ledger: l, Connections: 10})
			if err != nil {
				t.Error(err)
			}
			done <- res
		}()
		for range 10 {
			<-entered
		}
		at := time.Now()
		cancel()
		res := <-done
		if took := time.Since(at); took > time.Second || res.Ended != "cancelled" || res.Accepted != 0 || res.Unknown < 10 || res.InFlight != 0 {
			t.Errorf("%s: took %v: %+v", mode, took, res)
		}
		close(block)
	}
}

func TestDurationAndMessagesBoundARun(t *testing.T) {
	s := startSink(t, sink.Options{})
	at := time.Now()
	res, err := Run(t.Context(), Options{Mix: &Mix{Recipients: 50_000_000}, Addrs: []string{s.Addr}, Duration: 200 * time.Millisecond})
	if took := time.Since(at); err != nil || res.Ended != "duration" || res.Accepted == 0 || res.Accepted != res.Offered || took > 2*time.Second {
		t.Errorf("took %v: %v %+v", took, err, res)
	}
	if res, err = Run(t.Context(), Options{Mix: &Mix{Recipients: 50_000_000}, Addrs: []string{s.Addr}, Messages: 123}); err != nil || res.Accepted != 123 || res.Ended != "messages" {
		t.Errorf("%v %+v", err, res)
	}
}

func TestNobodyListening(t *testing.T) {
	for _, p := range []Protocol{SMTP, HTTP} {
		at := time.Now()
		_, err := Run(t.Context(), Options{Mix: &Mix{Recipients: 10}, Protocol: p, Addrs: []string{"127.0.0.1:1"}, GiveUp: 50 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "no connection to 127.0.0.1:1 for 50ms") || time.Since(at) > 5*time.Second {
			t.Errorf("%v", err)
		}
	}
}

func TestServerWithoutTheExtension(t *testing.T) {
	s := startSink(t, sink.Options{Extensions: []string{"SIZE 1000000"}})
	for _, mode := range []Mode{Pipelining, Chunking} {
		_, err := Run(t.Context(), Options{Mix: &Mix{Recipients: 10}, Mode: mode, Addrs: []string{s.Addr}})
		if err == nil || !strings.Contains(err.Error(), "does not offer "+strings.ToUpper(string(mode))) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() Options { return Options{Mix: &Mix{Recipients: 10}, Addrs: []string{"x:1"}} }
	for want, change := range map[string]func(*Options){
		"no mix":                func(o *Options) { o.Mix = nil },
		"no address":            func(o *Options) { o.Addrs = nil },
		"protocol \"odd\"":      func(o *Options) { o.Protocol = "odd" },
		"mode \"odd\"":          func(o *Options) { o.Mode = "odd" },
		"0 to 10000000":         func(o *Options) { o.Rate = -1 },
		"less than nothing":     func(o *Options) { o.Messages = -1 },
		"ledger is too small":   func(o *Options) { o.Ledger = ledger.New(9) },
		"template is for http":  func(o *Options) { o.Mix.Template = &Template{} },
		"template needs one":    func(o *Options) { o.Protocol = HTTPTemplate },
		"one recipient a":       func(o *Options) { o.Protocol, o.Mix.PerMessage = HTTP, 2 },
		"by SMTP at most":       func(o *Options) { o.Mix.PerMessage = 5000 },
		"2 tenants that log in": func(o *Options) { o.Mix.Tenants, o.Connections = []Tenant{{Weight: 1, User: "a"}, {Weight: 1}}, 1 },
		"recipients 0":          func(o *Options) { o.Mix.Recipients = 0 },
	} {
		o := good()
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := New(good()); err != nil {
		t.Error(err)
	}
}

// BenchmarkSMTPSource is the bare limit of this source and bench/sink in one
// process: 4 KiB, nobody between.
func BenchmarkSMTPSource(b *testing.B) {
	for _, mode := range []Mode{PlainCommands, Pipelining, Chunking} {
		b.Run(fmt.Sprintf("%s/20-connections", mode), func(b *testing.B) { benchSource(b, Options{Mode: mode, Connections: 20}) })
	}
	b.Run("chunking/window-20", func(b *testing.B) { benchSource(b, Options{Mode: Chunking, Window: 20, Connections: 4}) })
	b.Run("pipelining/1000-connections", func(b *testing.B) { benchSource(b, Options{Connections: 1000}) })
}

func benchSource(b *testing.B, o Options) {
	s := startSink(b, sink.Options{Chunking: true, Message: func(*sink.Received) string { return "" }})
	o.Mix, o.Addrs = &Mix{Recipients: b.N}, []string{s.Addr}
	o.Ledger = ledger.New(b.N)
	src, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	before := cpuTime()
	b.ResetTimer()
	res, err := src.Run(b.Context())
	if err != nil || res.Accepted != int64(b.N) {
		b.Fatalf("%v %+v", err, res)
	}
	b.ReportMetric(float64(b.N)/res.Elapsed.Seconds(), "msg/s")
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/msg")
}
