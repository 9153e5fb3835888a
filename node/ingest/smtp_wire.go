package ingest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// Bounds on what one connection holds in memory beside a message.
const (
	inputBuffer  = 16 << 10
	maxInputLine = 12 << 10 // RFC 4954 4: 12288 for AUTH, the longest line there is
	outputFlush  = 8 << 10
)

// wire is the connection seen as lines in and replies out. Replies gather
// while whole commands are waiting in the input, and leave before the next
// read (RFC 2920 3.2): a group of pipelined commands costs one read and one
// write.
type wire struct {
	drain   *atomic.Bool // while idle: the server's flag, which ends the wait
	conn    net.Conn
	in      []byte // the input buffer; in[r:w] is unread
	r, w    int
	out     []byte
	trouble error // the first error of the connection; after it, nothing is read or written
	write   time.Duration
	wrote   int64
	read    int64
}

// What can be wrong with a line.
var (
	errBareLF   = errors.New("line ends in a bare LF")
	errLineLong = errors.New("line does not fit the input buffer")
)

func newWire(conn net.Conn, write time.Duration) *wire {
	return &wire{conn: conn, in: make([]byte, inputBuffer), out: make([]byte, 0, 1024), write: write}
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
			if i == w.r || w.in[i-1] != '\r' {
				return nil, errBareLF
			}
			l := w.in[w.r : i-1]
			w.r = i + 1
			return l, nil
		}
		searched = w.w - w.r
		if searched == len(w.in) {
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
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return w.fail(err)
	}
	// A drain that set its deadline before ours would be overridden; it had
	// stored the flag before, so we see it here.
	if w.drain != nil && w.drain.Load() {
		return os.ErrDeadlineExceeded
	}
	n, err := w.conn.Read(w.in[w.w:])
	w.w += n
	w.read += int64(n)
	if n > 0 {
		return nil // an error comes back with the next read
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err // still good for a farewell
	}
	return w.fail(err)
}

func (w *wire) fail(err error) error {
	if w.trouble == nil {
		w.trouble = err
	}
	return w.trouble
}

// flush sends the replies gathered so far.
func (w *wire) flush() error {
	if w.trouble != nil {
		return w.trouble
	}
	if len(w.out) == 0 {
		return nil
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.write)); err != nil {
		return w.fail(err)
	}
	n, err := w.conn.Write(w.out)
	w.wrote += int64(n)
	w.out = w.out[:0]
	if err != nil {
		return w.fail(err)
	}
	return nil
}

// reply adds a one-line reply. enhanced may be "".
func (w *wire) reply(code uint16, enhanced, text string) {
	w.out = strconv.AppendUint(w.out, uint64(code), 10)
	w.out = append(w.out, ' ')
	if enhanced != "" {
		w.out = append(append(w.out, enhanced...), ' ')
	}
	w.out = append(append(w.out, text...), '\r', '\n')
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
