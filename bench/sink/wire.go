package sink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Sizes of the read buffer. A connection begins with a small one, so that ten
// thousand that say little cost little; the first read that fills it brings a
// big one, which holds several messages of 4 KiB. It grows further for a
// message that must be kept whole, and what grew past maxKept is given up
// after it.
const (
	smallBuffer = 4 << 10
	bigBuffer   = 64 << 10
	maxKept     = 256 << 10
)

// maxReplies is how many bytes of replies wait for each other before they are
// written, whatever else has arrived.
const maxReplies = 16 << 10

// What the sink waits for and reads after its own FIN, so that input it will
// never look at does not turn the FIN into an RST, which could overtake the
// last reply.
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 1 << 20
)

var buffers = sync.Pool{New: func() any { return new([bigBuffer]byte) }}

var (
	errLineTooLong = errors.New("command line too long")
	errBareLF      = errors.New("command not ended by CRLF")
)

// wire is a connection with its buffers: in[r:w] has arrived and waits to be
// used, out waits to be written.
type wire struct {
	conn net.Conn // raw, or the TLS over it
	raw  net.Conn
	in   []byte
	r, w int
	out  []byte
	at   time.Time // when the last read returned

	idle     time.Duration
	deadline time.Time // as set; zero when another one is set
	hungUp   error     // what a read during a delay said
	closing  <-chan struct{}
}

func newWire(c net.Conn, idle time.Duration, closing <-chan struct{}) wire {
	return wire{conn: c, raw: c, in: make([]byte, smallBuffer), out: make([]byte, 0, 512), idle: idle, closing: closing}
}

// free gives the buffer back. Nothing may use the wire after it.
func (w *wire) free() {
	if len(w.in) == bigBuffer {
		buffers.Put((*[bigBuffer]byte)(w.in))
	}
	w.in, w.out = nil, nil
}

// buffered is what has arrived and was not used.
func (w *wire) buffered() []byte { return w.in[w.r:w.w] }

// fill writes the replies that wait and reads more. Errors are those of the
// connection.
func (w *wire) fill() error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.hungUp != nil {
		return w.hungUp
	}
	w.makeRoom()
	for range 100 {
		w.arm()
		n, err := w.conn.Read(w.in[w.w:])
		w.w += n
		w.at = time.Now()
		if n > 0 {
			return nil // an error with it comes again
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// flush writes the replies.
func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	w.arm()
	_, err := w.conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// arm sets the deadline for reads and writes when less than idle is left of
// it. Setting it for each read would cost more than parsing a command does, so
// it is set a quarter too far and left alone until then.
func (w *wire) arm() {
	if now := time.Now(); w.deadline.Sub(now) < w.idle {
		w.deadline = now.Add(w.idle + w.idle/4)
		w.conn.SetDeadline(w.deadline)
	}
}

// makeRoom has at least a quarter of the buffer free.
func (w *wire) makeRoom() {
	if w.r == w.w {
		w.r, w.w = 0, 0
		if len(w.in) > maxKept {
			w.replace(buffers.Get().(*[bigBuffer]byte)[:])
		}
	}
	if w.w <= len(w.in)-len(w.in)/4 {
		return
	}
	if w.r >= len(w.in)/4 {
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
		return
	}
	w.grow(2 * len(w.in))
}

// grow makes the buffer hold at least n bytes.
func (w *wire) grow(n int) {
	switch {
	case n <= len(w.in):
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
	case n <= bigBuffer:
		w.replace(buffers.Get().(*[bigBuffer]byte)[:])
	default:
		size := bigBuffer
		for size < n {
			size *= 2
		}
		w.replace(make([]byte, size))
	}
}

// replace moves what has arrived to another buffer.
func (w *wire) replace(b []byte) {
	n := copy(b, w.in[w.r:w.w])
	if len(w.in) == bigBuffer {
		buffers.Put((*[bigBuffer]byte)(w.in))
	}
	w.in, w.r, w.w = b, 0, n
}

// line returns the next command line without its CRLF. It is valid until the
// next fill.
func (w *wire) line(most int) ([]byte, error) {
	seen := 0
	for {
		b := w.in[w.r:w.w]
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			end := seen + i
			if end+1 > most {
				return nil, errLineTooLong
			}
			// A bare LF may be meant as the end of a command or as a part
			// of one: two servers could see two dialogs (RFC 5321 2.3.8).
			if end == 0 || b[end-1] != '\r' {
				return nil, errBareLF
			}
			w.r += end + 1
			return b[:end-1], nil
		}
		if seen = len(b); seen >= most {
			return nil, errLineTooLong
		}
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
}

// wait writes the replies so far and lets d pass. It reads meanwhile, as far
// as the buffer goes: so it sees a client that hangs up, and Sink.Close ends it.
func (w *wire) wait(d time.Duration) error {
	if err := w.flush(); err != nil {
		return err
	}
	until := time.Now().Add(d)
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	if w.hungUp == nil && w.w < len(w.in) {
		w.conn.SetReadDeadline(until)
		w.deadline = time.Time{}
	}
	for w.hungUp == nil && w.w < len(w.in) {
		n, err := w.conn.Read(w.in[w.w:])
		w.w += n
		if n > 0 {
			w.at = time.Now()
		}
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return nil
		case errors.Is(err, io.EOF):
			// Perhaps only half closed, with commands left to answer.
			w.hungUp = err
		case err != nil:
			return err
		}
	}
	if w.hungUp != nil {
		return nil
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.closing:
		return net.ErrClosed
	}
}

// reset ends the connection with an RST.
func (w *wire) reset() {
	if c, ok := w.raw.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0) // without it the close is a FIN
	}
	w.raw.Close()
}

// finish ends the connection with a FIN.
func (w *wire) finish() {
	type halfCloser interface{ CloseWrite() error }
	c, ok := w.raw.(halfCloser)
	if !ok {
		w.conn.Close()
		return
	}
	if t, ok := w.conn.(halfCloser); ok && w.conn != w.raw {
		_ = t.CloseWrite() // TLS says so too
	}
	if c.CloseWrite() == nil && w.hungUp == nil {
		w.raw.SetReadDeadline(time.Now().Add(lingerTime))
		for n := 0; n < lingerBytes; {
			m, err := w.raw.Read(w.in)
			if err != nil {
				break
			}
			n += m
		}
	}
	w.raw.Close()
}
