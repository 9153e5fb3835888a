package compose

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
)

// encoding is a Content-Transfer-Encoding (RFC 2045 section 6).
type encoding string

const (
	sevenBit        encoding = "7bit"
	quotedPrintable encoding = "quoted-printable"
	base64Lines     encoding = "base64"
)

// boundaryMark begins all our boundaries. "=_" can occur neither in
// quoted-printable nor in base64 (RFC 2045 6.7), and text that holds it is not
// sent as 7bit, so a boundary never occurs in a part.
const boundaryMark = "=_"

// chooseEncoding picks 7bit for plain ASCII with short lines, else the shorter
// of quoted-printable and base64. Lines that begin with "From " or "." are not
// left to the mercy of mailboxes and relays. s has CRLF line ends only.
func chooseEncoding(s []byte) encoding {
	special := 0
	plain := true
	b64 := (len(s) + 2) / 3 * 4
	b64 += b64 / lineBase64 * len("\r\n")
	for from := 0; from < len(s); {
		end, next := len(s), len(s)
		if i := bytes.IndexByte(s[from:], '\n'); i >= 0 {
			end, next = from+i, from+i+1
		}
		if end > from && s[end-1] == '\r' {
			end--
		}
		line := s[from:end]
		if len(line) > maxLine {
			plain = false
		}
		if startsBadly(line) {
			special++
			plain = false
		}
		n, ok := specials(line)
		special += n
		plain = plain && ok
		if !plain && len(s)+2*special > b64 {
			return base64Lines // it only becomes worse
		}
		from = next
	}
	if plain {
		return sevenBit
	}
	qp := len(s) + 2*special
	qp += qp / 73 * len("=\r\n")
	if qp <= b64 {
		return quotedPrintable
	}
	return base64Lines
}

// startsBadly reports a line that mailboxes or relays may change.
func startsBadly(line []byte) bool {
	return len(line) > 0 && (line[0] == '.' || line[0] == 'F' && bytes.HasPrefix(line, []byte("From ")))
}

// specials counts the bytes of a line that quoted-printable escapes wherever
// they stand, and reports whether 7bit can carry it. Eight bytes are judged at
// once: byte by byte this was a sixth of all that a bulk delivery cost.
func specials(line []byte) (n int, plain bool) {
	plain = true
	i := 0
	for ; i+8 <= len(line); i += 8 {
		if w := binary.LittleEndian.Uint64(line[i:]); ordinary(w) {
			continue
		}
		for j := i; j < i+8; j++ {
			n, plain = special(line, j, n, plain)
		}
	}
	for ; i < len(line); i++ {
		n, plain = special(line, i, n, plain)
	}
	return n, plain
}

func special(line []byte, i, n int, plain bool) (int, bool) {
	switch c := line[i]; {
	case c >= 0x80 || c < 0x20 && c != '\t' || c == 0x7f:
		return n + 1, false
	case c == '=':
		return n + 1, plain && (i+1 == len(line) || line[i+1] != '_')
	}
	return n, plain
}

// ordinary reports whether all eight bytes are printable ASCII other than "=".
// The terms are the known tests for "some byte is below n" and "some byte is
// zero", which never overlook one.
func ordinary(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	equal, del := w^('='*ones), w^(0x7f*ones)
	return (w|(w-0x20*ones)|(equal-ones)&^equal|(del-ones)&^del)&highs == 0
}

// appendBody appends s in its encoding, without a line end behind the last line.
func appendBody(dst, s []byte, e encoding) []byte {
	switch e {
	case quotedPrintable:
		return appendQuotedPrintable(dst, s)
	case base64Lines:
		return appendBase64(dst, s)
	}
	return append(dst, s...)
}

const lineBase64 = 76

// appendBase64 appends lines of 76 characters.
func appendBase64(dst, s []byte) []byte {
	const in = lineBase64 / 4 * 3
	for len(s) > in {
		dst = base64.StdEncoding.AppendEncode(dst, s[:in])
		dst = append(dst, '\r', '\n')
		s = s[in:]
	}
	return base64.StdEncoding.AppendEncode(dst, s)
}

// appendQuotedPrintable is RFC 2045 6.7, with "From " and "." at the start of a
// line encoded too, and soft breaks never inside of a character.
func appendQuotedPrintable(dst, s []byte) []byte {
	col := 0
	for i := 0; i < len(s); i++ {
		if n := literals(s[i:], foldAt-1-col); n > 0 && (col > 0 || s[i] != '.' && s[i] != 'F') {
			dst = append(dst, s[i:i+n]...)
			if col, i = col+n, i+n; i == len(s) {
				break
			}
		}
		c := s[i]
		if c == '\r' && i+1 < len(s) && s[i+1] == '\n' {
			dst = append(dst, '\r', '\n')
			col = 0
			i++
			continue
		}
		// The last character of an encoded line needs no room for the "=".
		width, literal := 3, false
		switch {
		case c == ' ' || c == '\t':
			literal = i+1 < len(s) && s[i+1] != '\r' && s[i+1] != '\n'
		case col == 0 && (c == '.' || c == 'F' && bytes.HasPrefix(s[i:], []byte("From "))):
		default:
			literal = c > 0x20 && c < 0x7f && c != '='
		}
		if literal {
			width = 1
		}
		need := width
		if c >= 0xc0 { // the whole character on one line
			need = 3 * runeLen(c)
		}
		if col+need > foldAt-1 {
			dst = append(dst, '=', '\r', '\n')
			col = 0
			if literal && (c == '.' || c == 'F' && bytes.HasPrefix(s[i:], []byte("From "))) {
				literal, width = false, 3
			}
		}
		if literal {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', hexUpper[c>>4], hexUpper[c&15])
		}
		col += width
	}
	return dst
}

// literals is how many bytes at the start of s, at most limit, stand for
// themselves wherever in a line they are: most of a text, taken as a whole.
func literals(s []byte, limit int) (n int) {
	for limit = min(limit, len(s)); n < limit; n++ {
		if c := s[n]; (c <= 0x20 || c >= 0x7f || c == '=') && (c != ' ' || n+1 == len(s) || s[n+1] <= 0x20) {
			break
		}
	}
	return n
}

func runeLen(first byte) int {
	switch {
	case first >= 0xf0:
		return 4
	case first >= 0xe0:
		return 3
	}
	return 2
}
