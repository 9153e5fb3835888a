package compose

import (
	"bytes"
	"encoding/base64"
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
	special, line := 0, 0
	plain := true
	for i, c := range s {
		switch {
		case c == '\n':
			line = 0
			continue
		case c == '\r':
			continue
		case c >= 0x80 || c < 0x20 && c != '\t' || c == 0x7f:
			special++
			plain = false
		case c == '=':
			special++
			plain = plain && (i+1 == len(s) || s[i+1] != '_')
		case line == 0 && (c == '.' || c == 'F' && bytes.HasPrefix(s[i:], []byte("From "))):
			special++
			plain = false
		}
		if line++; line > maxLine {
			plain = false
		}
	}
	if plain {
		return sevenBit
	}
	qp := len(s) + 2*special
	qp += qp / 73 * len("=\r\n")
	b64 := (len(s) + 2) / 3 * 4
	b64 += b64 / lineBase64 * len("\r\n")
	if qp <= b64 {
		return quotedPrintable
	}
	return base64Lines
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

func runeLen(first byte) int {
	switch {
	case first >= 0xf0:
		return 4
	case first >= 0xe0:
		return 3
	}
	return 2
}
