package fault

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/bench/dns"
	"hikyaku/bench/ledger"
	"hikyaku/bench/sink"
)

// Witness is the receiving side: one mail server for each carrier, each on its
// own loopback address, and the name server that leads there. It writes down
// every connection and every MAIL, on one clock.
type Witness struct {
	// DNS is the name server's address, Port that of all mail servers.
	DNS  string
	Port int

	names  *dns.Server
	sinks  []*sink.Sink
	ledger *ledger.Ledger
	began  time.Time
	conns  atomic.Uint64
	busy   atomic.Int64 // nanoseconds that each message takes
	mu     struct {
		sync.Mutex
		sights   []Sight
		receipts []Receipt
		last     map[string]Sight // by source: its newest MAIL
		counts   map[string]int   // MAILs by carrier
		refuses  map[lane]string  // what is said to MAIL of a source at a carrier
		full     bool
	}
}

// maxSights bounds what is kept: an hour at a thousand a second.
const maxSights = 4_000_000

// Domain is the recipient domain of a carrier of the witness.
func Domain(carrier string) string { return carrier + "." + zone }

// zone has all recipients.
const zone = "fault.test"

// Watch starts a witness for the carriers. Recipients are the ledger's.
func Watch(l *ledger.Ledger, carriers ...string) (_ *Witness, err error) {
	w := &Witness{ledger: l, began: time.Now()}
	w.mu.last, w.mu.counts, w.mu.refuses = map[string]Sight{}, map[string]int{}, map[lane]string{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	var zone strings.Builder
	for i, c := range carriers {
		ip := fmt.Sprintf("127.90.0.%d", i+1)
		s, err := sink.Start(sink.Options{
			Listen: net.JoinHostPort(ip, strconv.Itoa(w.Port)), Name: "mx." + Domain(c), Chunking: true, Discard: true,
			NewSession: func(p sink.Peer) sink.Session { return w.session(c, p) },
		})
		if err != nil {
			return nil, fmt.Errorf("witness for %s: %w", c, err)
		}
		w.sinks = append(w.sinks, s)
		if w.Port == 0 {
			_, port, err := net.SplitHostPort(s.Addr)
			if err == nil {
				w.Port, err = strconv.Atoi(port)
			}
			if err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(&zone, "%s. IN MX 10 mx.%s.\nmx.%s. IN A %s\n", Domain(c), Domain(c), Domain(c), ip)
	}
	if w.names, err = dns.Start(zone.String(), "127.0.0.1:0"); err != nil {
		return nil, err
	}
	w.DNS = w.names.Addr()
	return w, nil
}

// Close ends the mail servers and the name server.
func (w *Witness) Close() error {
	var errs []error
	for _, s := range w.sinks {
		errs = append(errs, s.Close())
	}
	if w.names != nil {
		errs = append(errs, w.names.Close())
	}
	return errors.Join(errs...)
}

// Now is the witness' clock.
func (w *Witness) Now() time.Duration { return time.Since(w.began) }

// Slow makes each message take that long, so that transactions last.
func (w *Witness) Slow(d time.Duration) { w.busy.Store(int64(d)) }

// lane is a source at a carrier.
type lane struct{ carrier, source string }

// Refuse has a carrier say reply to each MAIL of a source from now on; "" has it
// take mail again.
func (w *Witness) Refuse(carrier, source, reply string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.refuses[lane{carrier, source}] = reply; reply == "" {
		delete(w.mu.refuses, lane{carrier, source})
	}
}

func (w *Witness) refusal(carrier, source string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.refuses[lane{carrier, source}]
}

// Sights is all that was seen so far.
func (w *Witness) Sights() ([]Sight, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.full {
		return nil, fmt.Errorf("the witness saw more than the %d things it can keep", maxSights)
	}
	return append([]Sight(nil), w.mu.sights...), nil
}

// Receipts are all recipients that were taken, in the order of time.
func (w *Witness) Receipts() []Receipt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Receipt(nil), w.mu.receipts...)
}

// Last is the newest MAIL from a source; false if there was none.
func (w *Witness) Last(source string) (Sight, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.mu.last[source]
	return s, ok
}

// Count is how many MAILs a carrier has seen.
func (w *Witness) Count(carrier string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.counts[carrier]
}

func (w *Witness) see(s Sight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Kind == Mail {
		w.mu.last[s.Source] = s
		w.mu.counts[s.Carrier]++
	}
	if len(w.mu.sights) >= maxSights {
		w.mu.full = true
		return
	}
	w.mu.sights = append(w.mu.sights, s)
}

// took notes a recipient. Its sights are as many as its receipts, so one bound
// serves for both.
func (w *Witness) took(r Receipt) {
	w.ledger.Received(r.Number, r.At)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.mu.full {
		w.mu.receipts = append(w.mu.receipts, r)
	}
}

func (w *Witness) session(carrier string, p sink.Peer) sink.Session {
	s := &session{w: w, sight: Sight{Conn: w.conns.Add(1), Carrier: carrier}}
	if host, _, err := net.SplitHostPort(p.Remote.String()); err == nil {
		s.sight.Source = host
	}
	return s
}

// session is one connection.
type session struct {
	sink.AcceptAll
	w     *Witness
	sight Sight // what all of its sights share
}

func (s *session) see(k Kind) {
	now := s.sight
	now.Kind, now.At = k, s.w.Now()
	s.w.see(now)
}

func (s *session) Connect() sink.Verdict {
	s.see(Connected)
	return sink.Verdict{}
}

func (s *session) Hello(name string, _ bool) sink.Verdict {
	s.sight.Node, s.sight.Epoch = speaker(name)
	return sink.Verdict{}
}

func (s *session) Mail(string, string) sink.Verdict {
	s.see(Mail)
	return sink.Verdict{Reply: s.w.refusal(s.sight.Carrier, s.sight.Source)}
}

func (s *session) Content(r *sink.Received) sink.Verdict {
	for _, to := range r.To {
		if n, ok := ledger.Number(to); ok {
			s.w.took(Receipt{At: s.w.Now(), Number: n, Conn: s.sight.Conn, Node: s.sight.Node, Carrier: s.sight.Carrier})
		}
	}
	return sink.Verdict{Delay: time.Duration(s.w.busy.Load())}
}

func (s *session) Closed(err error) {
	s.sight.Lost = err != nil
	s.see(Ended)
}

// speaker reads the EHLO name of a node under test: node, epoch, source, "test",
// as in n1.e12.source-3.test. Any other name gives nothing.
func speaker(name string) (node string, epoch int64) {
	parts := strings.Split(name, ".")
	if len(parts) != 4 || parts[3] != "test" {
		return "", 0
	}
	digits, ok := strings.CutPrefix(parts[1], "e")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil {
		return "", 0
	}
	return parts[0], n
}
