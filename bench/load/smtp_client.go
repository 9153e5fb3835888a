package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"time"
)

// smtpClient is one connection at a time, and the goroutine that drives it.
type smtpClient struct {
	*feed
	addr     string
	user     string
	password string

	raw      net.Conn // what was dialled
	conn     net.Conn // raw, or TLS on it
	in       replyReader
	out      []byte
	content  []byte
	deadline time.Duration
	sent     int  // messages on this connection
	open     bool // the server may still be in a transaction that came to nothing
	flights  []task
	redial   redial
}

func newSMTPClient(f *feed, addr string) *smtpClient {
	c := &smtpClient{feed: f, addr: addr, user: f.s.o.User, password: f.s.o.Password}
	login := f.c.login
	if login == nil && len(f.s.mix.Tenants) == 1 {
		login = &f.s.mix.Tenants[0]
	}
	if login != nil && login.User != "" {
		c.user, c.password = login.User, login.Password
	}
	return c
}

// errDone ends a session that has nothing more to send.
var errDone = errors.New("done")

// run sends until there is nothing more. A message is taken before there is a
// connection for it, so that in the open loop the time to connect counts.
func (c *smtpClient) run(ctx context.Context) {
	for {
		t, ok := c.next(ctx, true)
		if !ok {
			return
		}
		for c.conn == nil {
			err := c.connect(ctx)
			if err == nil {
				c.redial = redial{}
				break
			}
			c.hangUp()
			if !c.redial.failed(ctx, c.feed) {
				c.s.fail(fmt.Errorf("no connection to %s for %v: %w", c.addr, c.s.o.GiveUp, err))
			}
			if c.stopped(ctx) {
				c.finish(&t, 0)
				c.abandon()
				return
			}
		}
		c.flights = append(c.flights[:0], t)
		if err := c.session(ctx); err != nil {
			c.lost(ctx, err)
			continue
		}
		c.quit(ctx)
	}
}

// session sends what is in flights and all that follows, until there is nothing
// more (nil), or the connection is no good any more.
func (c *smtpClient) session(ctx context.Context) error {
	switch c.s.o.Mode {
	case Chunking:
		return c.chunking(ctx)
	case Pipelining:
		return c.pipelining(ctx)
	case PlainCommands:
	}
	return c.plain(ctx)
}

// phaseError is an error with the phase in which it happened.
type phaseError struct {
	phase string
	err   error
}

func (e *phaseError) Error() string { return e.phase + ": " + e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// errGoodbye ends a connection that the server has said it closes.
var errGoodbye = errors.New("the server closes the connection")

// lost books what was in flight on a connection that ended.
func (c *smtpClient) lost(ctx context.Context, err error) {
	var p *phaseError
	if errors.As(err, &p) && !errors.Is(err, errGoodbye) {
		c.s.failure(ctx, p.phase, p.err)
	}
	for i := range c.flights {
		c.finish(&c.flights[i], 0)
	}
	c.flights = c.flights[:0]
	c.hangUp()
}

func (c *smtpClient) hangUp() {
	if c.raw != nil {
		c.s.hangUp(c.raw)
	}
	c.raw, c.conn = nil, nil
}

// quit ends a connection in order (RFC 5321 4.1.1.10).
func (c *smtpClient) quit(ctx context.Context) {
	if c.conn == nil {
		return
	}
	if ctx.Err() == nil {
		_ = c.conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.conn.Write([]byte("QUIT\r\n")); err == nil {
			_, _ = c.in.read()
		}
	}
	c.hangUp()
}

// full is whether the connection has carried what it may.
func (c *smtpClient) full() bool {
	return c.s.o.PerConnection > 0 && c.sent+len(c.flights) >= c.s.o.PerConnection
}

// connect dials and greets. Refusals are counted here.
func (c *smtpClient) connect(ctx context.Context) error {
	fail := func(phase string, err error) error {
		c.s.failure(ctx, phase, err)
		return &phaseError{phase, err}
	}
	conn, err := c.s.dial(ctx, c.addr)
	if err != nil {
		return fail("connect", err)
	}
	c.raw, c.conn, c.sent, c.deadline, c.open = conn, conn, 0, 0, false
	c.in.reset(conn)
	_ = conn.SetDeadline(time.Now().Add(c.s.o.Timeout))
	if _, err := c.expect("connect", 220); err != nil {
		return err
	}
	extensions, err := c.hello(ctx)
	if err != nil {
		return err
	}
	if c.s.o.TLS != nil {
		if _, err := c.command("starttls", 220, "STARTTLS"); err != nil {
			return err
		}
		t := tls.Client(conn, c.s.o.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			return fail("starttls", err)
		}
		c.conn = t
		c.in.reset(t)
		if extensions, err = c.hello(ctx); err != nil {
			return err
		}
	}
	for mode, keyword := range map[Mode]string{Pipelining: "PIPELINING", Chunking: "CHUNKING"} {
		if c.s.o.Mode == mode && !offers(extensions, keyword) {
			err := fmt.Errorf("%s does not offer %s", c.addr, keyword)
			c.s.fail(err)
			return err
		}
	}
	return c.login(ctx)
}

func (c *smtpClient) hello(context.Context) ([]byte, error) {
	r, err := c.command("ehlo", 250, "EHLO "+c.s.o.Hello)
	return bytes.Clone(r.text), err
}

// login is AUTH PLAIN with an initial response (RFC 4954 4, RFC 4616). A login
// that is refused for good ends the run.
func (c *smtpClient) login(context.Context) error {
	if c.user == "" {
		return nil
	}
	secret := base64.StdEncoding.EncodeToString([]byte("\x00" + c.user + "\x00" + c.password))
	r, err := c.command("auth", 235, "AUTH PLAIN "+secret)
	if r.code >= 500 {
		c.s.fail(fmt.Errorf("login of %s: %w", c.user, err))
	}
	return err
}

// offers looks for an EHLO keyword.
func offers(extensions []byte, keyword string) bool {
	for line := range bytes.SplitSeq(extensions, []byte("\n")) {
		if word, _, _ := bytes.Cut(line, []byte(" ")); bytes.EqualFold(word, []byte(keyword)) {
			return true
		}
	}
	return false
}

// command is for the greeting, where nothing is in flight.
func (c *smtpClient) command(phase string, want int, line string) (reply, error) {
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		return reply{}, &phaseError{phase, err}
	}
	return c.expect(phase, want)
}

func (c *smtpClient) expect(phase string, want int) (reply, error) {
	r, err := c.in.read()
	if err != nil {
		c.s.failure(context.Background(), phase, err)
		return r, &phaseError{phase, err}
	}
	if r.code != want {
		c.s.refusal(phase, r.code, r.text)
		return r, &phaseError{phase, fmt.Errorf("%d %s", r.code, r.text)}
	}
	return r, nil
}

// write sends what is in out.
func (c *smtpClient) write(phase string) error {
	c.extend()
	_, err := c.conn.Write(c.out)
	if cap(c.out) > keptOut {
		c.out = nil
	}
	c.out = c.out[:0]
	if err != nil {
		return &phaseError{phase, err}
	}
	return nil
}

// keptOut bounds the buffer that a connection keeps.
const keptOut = 1 << 20

// extend moves the deadline, at most a few times in each timeout: nothing has to
// be exact here, and setting it takes the locks of the poller and of a timer.
func (c *smtpClient) extend() {
	now := c.s.now()
	if now+c.s.o.Timeout > c.deadline {
		c.deadline = now + c.s.o.Timeout + c.s.o.Timeout/4
		_ = c.conn.SetDeadline(time.Now().Add(c.deadline - now))
	}
}

// answer reads the reply to something in flight.
func (c *smtpClient) answer(phase string) (reply, error) {
	r, err := c.in.read()
	if err != nil {
		return r, &phaseError{phase, err}
	}
	if r.code >= 400 {
		c.s.refusal(phase, r.code, r.text)
	}
	return r, nil
}
