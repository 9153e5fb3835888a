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
// straight from the message, without a copy.
type relaxedBody struct {
	h     hash.Hash
	buf   []byte // small pieces, gathered for the hash
	space bool   // a run of white space is open at the end of the last segment
}

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
	for from := 0; from < len(b); {
		at := len(b)
		for i := range finders {
			at = min(at, finders[i].next(b, from))
		}
		if at < len(b) && at > from && b[at-1] == ' ' {
			at-- // a tab after a single space is found at the tab
		}
		r.emit(b[from:at])
		from = r.line(b, at)
	}
}

// line reduces white space from position at, where some begins, to the end of
// the line, and returns where the next one begins. A line that holds one run
// to reduce often holds many, and restarting the search for each took twice as
// long on indented HTML.
func (r *relaxedBody) line(b []byte, at int) int {
	for at < len(b) {
		run := at
		for at < len(b) && isSpace(b[at]) {
			at++
		}
		word := at
		for at < len(b) && b[at] > ' ' { // most bytes; the rest are sorted out below
			at++
		}
		for at < len(b) && b[at] != '\n' && !isSpace(b[at]) {
			at++
		}
		if len(r.buf)+at-word+2 > cap(r.buf) {
			r.h.Write(r.buf)
			r.buf = r.buf[:0]
		}
		if word > run && word < len(b) && b[word] != '\r' {
			r.buf = append(r.buf, ' ')
		}
		if at < len(b) && b[at] == '\n' {
			at++
			r.emit(b[word:at])
			return at
		}
		r.emit(b[word:at])
	}
	return at
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
