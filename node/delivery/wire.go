package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// writeBlock is the most bytes of one write, and the size of a write buffer:
// a peer that takes less than this within Timeouts.Block is stuck.
const writeBlock = 32 << 10

var writeBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeBlock)
	return &b
}}

// wire is one connection with its two buffers. Bytes to send are counted, so
// that after a failure it is known whether the end of a message had left us.
//
// A write error is kept, not returned: what the peer said before it closed is
// the better reason, so the reader goes on for a moment and then reports it.
type wire struct {
	client   *Client
	id       uint64
	host     string
	conn     net.Conn
	stopped  atomic.Bool
	in       smtp.ReplyReader
	reply    smtp.RemoteReply
	out      []byte // from writeBuffers; nil when nothing is waiting
	outOwner *[]byte
	written  int64 // bytes that the connection took
	dropped  int64 // bytes given up after writeErr
	writeErr error
	limit    time.Time // no wait goes beyond; zero is none
	wait     time.Duration
	due      time.Time // when the reply that is waited for must be there; zero before the first wait
	times    Timeouts
	closing  bool // the peer said 421: what else it says must come soon

	fence    Fence        // nil: none
	loose    *atomic.Bool // of the session, see Session.loose
	mail     int          // offset in out, plus one, of the first MAIL; 0: there is none
	withheld bool         // that MAIL and all that follows was not sent: the fence closed

	// The deadlines that the connection has. They may be earlier than what is
	// wanted, never later: one that ends a wait too early is set again then.
	readBy, writeBy time.Time
	always          bool // TLS cannot go on with a record after a deadline: set each
}

func newWire(c *Client, id uint64, host string, conn net.Conn, times Timeouts) *wire {
	w := &wire{client: c, id: id, host: host, conn: conn, times: times}
	w.in.Reset(w)
	return w
}

// past is a deadline that ends waiting at once.
var past = time.Unix(1, 0)

// stopWith ends all I/O on the connection when ctx ends. The returned function
// takes that back.
func (w *wire) stopWith(ctx context.Context) func() bool {
	conn := w.conn // TLS is put around it later; its deadline is the same
	return context.AfterFunc(ctx, func() {
		w.stopped.Store(true)
		_ = conn.SetDeadline(past)
	})
}

// buffer is where commands are appended; give it back with putBuffer.
func (w *wire) buffer() []byte {
	if w.out == nil {
		w.outOwner = writeBuffers.Get().(*[]byte)
		w.out = (*w.outOwner)[:0]
	}
	return w.out
}

// putBuffer takes commands appended to buffer and traces them.
func (w *wire) putBuffer(b []byte) {
	w.said(b[len(w.out):])
	w.out = b
	if len(b) > writeBlock*3/4 {
		w.flush()
	}
}

// put queues content. Large pieces are not copied.
func (w *wire) put(p []byte) {
	b := w.buffer()
	if len(b)+len(p) <= writeBlock {
		w.out = append(b, p...)
		return
	}
	w.flush()
	for len(p) > writeBlock {
		w.write(p[:writeBlock])
		p = p[writeBlock:]
	}
	w.out = append(w.buffer(), p...)
}

// flush sends what is queued and gives the buffer back.
func (w *wire) flush() {
	if w.out == nil {
		return
	}
	if w.mail > 0 && w.fence != nil {
		w.writeFenced(w.out, w.mail-1)
	} else {
		w.write(w.out)
	}
	w.mail = 0
	if cap(w.out) == writeBlock {
		*w.outOwner = w.out[:0]
		writeBuffers.Put(w.outOwner)
	}
	w.out, w.outOwner = nil, nil
}

// writeFenced writes what has a MAIL command in it. Where the source may not be
// used any more, the end of the content before it still goes out, since the peer
// waits for it and a second attempt would be a duplicate.
func (w *wire) writeFenced(p []byte, mail int) {
	w.loose.Store(true) // before the question: see Session.loose
	if w.fence.MayUse(time.Now()) {
		w.write(p)
		w.loose.Store(false)
		return
	}
	w.loose.Store(false)
	w.write(p[:mail])
	w.withheld = true
	w.dropped += int64(len(p) - mail)
}

func (w *wire) write(p []byte) {
	if len(p) == 0 {
		return
	}
	if w.writeErr != nil || w.withheld {
		w.dropped += int64(len(p))
		return
	}
	deadline := w.deadline(w.times.Block)
	for {
		if w.always || w.writeBy.IsZero() || w.writeBy.After(deadline) {
			_ = w.conn.SetWriteDeadline(deadline)
			w.writeBy = deadline
		}
		if w.stopped.Load() {
			_ = w.conn.SetDeadline(past)
		}
		n, err := w.conn.Write(p)
		w.written += int64(n)
		w.client.count.bytesOut.Add(uint64(n))
		if err == nil {
			return
		}
		p = p[n:]
		if w.always || !w.tooEarly(err, deadline) {
			w.dropped += int64(len(p))
			w.writeErr = err
			return
		}
		w.writeBy = time.Time{}
	}
}

// tooEarly reports whether a wait ended by an older deadline than its own.
func (w *wire) tooEarly(err error, deadline time.Time) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !w.stopped.Load() && time.Now().Before(deadline)
}

// secure takes the TLS connection around the one there was. Nothing is known
// of its deadlines.
func (w *wire) secure(conn net.Conn) {
	w.conn, w.always = conn, true
	w.readBy, w.writeBy = time.Time{}, time.Time{}
}

// forget makes the system drop, at the close, what the peer has not taken yet:
// nothing may leave from an address that another node is about to use.
func (w *wire) forget() {
	conn := w.conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

// offset counts all bytes queued so far. When written has reached it, they
// have all been handed to the system.
func (w *wire) offset() int64 { return w.written + w.dropped + int64(len(w.out)) }

// gone reports whether the bytes up to the offset were handed to the system.
func (w *wire) gone(offset int64) bool { return w.written >= offset }

func (w *wire) deadline(wait time.Duration) time.Time {
	d := time.Now().Add(wait)
	if !w.limit.IsZero() && w.limit.Before(d) {
		return w.limit
	}
	return d
}

// Read is for the reply reader. The deadline is set once for a reply, when it
// first has to wait: a peer that sends a byte a minute gains nothing by it.
func (w *wire) Read(p []byte) (int, error) {
	if w.due.IsZero() {
		w.due = w.deadline(w.wait)
		if w.always || w.readBy.IsZero() || w.readBy.After(w.due) {
			w.setReadDeadline(w.due)
		}
	}
	for {
		n, err := w.conn.Read(p)
		w.client.count.bytesIn.Add(uint64(n))
		if n > 0 || err == nil || !w.tooEarly(err, w.due) {
			return n, err
		}
		w.setReadDeadline(w.due)
	}
}

func (w *wire) setReadDeadline(t time.Time) {
	_ = w.conn.SetReadDeadline(t)
	w.readBy = t
	if w.stopped.Load() {
		_ = w.conn.SetDeadline(past)
	}
}

// hear reads the next reply into w.reply, waiting at most this long.
func (w *wire) hear(phase message.Phase, wait time.Duration) error {
	if w.closing || w.writeErr != nil {
		wait = min(wait, w.times.Closing)
	}
	w.wait, w.due = wait, time.Time{}
	if err := w.in.Read(&w.reply); err != nil {
		if w.stopped.Load() {
			return errStopped
		}
		if w.writeErr != nil && !smtp.IsReplyError(err) {
			return w.writeErr
		}
		return err
	}
	w.heard(phase)
	return nil
}

// command sends one line and reads its reply.
func (w *wire) command(line string, phase message.Phase, wait time.Duration) error {
	w.putBuffer(append(w.buffer(), line...))
	w.flush()
	return w.hear(phase, wait)
}

// is reports whether the reply's code has this first digit.
func (w *wire) is(class uint16) bool { return w.reply.Code/100 == class }
