package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// The client's half of the grammar is in this file (replies), client.go
// (capabilities and commands), client_address.go (paths) and client_content.go
// (the content between DATA and its dot). Like the rest of the package it has
// no sockets and no clock: bytes in, bytes out.

// Bounds on one reply. RFC 5321 4.5.3.1.5 promises 512 bytes a line; some
// carriers write longer ones, so we bear with eight times as much.
const (
	MaxReplyLine  = 4096
	MaxReplyLines = 128
	MaxReplyBytes = 16 << 10
)

// A ReplyError says that a peer's reply was not SMTP, or was beyond our
// bounds. The connection cannot be used any more: nobody knows where the next
// reply begins.
type ReplyError struct{ Reason string }

// Error is the reason.
func (e *ReplyError) Error() string { return "reply is not SMTP: " + e.Reason }

func replyError(format string, args ...any) error {
	return &ReplyError{fmt.Sprintf(format, args...)}
}

// A RemoteReply is one reply in a buffer that is used again for the next one.
// Most replies are only looked at; Keep copies one that must last.
type RemoteReply struct {
	Code     uint16
	Enhanced message.Enhanced
	text     []byte // lines joined by '\n', without control bytes
	lines    int
	bytes    int // as received
}

// Text is the text of all lines joined by "\n", without the codes. It is valid
// until the next reply is read.
func (r *RemoteReply) Text() []byte { return r.text }

// Keep copies the reply. Text beyond message.MaxReplyText is cut between two
// characters.
func (r *RemoteReply) Keep(phase message.Phase) message.Reply {
	t := r.text
	if len(t) > message.MaxReplyText {
		n := message.MaxReplyText
		for n > 0 && !utf8.RuneStart(t[n]) {
			n--
		}
		t = t[:n]
	}
	return message.Reply{Code: r.Code, Enhanced: r.Enhanced, Text: string(t), Phase: phase}
}

// A ReplyReader splits what a server says into replies. Its buffer is one
// line, MaxReplyLine bytes.
type ReplyReader struct {
	src        io.Reader
	buf        []byte
	start, end int
}

// Reset makes r read from src and forgets what is buffered.
func (r *ReplyReader) Reset(src io.Reader) {
	if r.buf == nil {
		r.buf = make([]byte, MaxReplyLine)
	}
	r.src, r.start, r.end = src, 0, 0
}

// Buffered is how many bytes were received beyond the last reply. When no
// command is waiting for an answer, anything but 0 is a peer that talks out of
// turn; after the answer to STARTTLS it is an attack (RFC 3207 4.2,
// CVE-2011-0411).
func (r *ReplyReader) Buffered() int { return r.end - r.start }

// Read reads one reply of one or more lines into rep. Errors are those of the
// source, io.ErrUnexpectedEOF inside a reply, io.EOF before one, or a
// *ReplyError.
func (r *ReplyReader) Read(rep *RemoteReply) error {
	*rep = RemoteReply{text: rep.text[:0]}
	for {
		line, err := r.line()
		if err != nil {
			if errors.Is(err, io.EOF) && (rep.lines > 0 || r.Buffered() > 0) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		more, err := rep.add(line)
		if err != nil || !more {
			return err
		}
	}
}

// line returns the next line without its end. RFC 5321 2.3.8 asks for CRLF; a
// bare LF is taken too, since nothing follows a reply that could be smuggled.
func (r *ReplyReader) line() ([]byte, error) {
	seen, idle := r.start, 0
	for {
		if i := bytes.IndexByte(r.buf[seen:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : seen+i]
			r.start = seen + i + 1
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		}
		if r.start > 0 {
			r.end = copy(r.buf, r.buf[r.start:r.end])
			r.start = 0
		}
		if r.end == len(r.buf) {
			return nil, replyError("line longer than %d bytes", MaxReplyLine)
		}
		seen = r.end
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			idle = 0
			continue
		}
		if err != nil {
			return nil, err
		}
		if idle++; idle == 100 {
			return nil, io.ErrNoProgress
		}
	}
}

// add takes one line; more says that the reply goes on.
func (r *RemoteReply) add(line []byte) (more bool, err error) {
	code, ok := replyCode(line)
	if !ok {
		return false, replyError("want a line with a code of 200 to 599, got %q", clip(line))
	}
	if r.lines > 0 && code != r.Code {
		return false, replyError("code changes from %d to %d within one reply", r.Code, code)
	}
	if r.bytes += len(line); r.bytes > MaxReplyBytes {
		return false, replyError("longer than %d bytes", MaxReplyBytes)
	}
	r.Code = code
	r.lines++
	var rest []byte
	if len(line) > 3 {
		// RFC 5321 4.2: a code alone, without the space, must be accepted.
		if line[3] != ' ' && line[3] != '-' {
			return false, replyError("want a space or hyphen behind the code, got %q", clip(line))
		}
		rest = line[4:]
		more = line[3] == '-'
	}
	if more && r.lines == MaxReplyLines {
		return false, replyError("more than %d lines", MaxReplyLines)
	}
	if e, n := leadingEnhanced(rest); n > 0 && (r.lines == 1 || e == r.Enhanced) {
		r.Enhanced = e
		rest = rest[n:]
	}
	if r.lines > 1 {
		r.text = append(r.text, '\n')
	}
	r.text = appendClean(r.text, rest)
	return more, nil
}

func replyCode(line []byte) (uint16, bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, false
	}
	return uint16(line[0]-'0')*100 + uint16(line[1]-'0')*10 + uint16(line[2]-'0'), true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// leadingEnhanced reads "5.1.1" in front of text (RFC 2034 4), and how many
// bytes to drop with it; 0 where there is none.
func leadingEnhanced(b []byte) (message.Enhanced, int) {
	if len(b) < 5 || b[1] != '.' || (b[0] != '2' && b[0] != '4' && b[0] != '5') {
		return message.Enhanced{}, 0
	}
	subject, i := number(b, 2)
	if i < 0 || i >= len(b) || b[i] != '.' {
		return message.Enhanced{}, 0
	}
	detail, i := number(b, i+1)
	if i < 0 || (i < len(b) && b[i] != ' ' && b[i] != '\t') {
		return message.Enhanced{}, 0
	}
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return message.Enhanced{Class: b[0] - '0', Subject: subject, Detail: detail}, i
}

// number reads one to three digits at b[i:] and returns where they end, -1
// where there are none or more.
func number(b []byte, i int) (uint16, int) {
	var v uint16
	start := i
	for ; i < len(b) && isDigit(b[i]); i++ {
		if i-start == 3 {
			return 0, -1
		}
		v = v*10 + uint16(b[i]-'0')
	}
	if i == start {
		return 0, -1
	}
	return v, i
}

// appendClean appends text without anything that could steer a terminal or
// break a log line: control bytes, C1 controls, Unicode line ends and bytes that
// are not UTF-8 become '?', a tab becomes a space.
func appendClean(dst, text []byte) []byte {
	plain := true
	for _, c := range text {
		if c < 0x20 || c > 0x7e {
			plain = false
			break
		}
	}
	if plain {
		return append(dst, text...)
	}
	for len(text) > 0 {
		c, n := utf8.DecodeRune(text)
		switch {
		case c == '\t':
			dst = append(dst, ' ')
		case c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || (c == utf8.RuneError && n == 1):
			dst = append(dst, '?')
		default:
			dst = append(dst, text[:n]...)
		}
		text = text[n:]
	}
	return dst
}

// clip shortens foreign bytes for an error text.
func clip(b []byte) []byte {
	const most = 60
	return appendClean(nil, b[:min(len(b), most)])
}

// IsReplyError reports whether err says that the peer does not speak SMTP.
func IsReplyError(err error) bool {
	var e *ReplyError
	return errors.As(err, &e)
}
