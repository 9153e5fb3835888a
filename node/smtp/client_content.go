package smtp

import (
	"bytes"
	"encoding/binary"
	"iter"
)

// ContentFacts is what a client must know of content before it sends it, all
// found in one look.
type ContentFacts struct {
	Size     int    // bytes, CRLF counted as two, no stuffing (RFC 1870 3)
	EightBit bool   // has bytes of 128 and above
	Dots     bool   // has lines that begin with a dot
	Ended    bool   // ends in CRLF, or is empty
	Unsafe   string // "", or what keeps it from being sent as lines of text
}

// ScanContent looks at content that is given in pieces.
//
// INVARIANT: content with a bare CR, a bare LF or a NUL is never sent in DATA:
// one receiver's end of data is another's text (design.md 5.5). Ingest refuses
// or repairs it; this is the last door.
func ScanContent(pieces [][]byte) ContentFacts {
	f := ContentFacts{Ended: true}
	var last byte
	cr, lf := 0, 0
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		f.Size += len(p)
		if f.Ended && p[0] == '.' {
			f.Dots = true
		}
		for i := 0; ; {
			j := bytes.IndexByte(p[i:], '\n')
			if j < 0 {
				break
			}
			i += j
			if byteBefore(p, i, last) != '\r' && f.Unsafe == "" {
				f.Unsafe = "a bare LF"
			}
			lf++
			if i++; i < len(p) && p[i] == '.' {
				f.Dots = true
			}
		}
		cr += bytes.Count(p, []byte{'\r'})
		if bytes.IndexByte(p, 0) >= 0 {
			f.Unsafe = "a NUL byte"
		}
		f.EightBit = f.EightBit || hasHighBit(p)
		last = p[len(p)-1]
		f.Ended = last == '\n'
	}
	if f.Unsafe == "" && cr != lf {
		f.Unsafe = "a bare CR"
	}
	return f
}

func byteBefore(p []byte, i int, last byte) byte {
	if i == 0 {
		return last
	}
	return p[i-1]
}

func hasHighBit(p []byte) bool {
	const high = 0x8080808080808080
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(p[i:]) }
	for len(p) >= 64 { // content is ASCII as a rule: look at much at once
		if (word(0)|word(8)|word(16)|word(24)|word(32)|word(40)|word(48)|word(56))&high != 0 {
			return true
		}
		p = p[64:]
	}
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p)&high != 0 {
			return true
		}
		p = p[8:]
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// HeaderIsASCII reports whether everything in front of the first empty line is
// ASCII: then content needs no SMTPUTF8 for itself (RFC 6531 3.1, RFC 6532).
func HeaderIsASCII(pieces [][]byte) bool {
	var line int // bytes on the line so far, not counting CR
	for _, p := range pieces {
		for _, c := range p {
			switch {
			case c >= 0x80:
				return false
			case c == '\n':
				if line == 0 {
					return true
				}
				line = 0
			case c != '\r':
				line++
			}
		}
	}
	return true
}

var singleDot = []byte{'.'}

// Stuffed yields the content with a dot added to each line that begins with
// one (RFC 5321 4.5.2). The pieces are parts of the given ones, not copies.
// The content must be safe as ScanContent says.
func Stuffed(pieces [][]byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		lineStart := true
		for _, p := range pieces {
			for len(p) > 0 {
				if lineStart && p[0] == '.' && !yield(singleDot) {
					return
				}
				n := bytes.Index(p, []byte("\n."))
				if n < 0 {
					n = len(p) - 1
				}
				if !yield(p[:n+1]) {
					return
				}
				lineStart = p[n] == '\n'
				p = p[n+1:]
			}
		}
	}
}
