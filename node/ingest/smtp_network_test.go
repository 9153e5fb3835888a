package ingest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hikyaku/controlplane/policy"
)

// start runs the server on loopback until the test ends.
func (s testServer) start(t testing.TB) string {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return s.Addrs()[0].String()
}

// client is one end of a dialogue.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, conn, bufio.NewReader(conn)}
}

// expect reads one reply, all its lines, which must begin so.
func (c *client) expect(prefix string) string {
	c.t.Helper()
	all := ""
	for {
		line, err := c.r.ReadString('\n')
		all += line
		if err != nil {
			c.t.Fatalf("want %q, got %q and %v", prefix, all, err)
		}
		if len(line) > 3 && line[3] == ' ' {
			break
		}
	}
	if !strings.HasPrefix(all, prefix) {
		c.t.Fatalf("want %q, got %q", prefix, all)
	}
	return all
}

func (c *client) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) ask(text, prefix string) string {
	c.t.Helper()
	c.say(text + "\r\n")
	return c.expect(prefix)
}

// expectEnd wants the connection closed with nothing more said.
func (c *client) expectEnd() {
	c.t.Helper()
	if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
		c.t.Fatalf("more was said: %q", rest)
	}
}

func loopback(l *SMTPListener) { l.RelayNetworks = networks("127.0.0.0/8") }

func TestPROXY(t *testing.T) {
	s := newTestServer(t, func(l *SMTPListener) {
		l.ProxyNetworks = networks("127.0.0.0/8")
		l.RelayNetworks = networks("192.0.2.7/32")
	})
	addr := s.start(t)
	v2 := func(ip [4]byte) string {
		return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string(ip[:]) + "\x0a\x00\x00\x01\x10\x00\x00\x19"
	}
	for _, tt := range []struct{ header, mail string }{
		{"PROXY TCP4 192.0.2.7 10.0.0.1 4096 25\r\n", "250 2.1.0"},
		{"PROXY TCP4 192.0.2.8 10.0.0.1 4096 25\r\n", "550 5.7.1"},
		{v2([4]byte{192, 0, 2, 7}), "250 2.1.0"},
		{v2([4]byte{192, 0, 2, 8}), "550 5.7.1"},
		{"PROXY UNKNOWN\r\n", "550 5.7.1"}, // the balancer's own: it has its own rights, none
		{"PROXY TCP4 nonsense\r\n", ""},
		{"EHLO c.test\r\n", ""},
	} {
		c := dial(t, addr)
		c.say(tt.header)
		if tt.mail == "" {
			c.expectEnd()
			continue
		}
		c.expect("220 ")
		c.ask("EHLO c.test", "250-")
		c.ask("MAIL FROM:<a@acme.test>", tt.mail)
	}
	c := dial(t, addr)
	c.say("PROXY TCP4 192.0.2.7 10.0.0.1 4096 25\r\nEHLO early.test\r\n")
	c.expect("554 5.5.0 ")
	c.expectEnd()
}

func TestEarlyTalkerIsRefused(t *testing.T) {
	s := newTestServer(t, func(l *SMTPListener) { loopback(l); l.GreetDelay = policy.Duration(10 * time.Second) })
	c := dial(t, s.start(t))
	c.say("EHLO c.test\r\n")
	c.expect("554 5.5.0 ")
	c.expectEnd()
}

func TestConnectionLimits(t *testing.T) {
	s := newTestServer(t, func(l *SMTPListener) { l.MaxConnections, l.MaxConnectionsPerClient = 3, 2 })
	addr := s.start(t)
	a, b := dial(t, addr), dial(t, addr)
	a.expect("220 ")
	b.expect("220 ")
	c := dial(t, addr)
	c.expect("421 4.7.0 ")
	c.expectEnd()
	a.ask("QUIT", "221 ")
	a.expectEnd()
	// The server counts a connection out after it has closed it.
	waitFor(t, func() bool { return s.Metrics()[0].Open == 1 })
	d := dial(t, addr)
	d.expect("220 ")
	m := s.Metrics()[0]
	if m.Connections != 4 || m.Refused != 1 {
		t.Errorf("%+v", m)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		tick := time.NewTimer(time.Millisecond)
		<-tick.C
	}
}

func TestShutdownLetsTransactionsFinish(t *testing.T) {
	s := newTestServer(t, loopback)
	addr := s.start(t)
	idle, busy := dial(t, addr), dial(t, addr)
	for _, c := range []*client{idle, busy} {
		c.expect("220 ")
		c.ask("EHLO c.test", "250-")
	}
	busy.ask("MAIL FROM:<a@acme.test>", "250 ")
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	idle.expect("421 4.3.2 ")
	idle.expectEnd()
	busy.ask("RCPT TO:<b@dest.test>", "250 ")
	busy.ask("DATA", "354 ")
	busy.ask("Subject: x\r\n\r\n.", "250 2.0.0 Ok: queued as ")
	busy.expect("421 4.3.2 ")
	busy.expectEnd()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
}

func TestShutdownCutsOffAtItsDeadline(t *testing.T) {
	s := newTestServer(t, loopback)
	c := dial(t, s.start(t))
	c.expect("220 ")
	c.ask("EHLO c.test", "250-")
	c.say(envelope)
	c.expect("250 ")
	c.expect("250 ")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("no error although a transaction was cut off")
	}
	c.expectEnd()
}

// piped runs a session on an in-memory pipe, inside a synctest bubble.
func (s testServer) piped(t *testing.T) (*client, chan struct{}) {
	here, there := net.Pipe()
	ss := newSession(s.SMTPServer, s.listeners[0], pipeFrom{there})
	done := make(chan struct{})
	go func() { ss.run(); close(done) }()
	c := &client{t, here, bufio.NewReader(here)}
	c.expect("220 ")
	return c, done
}

type pipeFrom struct{ net.Conn }

func (pipeFrom) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func TestTimeouts(t *testing.T) {
	start := time.Now
	for _, tt := range []struct {
		name string
		play func(c *client, drip func(every time.Duration, text string))
		want string
		took time.Duration
	}{
		{"no command", func(*client, func(time.Duration, string)) {}, "421 4.4.2 ", 5 * time.Minute},
		{"a command a byte a minute", func(c *client, drip func(time.Duration, string)) {
			drip(time.Minute, "NOOP")
		}, "421 4.4.2 ", 5 * time.Minute},
		{"silence in data", func(c *client, drip func(time.Duration, string)) {
			c.ask("EHLO c.test", "250-")
			c.ask("MAIL FROM:<a@acme.test>", "250 ")
			c.ask("RCPT TO:<b@dest.test>", "250 ")
			c.ask("DATA", "354 ")
		}, "421 4.4.2 ", 30 * time.Second},
		{"data slower than the least rate", func(c *client, drip func(time.Duration, string)) {
			c.ask("EHLO c.test", "250-")
			c.ask("MAIL FROM:<a@acme.test>", "250 ")
			c.ask("RCPT TO:<b@dest.test>", "250 ")
			c.ask("DATA", "354 ")
			drip(10*time.Second, "xxxx")
		}, "421 4.4.2 ", 30*time.Second + 3*time.Second/256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, nil)
				c, done := s.piped(t)
				began := start()
				tt.play(c, func(every time.Duration, text string) {
					go func() {
						for _, b := range []byte(text) {
							timer := time.NewTimer(every)
							select {
							case <-timer.C:
							case <-done:
								return
							}
							_, _ = c.conn.Write([]byte{b})
						}
					}()
				})
				c.expect(tt.want)
				if took := start().Sub(began); took < tt.took-11*time.Second || took > tt.took+time.Second {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				_ = c.conn.Close()
				<-done
			})
		})
	}
}

func TestFailedLoginsAreSlowAndFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(l *SMTPListener) {
			l.AuthPlaintextNetworks = networks("192.0.2.0/24")
			l.AuthFailureDelay = policy.Duration(2 * time.Second)
			l.MaxAuthFailuresPerClient = 5
		})
		c, done := s.piped(t)
		c.ask("EHLO c.test", "250-")
		began := time.Now()
		for range 3 {
			c.ask("AUTH PLAIN AHVzZXIAd3Jvbmc=", "535 5.7.8 ")
		}
		c.expect("421 4.7.0 ")
		<-done
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("took %v", took)
		}
		c, done = s.piped(t)
		c.ask("EHLO c.test", "250-")
		c.ask("AUTH PLAIN AHVzZXIAd3Jvbmc=", "535 ")
		c.ask("AUTH PLAIN AHVzZXIAd3Jvbmc=", "535 ")
		c.ask("AUTH PLAIN AHVzZXIAc2VjcmV0", "454 4.7.0 ") // even the right one, for a while
		timer := time.NewTimer(authFailureWindow)
		<-timer.C
		_ = c.conn.Close()
		<-done
		c, done = s.piped(t)
		c.ask("EHLO c.test", "250-")
		c.ask("AUTH PLAIN AHVzZXIAc2VjcmV0", "235 ")
		_ = c.conn.Close()
		<-done
	})
}

// The memory for content is bounded over all connections.
func TestContentMemoryIsBounded(t *testing.T) {
	s := newTestServer(t, nil)
	s.buffers.limit = 100 << 10 // one 16 KiB buffer and a 64 KiB one
	big := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000) + ".\r\n"
	c := s.talk("EHLO c.test\r\n", envelope+"DATA\r\n", big, envelope+"DATA\r\n", "Subject: small\r\n\r\n.\r\n")
	if out := c.all(); !strings.Contains(out, "452 4.3.1 ") || len(s.store.taken()) != 1 {
		t.Errorf("%d messages; server said %q", len(s.store.taken()), out)
	}
	if n := s.buffers.lent.Load(); n != 0 {
		t.Errorf("%d bytes still lent", n)
	}
	s.buffers.limit = 0
	c = s.talk("EHLO c.test\r\n", envelope+"DATA\r\n", "NOOP\r\n", envelope+"BDAT 5 LAST\r\nQUIT\nNOOP\r\n")
	if out := c.all(); strings.Count(out, "452 4.3.1 ") != 2 || !strings.HasSuffix(out, "250 2.0.0 Ok\r\n") {
		t.Errorf("server said %q", out)
	}
}

func TestSizeLimits(t *testing.T) {
	s := newTestServer(t, listenerSettings["small"])
	line := strings.Repeat("x", 62) + "\r\n"
	c := s.talk("EHLO c.test\r\n", envelope+"DATA\r\n", strings.Repeat(line, 1025)+".\r\nNOOP\r\n",
		envelope+"DATA\r\n", "\r\n"+strings.Repeat(line, 1023)+".\r\n",
		envelope+fmt.Sprintf("BDAT %d\r\n", 64<<10)+strings.Repeat(line, 1024), "BDAT 1 LAST\r\nx", "NOOP\r\n",
		envelope+"DATA\r\n", strings.Repeat(line, 20000)) // without end: cut off
	out := c.all()
	if len(s.store.taken()) != 1 || strings.Count(out, "552 5.3.4 ") != 2 || !strings.Contains(out, "421 4.7.0 Far too much data") && !c.closed {
		t.Errorf("%d messages; server said %q", len(s.store.taken()), out)
	}
}

func TestRecipientLimit(t *testing.T) {
	s := newTestServer(t, listenerSettings["small"])
	c := s.talk("EHLO c.test\r\n", "MAIL FROM:<>\r\n"+strings.Repeat("RCPT TO:<a@dest.test>\r\n", 101), "DATA\r\n", "\r\n.\r\n",
		"MAIL FROM:<>\r\n"+strings.Repeat("RCPT TO:<bad>\r\n", 101))
	subs := s.store.taken()
	if len(subs) != 1 || len(subs[0].Recipients) != 100 || strings.Count(c.all(), "452 4.5.3 ") != 1 || !strings.HasSuffix(c.all(), "421 4.7.0 Too many refused recipients, closing connection\r\n") {
		t.Errorf("server said %q", c.all())
	}
}
