package ingest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// taker is an Acceptor that forgets what it takes.
type taker struct {
	ids    message.IDs
	policy policy.Set
}

func (a *taker) Admit(string) error                        { return nil }
func (a *taker) NewID(now time.Time) message.ID            { return a.ids.New(now) }
func (a *taker) Policy() *policy.Set                       { return &a.policy }
func (a *taker) Accept(context.Context, *Submission) error { return nil }
func (a *taker) Offer(context.Context, *Submission) (Receipt, error) {
	return nil, nil
}

func benchServer(b testing.TB) *SMTPServer {
	s, err := NewSMTPServer(SMTPOptions{
		Listeners: []SMTPListener{{Listen: "127.0.0.1:0", Hostname: "mx.test", RelayNetworks: networks("127.0.0.0/8", "192.0.2.0/24"), MaxMessagesPerConnection: 1 << 30}},
		Acceptor:  &taker{}, Authenticator: logins{}, Logger: quiet,
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchMessage(size int) string {
	line := strings.Repeat("x", 70) + "\r\n"
	return "From: A <a@acme.test>\r\nTo: b@dest.test\r\nSubject: benchmark\r\nDate: Sat, 1 Jan 2000 00:00:00 +0000\r\nMessage-ID: <1@acme.test>\r\n\r\n" +
		strings.Repeat(line, size/len(line)) + ".\r\n"
}

// endless says the same turns again and again: n messages.
type endless struct {
	scripted
	first string
	round []string
	k     int
	left  int
}

func (c *endless) Read(b []byte) (int, error) {
	if c.first != "" {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if c.k == len(c.round) {
		c.k = 0
		if c.left--; c.left <= 0 {
			return 0, io.EOF
		}
	}
	n := copy(b, c.round[c.k])
	c.k++
	return n, nil
}

func (c *endless) Write(b []byte) (int, error) { return len(b), nil }

func endlessSession(s *SMTPServer, n int) *session {
	c := &endless{first: "EHLO c.test\r\n", round: []string{envelope + "DATA\r\n", benchMessage(4 << 10)}, left: n}
	c.from = netip.MustParseAddrPort("192.0.2.1:4000")
	return newSession(s, s.listeners[0], c)
}

// BenchmarkSession is what the server itself costs for a message of 4 KiB,
// without sockets.
func BenchmarkSession(b *testing.B) {
	s := benchServer(b)
	b.ReportAllocs()
	endlessSession(s, b.N).run()
	if n := s.Metrics()[0].Messages; n != uint64(b.N) {
		b.Fatalf("%d messages of %d", n, b.N)
	}
}

// TestMessageAllocations: a message over an open connection costs few
// allocations, all of which are what is handed on.
func TestMessageAllocations(t *testing.T) {
	const n = 1000
	s := benchServer(t)
	endlessSession(s, n).run() // warm the buffer pools
	got := testing.AllocsPerRun(5, func() { endlessSession(s, n).run() }) / n
	t.Logf("%.1f allocations a message", got)
	if got > 12 {
		t.Errorf("%.1f allocations a message", got)
	}
}

// BenchmarkSessionLoopback is the same over TCP, client in the same process.
func BenchmarkSessionLoopback(b *testing.B) {
	s := benchServer(b)
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Shutdown(context.Background()) }()
	body := []byte(benchMessage(4 << 10))
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		r := bufio.NewReader(conn)
		want := func(lines int) {
			for range lines {
				if _, err := r.ReadSlice('\n'); err != nil {
					b.Error(err)
				}
			}
		}
		want(1)
		_, _ = io.WriteString(conn, "EHLO c.test\r\n")
		want(10)
		for pb.Next() {
			_, _ = io.WriteString(conn, envelope+"DATA\r\n")
			want(3)
			_, _ = conn.Write(body)
			want(1)
		}
	})
}
