package dkim

import (
	"bytes"
	"hash"
)

// relaxedBody feeds a hash with the relaxed canonical form of a body (RFC 6376
// 3.4.4): runs of white space become one space, white space at line ends and
// empty lines at the end vanish, a body that is not empty ends in CRLF.
//
// Most bytes of real mail are canonical already. What changes something is a
// tab, a second space, or a space before CR; those are found with the vector
// instructions behind package bytes, and everything between goes to the hash
// straight from the message, without a copy. Where there is something to
// reduce, there often is more close by (indented HTML): a stretch from there on
// goes through reduce, and a longer one if that was too short.
type relaxedBody struct {
	h     hash.Hash
	buf   []byte // pieces gathered for the hash
	space bool   // a run of white space is open at the end of the last segment
}

// Bytes that go through reduce before the next search. A search takes about as
// long as reducing 100 bytes.
const (
	shortStretch = 256
	longStretch  = 2048
)

// scratchSize is room for the longest stretch and for small pieces beside it.
const scratchSize = 2 * longStretch

// hashBody writes the canonical form of the body, given in segments, to h.
// Scratch is a buffer that may be overwritten.
func hashBody(h hash.Hash, scratch []byte, body [][]byte) {
	for len(body) > 0 {
		last := len(body) - 1
		if t := trimEnd(body[last]); len(t) > 0 {
			break
		}
		body = body[:last]
	}
	if len(body) == 0 {
		return // RFC 6376 3.4.4: an empty body stays empty, without a CRLF
	}
	r := relaxedBody{h: h, buf: scratch[:0]}
	for i, seg := range body {
		if i == len(body)-1 {
			seg = trimEnd(seg)
		}
		r.segment(seg)
	}
	r.emit(crlf)
	r.h.Write(r.buf)
}

var crlf = []byte("\r\n")

// trimEnd cuts trailing white space and line ends.
func trimEnd(b []byte) []byte {
	i := len(b)
	for i > 0 && (b[i-1] == '\n' || b[i-1] == '\r' || b[i-1] == ' ' || b[i-1] == '\t') {
		i--
	}
	return b[:i]
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// segment takes the next piece of the body. A run of white space may go over
// its edge: what ends the run decides whether it becomes a space or nothing.
func (r *relaxedBody) segment(b []byte) {
	end := len(b)
	for end > 0 && isSpace(b[end-1]) {
		end--
	}
	open := end < len(b)
	b = b[:end]
	if len(b) == 0 {
		r.space = r.space || open
		return
	}
	start := 0
	for isSpace(b[start]) { // ends: the last byte is not white space
		r.space = true
		start++
	}
	if r.space && b[start] != '\r' {
		r.emit(space)
	}
	r.space = open
	b = b[start:]

	finders := [...]finder{{sep: tab}, {sep: twoSpaces}, {sep: spaceCR}}
	stretch := shortStretch
	for from := 0; from < len(b); {
		at := len(b)
		for i := range finders {
			at = min(at, finders[i].next(b, from))
		}
		if at < len(b) && at > from && b[at-1] == ' ' {
			at-- // a tab after a single space is found at the tab
		}
		if at-from < shortStretch && from > 0 {
			stretch = min(2*stretch, longStretch)
		} else {
			stretch = shortStretch
		}
		r.emit(b[from:at])
		if from = min(at+stretch, len(b)); at < from {
			r.reduce(b[at:from], b[min(from, len(b)-1)])
		}
	}
}

// reduce gathers the canonical form of b, which next follows.
func (r *relaxedBody) reduce(b []byte, next byte) {
	if cap(r.buf)-len(r.buf) < len(b)+wordSize {
		r.h.Write(r.buf)
		r.buf = r.buf[:0]
	}
	n := reduce(r.buf[len(r.buf):cap(r.buf)], b, next)
	r.buf = r.buf[:len(r.buf)+n]
}

var (
	space     = []byte(" ")
	tab       = []byte("\t")
	twoSpaces = []byte("  ")
	spaceCR   = []byte(" \r")
)

// finder remembers where its separator stands next, so that each separator is
// searched over the body once, however often the others are found.
type finder struct {
	sep  []byte
	at   int
	init bool
}

func (f *finder) next(b []byte, from int) int {
	if f.init && f.at >= from {
		return f.at
	}
	f.init = true
	f.at = len(b)
	if i := bytes.Index(b[from:], f.sep); i >= 0 {
		f.at = from + i
	}
	return f.at
}

// gather is the size below which pieces are collected: a call of the hash
// costs more than the copy.
const gather = 512

func (r *relaxedBody) emit(b []byte) {
	if len(b) < gather && len(r.buf)+len(b) <= cap(r.buf) {
		r.buf = append(r.buf, b...)
		return
	}
	if len(r.buf) > 0 {
		r.h.Write(r.buf)
		r.buf = r.buf[:0]
	}
	if len(b) < gather && len(b) <= cap(r.buf) {
		r.buf = append(r.buf, b...)
		return
	}
	r.h.Write(b)
}

// appendRelaxedField appends the relaxed canonical form of a header field
// (RFC 6376 3.4.2): name in lower case, value unfolded, white space runs as
// one space and none at either end. Without the final CRLF.
func appendRelaxedField(dst, name, value []byte) []byte {
	for _, c := range name {
		dst = append(dst, lower(c))
	}
	dst = append(dst, ':')
	start := len(dst)
	run := true // drops white space in front
	from := 0
	for i, c := range value {
		if c > ' ' || (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
			if run {
				from, run = i, false
			}
			continue
		}
		if !run {
			dst = append(append(dst, value[from:i]...), ' ')
			run = true
		}
	}
	if !run {
		return append(dst, value[from:]...)
	}
	if len(dst) > start {
		dst = dst[:len(dst)-1] // the space after the last word
	}
	return dst
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
