package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// httpClient is one keep-alive connection at a time, and the goroutine that
// drives it. Requests are written by hand into one buffer, one write each; the
// answer's framing is net/http's to read. net/http's own client was not taken: it has two more
// goroutines a connection, and chooses the connection itself.
type httpClient struct {
	*feed
	addr    string
	raw     net.Conn
	conn    net.Conn
	in      *bufio.Reader
	out     []byte // head and body
	body    []byte
	content []byte
	answer  bytes.Buffer
	sent    int
	redial  redial
}

func newHTTPClient(f *feed, addr string) *httpClient { return &httpClient{feed: f, addr: addr} }

const maxAnswer = 64 << 20

func (c *httpClient) run(ctx context.Context) {
	defer c.hangUp()
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
			c.s.failure(ctx, "connect", err)
			if !c.redial.failed(ctx, c.feed) {
				c.s.fail(fmt.Errorf("no connection to %s for %v: %w", c.addr, c.s.o.GiveUp, err))
			}
			if c.stopped(ctx) {
				c.finish(&t, 0)
				c.abandon()
				return
			}
		}
		size, reuse, err := c.request(&t)
		if err != nil {
			c.s.failure(ctx, "request", err)
		}
		c.finish(&t, size)
		if c.sent++; !reuse || err != nil || c.s.o.PerConnection > 0 && c.sent >= c.s.o.PerConnection {
			c.hangUp()
		}
	}
}

func (c *httpClient) connect(ctx context.Context) error {
	conn, err := c.s.dial(ctx, c.addr)
	if err != nil {
		return err
	}
	c.raw, c.conn, c.sent = conn, conn, 0
	if c.s.o.TLS != nil {
		t := tls.Client(conn, c.s.o.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			c.hangUp()
			return fmt.Errorf("TLS handshake: %w", err)
		}
		c.conn = t
	}
	if c.in == nil {
		c.in = bufio.NewReaderSize(nil, 16<<10)
	}
	c.in.Reset(c.conn)
	return nil
}

func (c *httpClient) hangUp() {
	if c.raw != nil {
		c.s.hangUp(c.raw)
	}
	c.raw, c.conn = nil, nil
}

// request makes one attempt; t.state has the verdicts, also after an error.
func (c *httpClient) request(t *task) (size int, reuse bool, err error) {
	c.body, c.content = c.s.mix.AppendRequest(c.body[:0], c.content, &t.msg, t.only)
	c.appendHead(t)
	c.out = append(c.out, c.body...)
	size = len(c.body)
	if err := c.conn.SetDeadline(time.Now().Add(c.s.o.Timeout)); err != nil {
		return size, false, err
	}
	t.began = c.s.now()
	t.all(unsent, unknown)
	if _, err := c.conn.Write(c.out); err != nil {
		return size, false, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return size, false, err
	}
	c.answer.Reset()
	_, err = c.answer.ReadFrom(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	if err != nil {
		return size, false, fmt.Errorf("read the answer: %w", err)
	}
	return size, !resp.Close, c.judge(t, resp.StatusCode)
}

func (c *httpClient) appendHead(t *task) {
	b := append(c.out[:0], "POST /v1/messages HTTP/1.1\r\nHost: "...)
	b = append(append(b, c.addr...), "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(c.body)), 10)
	key := t.msg.Tenant.Key
	if key == "" {
		key = c.s.o.Key
	}
	if key != "" {
		b = append(append(b, "\r\nAuthorization: Bearer "...), key...)
	}
	if c.s.o.Idempotent {
		// The start of the run keeps a second run of the same mix from being answered
		// with what was stored of the first.
		b = strconv.AppendInt(append(b, "\r\nIdempotency-Key: load-"...), c.s.began.UnixNano(), 16)
		b = strconv.AppendInt(append(b, '-'), int64(t.number(0)), 10)
		b = strconv.AppendInt(append(b, '-'), int64(t.count()), 10)
	}
	c.out = append(b, "\r\n\r\n"...)
}

// mayHave is how the API says that it does not know the outcome itself: any
// other answer than 202 means that nothing was stored (its document, 503).
var mayHave = []byte("may or may not have been accepted")

// judge turns the answer into verdicts.
func (c *httpClient) judge(t *task, status int) error {
	body := c.answer.Bytes()
	if status == http.StatusAccepted {
		return c.judgeEach(t, body)
	}
	c.s.refusal("request", status, body)
	switch {
	case status == http.StatusServiceUnavailable && bytes.Contains(body, mayHave):
	case status == http.StatusTooManyRequests || status >= 500:
		t.all(unknown, later)
	default:
		t.all(unknown, no)
	}
	return nil
}

// judgeEach reads who was accepted. A whole attempt has consecutive numbers; a
// further one may have gaps, so its place is looked up.
func (c *httpClient) judgeEach(t *task, body []byte) error {
	answered := 0
	err := readAnswer(body, func(n int, v verdict) bool {
		k := t.place(n)
		if k < 0 || t.state[k] != unknown {
			return false
		}
		t.state[k] = v
		answered++
		return true
	})
	if err == nil && answered != len(t.state) {
		err = fmt.Errorf("the answer covers %d of %d recipients", answered, len(t.state))
	}
	if t.has(no) { // one error stands for all of a request
		c.s.refusal("recipient", http.StatusAccepted, rejections(body))
	}
	return err
}

// rejections is the beginning of what the answer says about rejected recipients.
func rejections(body []byte) []byte {
	at := max(bytes.LastIndex(body, keyRejected), 0)
	return body[at:min(at+300, len(body))]
}

// place is the index of recipient n in the attempt; -1 when it is not in it.
func (t *task) place(n int) int {
	if t.only == nil {
		if n < t.msg.First || n >= t.msg.First+t.msg.Count {
			return -1
		}
		return n - t.msg.First
	}
	if k, ok := slices.BinarySearch(t.only, n); ok {
		return k
	}
	return -1
}
