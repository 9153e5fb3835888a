package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// reply is an SMTP reply. text is without codes, lines joined by "\n", and valid
// until the next one is read.
type reply struct {
	code int
	text []byte
}

// replyReader reads SMTP replies (RFC 5321 4.2.1) from a buffer of its own. It
// shares no code with the product's client: what measures must not have the
// same mistakes.
type replyReader struct {
	r        io.Reader
	buf      []byte
	from, to int
	lines    []byte // of a reply with several
}

const (
	replyBuffer   = 4 << 10 // also the longest line; RFC 5321 4.5.3.1.5 allows 512
	maxReplyLines = 200
)

var (
	errReplyLine  = errors.New("a reply line is too long")
	errReplyLines = errors.New("a reply has too many lines")
)

func (r *replyReader) reset(in io.Reader) {
	if r.buf == nil {
		r.buf = make([]byte, replyBuffer)
	}
	r.r, r.from, r.to = in, 0, 0
}

// buffered is whether something of the next reply is there already.
func (r *replyReader) buffered() bool { return r.from < r.to }

func (r *replyReader) read() (reply, error) {
	line, err := r.line()
	if err != nil {
		return reply{}, err
	}
	code, more, err := replyCode(line)
	if err != nil || !more {
		return reply{code, line[min(4, len(line)):]}, err
	}
	r.lines = append(r.lines[:0], line[4:]...)
	for range maxReplyLines {
		if line, err = r.line(); err != nil {
			return reply{}, err
		}
		again, more, err := replyCode(line)
		if err != nil {
			return reply{}, err
		}
		if again != code {
			return reply{}, fmt.Errorf("a reply changes its code from %d to %d", code, again)
		}
		r.lines = append(append(r.lines, '\n'), line[min(4, len(line)):]...)
		if !more {
			return reply{code, r.lines}, nil
		}
	}
	return reply{}, errReplyLines
}

// replyCode reads "250", "250 text" or "250-text".
func replyCode(line []byte) (code int, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' ||
		len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, fmt.Errorf("not an SMTP reply: %.60q", line)
	}
	return int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0'), len(line) > 3 && line[3] == '-', nil
}

// line is the next line without its end; valid until the next call.
func (r *replyReader) line() ([]byte, error) {
	seen := r.from
	for {
		if i := bytes.IndexByte(r.buf[seen:r.to], '\n'); i >= 0 {
			line := r.buf[r.from : seen+i]
			r.from = seen + i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		if seen = r.to; r.to == len(r.buf) {
			if r.from == 0 {
				return nil, errReplyLine
			}
			copy(r.buf, r.buf[r.from:r.to])
			r.to -= r.from
			seen, r.from = r.to, 0
		}
		if r.from == r.to {
			seen, r.from, r.to = 0, 0, 0
		}
		n, err := r.r.Read(r.buf[r.to:])
		r.to += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}
