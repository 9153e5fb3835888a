package ingest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on what one connection holds in memory beside a message.
const (
	inputBuffer  = 16 << 10
	largeInput   = 64 << 10 // of a client that once filled the other
	maxInputLine = 12 << 10 // RFC 4954 4: 12288 for AUTH, the longest line there is
	outputFlush  = 8 << 10
)

// wire is the connection seen as lines in and replies out. Replies gather
// while whole commands are waiting in the input, and leave before the next
// read (RFC 2920 3.2): a group of pipelined commands costs one read and one
// write.
type wire struct {
	drain    *atomic.Bool // while idle: the server's flag, which ends the wait
	conn     net.Conn
	in       []byte // the input buffer; in[r:w] is unread
	r, w     int
	full     bool    // the last read filled it
	borrowed *[]byte // in, when it is one of largeInputs
	out      []byte
	spare    []byte // the output buffer's other half, for settle
	settle   func() // completes out before it is sent
	trouble  error  // the first error of the connection; after it, nothing is read or written
	write    time.Duration
	wrote    int64
	read     int64

	// The deadlines that the connection has. They may be earlier than what is
	// wanted, never later: one that ends a wait too early is set again then.
	// To set them for each read and write was 2 % of the CPU of a message.
	readBy, writeBy time.Time
	always          bool // TLS cannot go on with a record after a deadline: set each
}

// What can be wrong with a line.
var (
	errBareLF   = errors.New("line ends in a bare LF")
	errLineLong = errors.New("line does not fit the input buffer")
)

func newWire(conn net.Conn, write time.Duration) *wire {
	return &wire{conn: conn, in: make([]byte, inputBuffer), out: make([]byte, 0, 1024), write: write}
}

// largeInputs are input buffers of clients that send more at once than fits an
// ordinary one: large content, or several messages by BDAT.
var largeInputs = sync.Pool{New: func() any {
	b := make([]byte, largeInput)
	return &b
}}

// widen takes a larger input buffer.
func (w *wire) widen() {
	w.borrowed = largeInputs.Get().(*[]byte)
	w.w = copy(*w.borrowed, w.in[w.r:w.w])
	w.r, w.in = 0, *w.borrowed
}

// release gives back what was borrowed. It is the owner's last act.
func (w *wire) release() {
	if w.borrowed != nil {
		largeInputs.Put(w.borrowed)
		w.in, w.r, w.w, w.borrowed = nil, 0, 0, nil
	}
}

// pending reports whether input is waiting that nobody has looked at.
func (w *wire) pending() bool { return w.w > w.r }

// discard throws waiting input away and returns how much it was.
func (w *wire) discard() int {
	n := w.w - w.r
	w.r, w.w = 0, 0
	return n
}

// line returns the next line without its CRLF. It is valid until the next
// call. The deadline is for the whole line, so a client cannot stretch it by
// sending a byte at a time. Any LF ends the search: one that is not behind a
// CR is an error, never a line end (RFC 5321 2.3.8).
func (w *wire) line(deadline time.Time) ([]byte, error) {
	searched := 0
	for {
		if i := bytes.IndexByte(w.in[w.r+searched:w.w], '\n'); i >= 0 {
			i += w.r + searched
			if i-w.r >= inputBuffer {
				return nil, errLineLong
			}
			if i == w.r || w.in[i-1] != '\r' {
				return nil, errBareLF
			}
			l := w.in[w.r : i-1]
			w.r = i + 1
			return l, nil
		}
		searched = w.w - w.r
		if searched >= inputBuffer {
			return nil, errLineLong
		}
		if err := w.fill(deadline); err != nil {
			return nil, err
		}
	}
}

// fill reads more input, behind what is unread. The buffer must have room.
func (w *wire) fill(deadline time.Time) error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.r > 0 { // what is left is the start of a line
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
	}
	if w.full && w.borrowed == nil {
		w.widen()
	}
	if w.always || w.readBy.IsZero() || w.readBy.After(deadline) {
		if err := w.setReadDeadline(deadline); err != nil {
			return err
		}
	}
	for {
		// A drain that set its deadline before ours would be overridden; it had
		// stored the flag before, so we see it here.
		if w.drain != nil && w.drain.Load() {
			return os.ErrDeadlineExceeded
		}
		n, err := w.conn.Read(w.in[w.w:])
		w.w += n
		w.read += int64(n)
		w.full = w.w == len(w.in)
		switch {
		case n > 0: // an error comes back with the next read
			return nil
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return w.fail(err)
		case !time.Now().Before(deadline):
			return err // still good for a farewell
		}
		if err := w.setReadDeadline(deadline); err != nil {
			return err
		}
	}
}

func (w *wire) setReadDeadline(t time.Time) error {
	if err := w.conn.SetReadDeadline(t); err != nil {
		return w.fail(err)
	}
	w.readBy = t
	return nil
}

// use takes another connection, whose deadlines are not known. secure is that
// it is TLS.
func (w *wire) use(conn net.Conn, secure bool) {
	w.conn, w.always = conn, secure
	w.readBy, w.writeBy = time.Time{}, time.Time{}
}

func (w *wire) fail(err error) error {
	if w.trouble == nil {
		w.trouble = err
	}
	return w.trouble
}

// flush sends the replies gathered so far.
func (w *wire) flush() error {
	if w.settle != nil {
		w.settle()
	}
	if w.trouble != nil {
		return w.trouble
	}
	if len(w.out) == 0 {
		return nil
	}
	out := w.out
	w.out = w.out[:0]
	deadline := time.Now().Add(w.write)
	for {
		if w.always || w.writeBy.IsZero() || w.writeBy.After(deadline) {
			if err := w.conn.SetWriteDeadline(deadline); err != nil {
				return w.fail(err)
			}
			w.writeBy = deadline
		}
		n, err := w.conn.Write(out)
		w.wrote += int64(n)
		if err == nil {
			return nil
		}
		if w.always || !errors.Is(err, os.ErrDeadlineExceeded) || !time.Now().Before(deadline) {
			return w.fail(err)
		}
		out = out[n:]
		w.writeBy = time.Time{}
	}
}

// reply adds a one-line reply. enhanced may be "".
func (w *wire) reply(code uint16, enhanced, text string) {
	w.out = appendReply(w.out, code, enhanced, text)
}

func appendReply(b []byte, code uint16, enhanced, text string) []byte {
	b = strconv.AppendUint(b, uint64(code), 10)
	b = append(b, ' ')
	if enhanced != "" {
		b = append(append(b, enhanced...), ' ')
	}
	return append(append(b, text...), '\r', '\n')
}

// appendClean appends text made elsewhere to a reply: control bytes and
// non-ASCII become "?", and it is cut at 400 bytes.
func appendClean(dst []byte, text string) []byte {
	for i := 0; i < len(text) && i < 400; i++ {
		c := text[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}
