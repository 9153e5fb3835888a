package sink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how the sink behaves. The zero value accepts everything on a
// free loopback port.
type Options struct {
	Listen     string       // default 127.0.0.1:0
	Listener   net.Listener // used instead of Listen; the sink closes it
	Name       string       // in the greeting; default sink.test
	Extensions []string     // EHLO lines; default PIPELINING, 8BITMIME, SMTPUTF8, SIZE, DSN, ENHANCEDSTATUSCODES
	Chunking   bool         // offer CHUNKING and take BDAT
	TLS        *tls.Config  // offer STARTTLS

	NewSession func(Peer) Session                   // who decides, never nil; if not set, the two hooks below
	Recipient  func(from, to string) (reply string) // "" or "250 …" accepts
	Message    func(*Received) (reply string)       // "" accepts

	// Discard counts content instead of keeping it: Received.Data is nil,
	// unless Want, asked with the envelope before the content comes, says yes.
	Discard bool
	Want    func(*Received) bool

	MaxLine        int           // bytes of a command line with its CRLF; default 2048
	MaxRecipients  int           // of a transaction; default 10,000
	MaxMessage     int           // bytes; default what the SIZE extension says, or 100 MiB
	MaxConnections int           // at once; default 20,000
	Limit          *Limit        // a further bound on connections, shared with other sinks
	Idle           time.Duration // silence allowed in any phase, up to a quarter more; default five minutes
}

const defaultMaxMessage = 100 << 20

// withDefaults fills in what is not set.
func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Name == "" {
		o.Name = "sink.test"
	}
	if o.Extensions == nil {
		o.Extensions = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE " + strconv.Itoa(defaultMaxMessage), "DSN", "ENHANCEDSTATUSCODES"}
	}
	if o.NewSession == nil {
		recipient, message := o.Recipient, o.Message
		o.NewSession = func(Peer) Session { return &hooks{recipient: recipient, message: message} }
	}
	if o.MaxLine <= 0 {
		o.MaxLine = 2048
	}
	if o.MaxRecipients <= 0 {
		o.MaxRecipients = 10_000
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 20_000
	}
	if o.Idle <= 0 {
		o.Idle = 5 * time.Minute // RFC 5321 4.5.3.2.7
	}
	return o
}

// A Limit bounds the connections of several sinks together.
type Limit struct {
	most int64
	open atomic.Int64
}

// NewLimit makes a bound of so many connections at once.
func NewLimit(connections int) *Limit { return &Limit{most: int64(connections)} }

// Open is how many connections there are now.
func (l *Limit) Open() int { return int(l.open.Load()) }

func (l *Limit) take() bool {
	if l == nil {
		return true
	}
	if l.open.Add(1) > l.most {
		l.open.Add(-1)
		return false
	}
	return true
}

func (l *Limit) release() {
	if l != nil {
		l.open.Add(-1)
	}
}

// Metrics is what a sink has counted since its start.
type Metrics struct {
	Messages     int64 // accepted
	Recipients   int64 // of accepted messages
	Bytes        int64 // of accepted messages, dot-stuffing undone
	Connections  int64 // accepted by a session
	Open         int64 // connections now
	Peak         int64 // most connections at once
	Full         int64 // connections refused by MaxConnections or Limit
	AcceptErrors int64
}

// Sink is a running server.
type Sink struct {
	Addr string

	o      Options
	l      net.Listener
	offers offers
	most   int // bytes of a message
	done   chan struct{}
	wg     sync.WaitGroup
	count  struct{ messages, recipients, bytes, acceptErrors atomic.Int64 }
	mu     struct {
		sync.Mutex
		conns             map[net.Conn]struct{}
		total, peak, full int64
		closed            bool
	}
}

// Start listens and serves until Close.
func Start(o Options) (*Sink, error) {
	o = o.withDefaults()
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", o.Listen); err != nil {
			return nil, fmt.Errorf("sink: %w", err)
		}
	}
	s := &Sink{Addr: l.Addr().String(), o: o, l: l, done: make(chan struct{})}
	s.offers = newOffers(o)
	s.most = s.offers.size
	if o.MaxMessage > 0 && (s.most == 0 || o.MaxMessage < s.most) {
		s.most = o.MaxMessage
	}
	if s.most == 0 {
		s.most = defaultMaxMessage
	}
	s.mu.conns = map[net.Conn]struct{}{}
	s.wg.Go(s.accept)
	return s, nil
}

// Close ends all connections and waits for them, and for hooks that are still
// deciding.
func (s *Sink) Close() error {
	err := s.l.Close()
	s.mu.Lock()
	if !s.mu.closed {
		s.mu.closed = true
		close(s.done)
	}
	for c := range s.mu.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// Metrics is a snapshot of the counters.
func (s *Sink) Metrics() Metrics {
	m := Metrics{
		Messages:     s.count.messages.Load(),
		Recipients:   s.count.recipients.Load(),
		Bytes:        s.count.bytes.Load(),
		AcceptErrors: s.count.acceptErrors.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Connections, m.Open, m.Peak, m.Full = s.mu.total, int64(len(s.mu.conns)), s.mu.peak, s.mu.full
	return m
}

// accept takes connections until the listener is closed. Other errors pass
// (no descriptors left, a connection gone before it was taken), so it waits a
// little and goes on.
func (s *Sink) accept() {
	const longest = time.Second
	pause := time.Duration(0)
	for {
		c, err := s.l.Accept()
		if err == nil {
			pause = 0
			s.admit(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.count.acceptErrors.Add(1)
		pause = min(max(2*pause, 5*time.Millisecond), longest)
		t := time.NewTimer(pause)
		select {
		case <-s.done:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// admit serves a connection in its own goroutine, if there is room for it.
func (s *Sink) admit(c net.Conn) {
	s.mu.Lock()
	closed := s.mu.closed
	room := !closed && len(s.mu.conns) < s.o.MaxConnections && s.o.Limit.take()
	switch {
	case room:
		s.mu.conns[c] = struct{}{}
		s.mu.total++
		s.mu.peak = max(s.mu.peak, int64(len(s.mu.conns)))
	case !closed:
		s.mu.full++
	}
	s.mu.Unlock()
	if !room {
		if !closed {
			// A new socket has room for one line, so this does not block;
			// the deadline is for listeners that are not TCP.
			c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = c.Write(s.offers.full)
		}
		c.Close()
		return
	}
	s.wg.Go(func() {
		defer s.leave(c)
		serve(s, c)
	})
}

func (s *Sink) leave(c net.Conn) {
	c.Close()
	s.mu.Lock()
	delete(s.mu.conns, c)
	s.mu.Unlock()
	s.o.Limit.release()
}

// accepted counts one message.
func (s *Sink) accepted(r *Received) {
	s.count.messages.Add(1)
	s.count.recipients.Add(int64(len(r.To)))
	s.count.bytes.Add(int64(r.Size))
}

// offers is what the sink announces, ready to be written.
type offers struct {
	words          map[string]bool // extensions, in upper case
	size           int             // of the SIZE extension; 0 none
	greeting       string
	plain, secured string // replies to EHLO without TLS and with it
	hello          string // reply to HELO
	full           []byte // reply to a connection too many
}

func newOffers(o Options) offers {
	f := offers{words: map[string]bool{}}
	lines := append([]string{o.Name}, o.Extensions...)
	if o.Chunking {
		lines = append(lines, "CHUNKING")
	}
	for _, l := range lines[1:] {
		word, params, _ := strings.Cut(strings.ToUpper(l), " ")
		f.words[word] = true
		if n, err := strconv.Atoi(params); word == "SIZE" && err == nil && n > 0 {
			f.size = n
		}
	}
	f.greeting = "220 " + o.Name + " ESMTP"
	f.hello = "250 " + o.Name
	f.full = []byte("421 4.3.2 " + o.Name + " too many connections\r\n")
	f.secured = "250 " + strings.Join(lines, "\n")
	f.plain = f.secured
	if o.TLS != nil {
		f.plain += "\nSTARTTLS"
	}
	return f
}
