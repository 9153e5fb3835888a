package sink

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/smtp"
	"strings"
	"syscall"
	"testing"
)

func start(t testing.TB, o Options) *Sink {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func dialTCP(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

func certificate(t testing.TB) *tls.Config {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
}

func TestSinkTakesWhatASecondImplementationSends(t *testing.T) {
	got := make(chan Received, 1)
	s := start(t, Options{
		TLS:       certificate(t),
		Recipient: ByName,
		Message: func(r *Received) string {
			c := *r
			c.Data = append([]byte(nil), r.Data...)
			c.To = append([]string(nil), r.To...)
			got <- c
			return ""
		},
	})
	body := "Subject: x\r\n\r\n.leading dot\r\n..two\r\nend\r\n"
	send := func(to string) error {
		c, err := smtp.Dial(s.Addr)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
			return err
		}
		if err := c.Mail("a@x.test"); err != nil {
			return err
		}
		if err := c.Rcpt(to); err != nil {
			return err
		}
		w, err := c.Data()
		if err != nil {
			return err
		}
		io.WriteString(w, body)
		if err := w.Close(); err != nil {
			return err
		}
		return c.Quit()
	}
	if err := send("b@y.test"); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.From != "a@x.test" || len(r.To) != 1 || r.To[0] != "b@y.test" || string(r.Data) != body || r.Size != len(body) || !r.TLS || r.Remote == nil || r.At.IsZero() {
		t.Errorf("got %+v with data %q", r, r.Data)
	}
	for to, code := range map[string]string{"bounce1@y.test": "550", "defer1@y.test": "451"} {
		if err := send(to); err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v, want a %s", to, err, code)
		}
	}
	if m := s.Metrics(); m.Messages != 1 || m.Recipients != 1 || m.Bytes != int64(len(body)) || m.Connections != 3 {
		t.Errorf("metrics %+v, want one message with one recipient in three connections", m)
	}
}

// TestNothingPassesFromPlaintextIntoTLS injects commands behind STARTTLS, in
// the same packet (CVE-2011-0411): they must have no effect under TLS.
func TestNothingPassesFromPlaintextIntoTLS(t *testing.T) {
	j := &journal{}
	s := start(t, Options{Extensions: []string{"PIPELINING"}, TLS: certificate(t), NewSession: func(Peer) Session { return j }})
	c := dialTCP(t, s.Addr)
	c.say("", "220")
	c.say("EHLO c.test", "250-sink.test")
	c.say("", "250-PIPELINING")
	c.say("", "250 STARTTLS")
	c.say("STARTTLS now", "501")
	c.say("STARTTLS\r\nEHLO evil.test\r\nMAIL FROM:<evil@x.test>", "220")
	secure := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	c.Conn, c.r = secure, bufio.NewReader(secure)
	c.say("MAIL FROM:<a@x.test>", "503 5.5.1 EHLO first")
	c.say("EHLO c.test", "250-sink.test")
	c.say("", "250 PIPELINING") // and no STARTTLS
	c.say("STARTTLS", "503")
	c.say("MAIL FROM:<a@x.test>", "250")
	c.say("QUIT", "221")
	if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after QUIT: %v, want EOF", err)
	}
	s.Close()
	if got, want := fmt.Sprint(j.lines), "[connect hello c.test false hello c.test true mail a@x.test closed <nil>]"; got != want {
		t.Errorf("the session saw %s, want %s", got, want)
	}
}

// TestEndsAsAClientSeesThem has unread input behind each end: neither the
// earlier replies nor the kind of the end may suffer from it.
func TestEndsAsAClientSeesThem(t *testing.T) {
	for _, c := range []struct {
		name    string
		verdict Verdict
		want    string // after the replies to EHLO
		err     error
	}{
		{"reset", Verdict{Reset: true, Drop: true, Close: true}, "", syscall.ECONNRESET},
		{"drop", Verdict{Drop: true, Reply: "250 unsaid"}, "", io.EOF},
		{"close", Verdict{Close: true, Reply: "421 4.7.0 go"}, "421 4.7.0 go\r\n", io.EOF},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tls=%v", c.name, secure), func(t *testing.T) {
				ended := make(chan error, 1)
				s := start(t, Options{Extensions: bare, TLS: certificate(t), NewSession: func(Peer) Session {
					return &ender{closing: closing{ended: ended}, verdict: c.verdict}
				}})
				cl := dialTCP(t, s.Addr)
				cl.say("", "220")
				if secure {
					cl.say("STARTTLS", "220")
					conn := tls.Client(cl.Conn, &tls.Config{InsecureSkipVerify: true})
					cl.Conn, cl.r = conn, bufio.NewReader(conn)
				}
				cl.say("HELO c.test", "250")
				_, writing := io.WriteString(cl, "MAIL FROM:<a@x.test>\r\n"+strings.Repeat("NOOP\r\n", 100_000))
				got, err := io.ReadAll(cl.r)
				switch {
				case errors.Is(writing, syscall.ECONNRESET):
					err = writing // a reset is told once, to whom asks first
				case err == nil:
					err = io.EOF
				}
				if string(got) != c.want || !errors.Is(err, c.err) {
					t.Errorf("read %q and %v, want %q and %v", got, err, c.want, c.err)
				}
				if err := <-ended; err != nil {
					t.Errorf("session heard %v, want nil", err)
				}
			})
		}
	}
}

type ender struct {
	closing
	verdict Verdict
}

func (e *ender) Mail(string, string) Verdict { return e.verdict }

func TestConnectionsAreBounded(t *testing.T) {
	limit := NewLimit(3)
	a, b := start(t, Options{MaxConnections: 2, Limit: limit}), start(t, Options{Limit: limit})
	for _, step := range []struct {
		s    *Sink
		want string
	}{{a, "220"}, {a, "220"}, {a, "421 4.3.2"}, {b, "220"}, {b, "421 4.3.2"}} {
		dialTCP(t, step.s.Addr).say("", step.want)
	}
	if m := a.Metrics(); m.Open != 2 || m.Peak != 2 || m.Connections != 2 || m.Full != 1 {
		t.Errorf("metrics %+v, want 2 open and 1 refused", m)
	}
	if n := limit.Open(); n != 3 {
		t.Errorf("limit counts %d, want 3", n)
	}
	a.Close()
	if n := limit.Open(); n != 1 {
		t.Errorf("after one sink closed the limit counts %d, want 1", n)
	}
	dialTCP(t, b.Addr).say("", "220")
}

// TestPipelinedMessagesShareWrites sends a hundred messages in one go and
// counts how often the sink writes.
func TestPipelinedMessagesShareWrites(t *testing.T) {
	c := &counting{script: newScript([]byte(begin + "BDAT 1 LAST\r\nx" + strings.Repeat("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nBDAT 1 LAST\r\nx", 50)))}
	l := newDoor()
	s := start(t, Options{Listener: l, Chunking: true})
	l.conns <- c
	<-c.closed
	s.Close()
	if m := s.Metrics(); m.Messages != 51 {
		t.Errorf("%d messages, want 51", m.Messages)
	}
	if c.writes != 2 { // the greeting, and all the rest
		t.Errorf("%d writes, want 2", c.writes)
	}
}

type counting struct {
	*script
	writes int
}

func (c *counting) Write(p []byte) (int, error) {
	c.writes++
	return c.script.Write(p)
}
