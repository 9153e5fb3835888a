package delivery_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/spool/message"
)

// half is one direction of an in-memory connection: a buffer of bounded size,
// like a TCP window. Blocking is in sync.Cond, so synctest's clock can run.
type half struct {
	sync.Mutex
	wake   *sync.Cond
	buf    []byte
	room   int
	closed bool  // by the writer: EOF once drained
	dead   error // at once, for both sides
	limit  [2]time.Time
}

const (
	reading = 0
	writing = 1
)

func newHalf(room int) *half {
	h := &half{room: room}
	h.wake = sync.NewCond(&h.Mutex)
	return h
}

func (h *half) expired(side int) bool {
	return !h.limit[side].IsZero() && !time.Now().Before(h.limit[side])
}

func (h *half) setLimit(side int, t time.Time) {
	h.Lock()
	h.limit[side] = t
	h.Unlock()
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), h.wake.Broadcast)
	}
	h.wake.Broadcast()
}

func (h *half) read(p []byte) (int, error) {
	h.Lock()
	defer h.Unlock()
	for {
		switch {
		case h.dead != nil:
			return 0, h.dead
		case h.expired(reading):
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[:copy(h.buf, h.buf[n:])]
			h.wake.Broadcast()
			return n, nil
		case h.closed:
			return 0, io.EOF
		}
		h.wake.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.Lock()
	defer h.Unlock()
	for len(p) > 0 {
		switch {
		case h.dead != nil:
			return n, h.dead
		case h.closed:
			return n, syscall.EPIPE
		case h.expired(writing):
			return n, os.ErrDeadlineExceeded
		case len(h.buf) < h.room:
			k := min(len(p), h.room-len(h.buf))
			h.buf = append(h.buf, p[:k]...)
			p = p[k:]
			n += k
			h.wake.Broadcast()
			continue
		}
		h.wake.Wait()
	}
	return n, nil
}

func (h *half) end(dead error) {
	h.Lock()
	h.closed = true
	if dead != nil {
		h.dead, h.buf = dead, nil
	}
	h.Unlock()
	h.wake.Broadcast()
}

// memConn is one end.
type memConn struct {
	in, out  *half
	from, to netip.AddrPort
}

func memPipe(from, to netip.AddrPort, room int) (client, server *memConn) {
	a, b := newHalf(room), newHalf(room)
	return &memConn{in: a, out: b, from: from, to: to}, &memConn{in: b, out: a, from: to, to: from}
}

func (c *memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error) { return c.out.write(p) }
func (c *memConn) Close() error {
	c.out.end(nil)
	// What the other side still sends is answered by a reset, as TCP does.
	c.in.end(nil)
	return nil
}
func (c *memConn) reset() {
	c.out.end(syscall.ECONNRESET)
	c.in.end(syscall.ECONNRESET)
}
func (c *memConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.from) }
func (c *memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.to) }
func (c *memConn) SetDeadline(t time.Time) error {
	c.in.setLimit(reading, t)
	c.out.setLimit(writing, t)
	return nil
}
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.setLimit(reading, t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.setLimit(writing, t); return nil }

// network hands each connection to serve, in a goroutine of its own.
type network struct {
	serve func(n int, c *memConn) // n counts connections
	fail  func(delivery.DialRequest) error
	room  int

	mu    sync.Mutex
	dials []delivery.DialRequest
	wg    sync.WaitGroup
}

func (n *network) dial(_ context.Context, r delivery.DialRequest) (net.Conn, error) {
	n.mu.Lock()
	i := len(n.dials)
	n.dials = append(n.dials, r)
	n.mu.Unlock()
	if n.fail != nil {
		if err := n.fail(r); err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}
	from := r.From
	if !from.IsValid() {
		from = netip.MustParseAddr("198.41.0.4")
	}
	room := n.room
	if room == 0 {
		room = 256 << 10
	}
	client, server := memPipe(netip.AddrPortFrom(from, 40000), r.To, room)
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		n.serve(i, server)
	}()
	return client, nil
}

// content is ready-made content.
type content struct {
	pieces [][]byte
	err    error
}

func (c *content) Prepare(context.Context) ([][]byte, error) { return c.pieces, c.err }

// fixedWork gives out a list of jobs and keeps what came of them.
type fixedWork struct {
	jobs    []*delivery.Job
	gap     func(i int) time.Duration // virtual wait before job i
	next    int
	ready   time.Time
	results map[*delivery.Job]string
	keep    func(*delivery.Result)
	extra   []string

	reconnect func() bool // nil: always
	again     func(*delivery.Job) bool
}

func (w *fixedWork) Reconnect() bool { return w.reconnect == nil || w.reconnect() }

func (w *fixedWork) Again(j *delivery.Job) bool { return w.again == nil || w.again(j) }

func (w *fixedWork) due() bool {
	if w.next >= len(w.jobs) {
		return false
	}
	if w.gap == nil {
		return true
	}
	if w.ready.IsZero() {
		w.ready = time.Now().Add(w.gap(w.next))
	}
	return !time.Now().Before(w.ready)
}

func (w *fixedWork) TryNext() (*delivery.Job, bool) {
	if !w.due() {
		return nil, false
	}
	w.ready = time.Time{}
	w.next++
	return w.jobs[w.next-1], true
}

func (w *fixedWork) Next(ctx context.Context, wait time.Duration) (*delivery.Job, bool) {
	if j, ok := w.TryNext(); ok {
		return j, true
	}
	if w.next < len(w.jobs) {
		wait = min(wait, time.Until(w.ready))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil, false
	case <-t.C:
	}
	return w.TryNext()
}

func (w *fixedWork) Done(r *delivery.Result) {
	if w.results == nil {
		w.results = map[*delivery.Job]string{}
	}
	if old, ok := w.results[r.Job]; ok {
		w.extra = append(w.extra, "second result: had\n"+old)
	}
	w.results[r.Job] = describe(r)
	if w.keep != nil {
		w.keep(r)
	}
	r.Release()
}

// describe draws a result as text, one line a recipient.
func describe(r *delivery.Result) string {
	var b strings.Builder
	seen := 0
	for i := range r.Job.Delivery.Recipients {
		if seen < len(r.Replies) && r.Replies[seen].Index == i {
			reply := r.Replies[seen].Reply
			seen++
			fmt.Fprintf(&b, "  %d: %s (%s", i, reply.String(), reply.Phase)
			if reply.Fault != 0 {
				fmt.Fprintf(&b, ", %s", reply.Fault)
			}
			b.WriteString(")\n")
			continue
		}
		fmt.Fprintf(&b, "  %d: not attempted\n", i)
	}
	if r.AmbiguousDot {
		b.WriteString("  ambiguous\n")
	}
	if (seen == 0) != r.NotAttempted || seen != len(r.Replies) {
		b.WriteString("  WRONG: NotAttempted or order of replies\n")
	}
	return b.String()
}

func makeJob(sender string, rcpts []string, text string) *delivery.Job {
	d := &message.Delivery{}
	for _, a := range rcpts {
		d.Recipients = append(d.Recipients, message.Recipient{Address: a})
	}
	return &delivery.Job{Delivery: d, Sender: sender, Content: &content{pieces: [][]byte{[]byte(text)}}}
}

var sinkAddr = netip.MustParseAddr("193.0.0.1")

func sinkTarget() *delivery.Target {
	return &delivery.Target{
		Hosts: []delivery.Host{{Name: "mx.example", Addrs: []netip.Addr{sinkAddr}}},
		EHLO:  "out.example", TLS: delivery.TLSNone,
	}
}

func allow(nets ...string) (out []policy.Network) {
	for _, n := range nets {
		out = append(out, policy.Network{Prefix: netip.MustParsePrefix(n)})
	}
	return out
}

// lines reads CRLF lines strictly.
type lines struct{ r *bufio.Reader }

func (l *lines) next() (string, error) {
	s, err := l.r.ReadString('\n')
	if err != nil {
		return s, err
	}
	if !strings.HasSuffix(s, "\r\n") {
		return s, fmt.Errorf("line without CRLF: %q", s)
	}
	return s[:len(s)-2], nil
}
