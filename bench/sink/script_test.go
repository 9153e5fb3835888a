package sink

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// script is a connection whose client has said everything beforehand, in the
// given pieces, one a read, and then leaves.
type script struct {
	pieces [][]byte
	out    bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func newScript(pieces ...[]byte) *script {
	return &script{pieces: pieces, closed: make(chan struct{})}
}

func (c *script) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *script) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *script) Close() error                     { c.once.Do(func() { close(c.closed) }); return nil }
func (c *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }
func (c *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 1025} }
func (c *script) SetDeadline(time.Time) error      { return nil }
func (c *script) SetReadDeadline(time.Time) error  { return nil }
func (c *script) SetWriteDeadline(time.Time) error { return nil }

// door is a listener that hands out given connections.
type door struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newDoor() *door { return &door{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (l *door) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *door) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *door) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

// dial is a client's end of a new connection.
func (l *door) dial() net.Conn {
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return ours
}

// journal is a Session that writes down what it is asked and answers by the
// argument: an address or name with "no" in front is refused.
type journal struct {
	lines   []string
	verdict func(phase, what string) Verdict // may be nil
}

func (j *journal) note(phase, format string, args ...any) Verdict {
	what := fmt.Sprintf(format, args...)
	j.lines = append(j.lines, strings.TrimRight(phase+" "+what, " "))
	if j.verdict != nil {
		return j.verdict(phase, what)
	}
	return Verdict{}
}

func (j *journal) Connect() Verdict                    { return j.note("connect", "") }
func (j *journal) Hello(name string, tls bool) Verdict { return j.note("hello", "%s %v", name, tls) }
func (j *journal) Mail(from, params string) Verdict    { return j.note("mail", "%s %s", from, params) }
func (j *journal) Recipient(to string) Verdict         { return j.note("recipient", "%s", to) }
func (j *journal) Data() Verdict                       { return j.note("data", "") }
func (j *journal) Closed(err error)                    { j.note("closed", "%v", err) }

func (j *journal) Content(r *Received) Verdict {
	data := fmt.Sprintf("%q", r.Data)
	if r.Data == nil {
		data = "discarded"
	}
	if len(data) > 100 {
		data = fmt.Sprintf("%x…", fnv(r.Data))
	}
	return j.note("content", "%s %v %d %s", r.From, r.To, r.Size, data)
}

func fnv(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// play runs the pieces against a sink and returns what it answered and what
// its session saw.
func play(t testing.TB, o Options, verdict func(phase, what string) Verdict, pieces ...[]byte) (out string, saw []string) {
	t.Helper()
	j := &journal{verdict: verdict}
	l := newDoor()
	o.Listener, o.NewSession = l, func(Peer) Session { return j }
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	c := newScript(pieces...)
	l.conns <- c
	<-c.closed
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return c.out.String(), j.lines
}

func itoa(n int) string   { return fmt.Sprint(n) }
func hex(n uint32) string { return fmt.Sprintf("%x", n) }
