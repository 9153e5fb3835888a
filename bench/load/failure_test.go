package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/sink"
)

// breaker is a receiver that ends the connection in one phase, once for each
// fifth message.
type breaker struct {
	sink.AcceptAll
	r       *receiver
	phase   string
	verdict sink.Verdict
	broken  *sync.Map
	to      string
}

func (b *breaker) at(phase string) sink.Verdict {
	n, ok := ledger.Number(b.to)
	if !ok || phase != b.phase || n%5 != 0 {
		return sink.Verdict{}
	}
	if _, again := b.broken.LoadOrStore(n, true); again {
		return sink.Verdict{}
	}
	return b.verdict
}

func (b *breaker) Recipient(to string) sink.Verdict { b.to = to; return b.at("rcpt") }
func (b *breaker) Data() sink.Verdict               { return b.at("data") }
func (b *breaker) Content(m *sink.Received) sink.Verdict {
	v := b.at("content")
	if v.Reply == "" { // who says 421 has not taken it; who says nothing has
		b.r.message(m)
	}
	return v
}

// TestLostConnections: what was lost before its content was sent comes again and
// is never double; what was lost after it is unknown, or, where asked for, comes
// again and may be double.
func TestLostConnections(t *testing.T) {
	const n = 400
	cases := map[string]sink.Verdict{"reset": {Reset: true}, "closed": {Drop: true}, "421": {Reply: "421 4.3.2 going down", Close: true}}
	for _, mode := range []Mode{PlainCommands, Pipelining, Chunking} {
		for _, phase := range []string{"rcpt", "data", "content"} {
			for how, verdict := range cases {
				for _, resend := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%s/resend=%v", mode, phase, how, resend), func(t *testing.T) {
						r := newReceiver(t, &Mix{Recipients: n})
						var broken sync.Map
						s := startSink(t, sink.Options{Chunking: true, NewSession: func(sink.Peer) sink.Session {
							return &breaker{r: r, phase: phase, verdict: verdict, broken: &broken}
						}})
						res, err := Run(t.Context(), Options{Mix: r.mix, Mode: mode, Addrs: []string{s.Addr}, Ledger: r.Ledger, Connections: 4, Resend: resend, Backoff: time.Microsecond, Attempts: 100})
						if err != nil {
							t.Fatal(err)
						}
						b := r.Balance()
						if err := b.Err(int(res.Resent)); err != nil {
							t.Error(err, r.first())
						}
						if res.Accepted+res.Refused+res.Unknown != n || res.InFlight != 0 || res.Offered != n || res.Refused != 0 {
							t.Errorf("%+v", res.Progress)
						}
						switch safe := mode != Chunking && (phase != "content" || how == "421"); {
						case safe && (res.Accepted != n || res.Resent != 0):
							t.Errorf("nothing had been sent, and yet: %+v", res.Progress)
						case !safe && resend && res.Accepted != n:
							t.Errorf("not all in the end: %+v", res.Progress)
						case !safe && !resend && (res.Unknown == 0 || b.Unknown == 0) && how != "421":
							t.Errorf("nothing unknown: %+v", res.Progress)
						}
					})
				}
			}
		}
	}
}

// api answers as the injection API does, after what fault says first.
func api(t *testing.T, m *Mix, fault func(call int64, w http.ResponseWriter) (done bool)) (addr string, seen *atomic.Int64, l *ledger.Ledger) {
	t.Helper()
	seen = new(atomic.Int64)
	l = ledger.New(prepared(t, m).Recipients)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/messages" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		if fault(seen.Add(1), w) {
			return
		}
		var accepted []string
		for _, part := range strings.Split(string(body), `{"email":"r`)[1:] {
			address, _, _ := strings.Cut("r"+part, `"`)
			accepted = append(accepted, fmt.Sprintf(`{"id":"x-1","email":%q}`, address))
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"job":"j","messages":[%s],"rejected":[]}`+"\n", strings.Join(accepted, ","))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), seen, l
}

func TestHTTPFaults(t *testing.T) {
	status := func(code int, text string) func(int64, http.ResponseWriter) bool {
		return func(call int64, w http.ResponseWriter) bool {
			if call%3 == 0 {
				http.Error(w, text, code)
				return true
			}
			return false
		}
	}
	unknown503 := status(503, `{"error":"the message may or may not have been accepted; ask again","code":"unavailable"}`)
	hangUp := func(call int64, w http.ResponseWriter) bool {
		if call%3 == 0 {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	for name, c := range map[string]struct {
		fault                              func(int64, http.ResponseWriter) bool
		o                                  Options
		accepted, refused, unknown, resent int64 // of 90; -1: some
	}{
		"none":                    {func(int64, http.ResponseWriter) bool { return false }, Options{}, 90, 0, 0, 0},
		"one request each":        {func(int64, http.ResponseWriter) bool { return false }, Options{PerConnection: 1}, 90, 0, 0, 0},
		"too many":                {status(429, "slow down"), Options{}, 90, 0, 0, 0},
		"no room":                 {status(503, `{"error":"the spool is full"}`), Options{}, 90, 0, 0, 0},
		"bad field":               {status(422, `{"error":"bad"}`), Options{}, -1, -1, 0, 0},
		"unknown":                 {unknown503, Options{}, -1, 0, -1, 0},
		"unknown, asked again":    {unknown503, Options{Resend: true}, 90, 0, 0, -1},
		"unknown, with a key":     {unknown503, Options{Resend: true, Idempotent: true}, 90, 0, 0, 0},
		"hung up":                 {hangUp, Options{}, -1, 0, -1, 0},
		"hung up, asked again":    {hangUp, Options{Resend: true}, 90, 0, 0, -1},
		"an answer of other kind": {status(202, `{"hello":1}`), Options{}, -1, 0, -1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Mix{Recipients: 90, PerMessage: 3}
			addr, _, l := api(t, m, c.fault)
			o := c.o
			o.Mix, o.Protocol, o.Addrs, o.Ledger, o.Connections, o.Backoff, o.Attempts = m, HTTPBatch, []string{addr}, l, 3, time.Millisecond, 50
			res, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for what, v := range map[string][2]int64{"accepted": {res.Accepted, c.accepted}, "refused": {res.Refused, c.refused}, "unknown": {res.Unknown, c.unknown}, "resent": {res.Resent, c.resent}} {
				if v[1] >= 0 && v[0] != v[1] || v[1] < 0 && v[0] == 0 {
					t.Errorf("%s: %d, want %d: %+v", what, v[0], v[1], res)
				}
			}
			if res.Accepted+res.Refused+res.Unknown != 90 || l.Balance().Answered != int(res.Accepted) || res.InFlight != 0 {
				t.Errorf("%+v", res.Progress)
			}
		})
	}
}

// TestHTTPCancel: a server that takes requests and never answers.
func TestHTTPCancel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	entered := make(chan bool, 100)
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the client hangs up
				defer c.Close()
				_, _ = bufio.NewReader(c).ReadString('\n')
				entered <- true
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	s, err := New(Options{Mix: &Mix{Recipients: 100}, Protocol: HTTP, Addrs: []string{l.Addr().String()}, Connections: 5})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	var res *Result
	wg.Go(func() { res, err = s.Run(ctx) })
	for range 5 {
		<-entered
	}
	if p := s.Progress(); p.InFlight != 5 || p.Connections != 5 || p.Offered != 5 {
		t.Errorf("while it runs: %+v", p)
	}
	at := time.Now()
	cancel()
	wg.Wait()
	if took := time.Since(at); took > time.Second || err != nil || res.Ended != "cancelled" || res.Unknown != 5 {
		t.Errorf("took %v: %v %+v", took, err, res)
	}
}

func TestAnswers(t *testing.T) {
	read := func(body string) (yesses, nos []int, err error) {
		err = readAnswer([]byte(body), func(n int, v verdict) bool {
			if v == yes {
				yesses = append(yesses, n)
			} else {
				nos = append(nos, n)
			}
			return n < 100
		})
		return yesses, nos, err
	}
	a, b, err := read(`{"job":"a\"messages\":[","messages":[{"id":"x","email":"r1@a.test"}, {"email":"r2@b","id":"y"}],"rejected":[{"email":"r3@c","error":"say \"}\" \\","path":"to[2]"}]}`)
	if fmt.Sprint(a, b, err) != "[1 2] [3] <nil>" {
		t.Error(a, b, err)
	}
	for _, bad := range []string{
		``, `{}`, `{"messages":[`, `{"messages":[]}`, `{"messages":[{"email":"r1@a"}],"rejected":[`, `{"messages":[{"email":"r1`, `{"messages":[1],"rejected":[]}`,
		`{"messages":[{"id":"x"}],"rejected":[]}`, `{"messages":[{"email":"nobody@a"}],"rejected":[]}`, `{"messages":[{"email":"r100@a"}],"rejected":[]}`,
	} {
		if _, _, err := read(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"job":"a","messages":[{"id":"x","email":"r1@a.test"}],"rejected":[{"email":"r3@c","error":"\"}"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		calls := 0
		_ = readAnswer(body, func(n int, v verdict) bool {
			if calls++; n < 0 || v != yes && v != no || calls > len(body) {
				t.Errorf("%d, %v", n, v)
			}
			return true
		})
	})
}

func BenchmarkAnswer(b *testing.B) {
	var body strings.Builder
	body.WriteString(`{"job":"j","messages":[`)
	for n := range 5000 {
		if n > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"id":"01jd3q8v5x2m9k7c4t6r0w1yza-%d","email":"r%d@d%d.test"}`, n, n, n%50)
	}
	body.WriteString(`],"rejected":[]}`)
	text := []byte(body.String())
	for b.Loop() {
		if err := readAnswer(text, func(int, verdict) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5000, "ns/recipient")
}
