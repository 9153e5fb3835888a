package compose

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// Line lengths. RFC 5322 2.1.1: 998 at most, 78 preferred; RFC 2047 section 2:
// 76 for a line with encoded-words and 75 for each of them.
const (
	maxLine    = 998
	foldAt     = 76
	maxWord    = 75
	wordFrame  = len("=?UTF-8?B?") + len("?=")
	minPayload = 8   // fold rather than begin a word with less room than this
	longToken  = 900 // an unbroken token beyond this is encoded to be foldable
	hexUpper   = "0123456789ABCDEF"
	fold       = "\r\n" // stands before white space
)

// appendText appends s as an unstructured field value (RFC 5322 2.2.1) that
// begins at column col: ASCII words as they are, others as encoded-words, folded
// at spaces. s has no controls.
func appendText(dst []byte, col int, s []byte) []byte {
	s = bytes.Trim(s, " ")
	for len(s) > 0 {
		// sep is the white space in front of the run, empty at the start.
		n := len(s) - len(bytes.TrimLeft(s, " "))
		sep, rest := s[:n], s[n:]
		end := wordEnd(rest)
		if !needsEncoding(rest[:end]) {
			if len(sep) > 0 && col+n+end > foldAt {
				dst, col = append(dst, fold...), 0
			}
			dst = append(append(dst, sep...), rest[:end]...)
			col += n + end
			s = rest[end:]
			continue
		}
		// The white space between two encoded-words is dropped by readers
		// (RFC 2047 6.2), so a run of words is encoded with its spaces.
		for {
			gap := end + len(rest[end:]) - len(bytes.TrimLeft(rest[end:], " "))
			next := gap + wordEnd(rest[gap:])
			if gap == len(rest) || !needsEncoding(rest[gap:next]) {
				break
			}
			end = next
		}
		if len(sep) > 1 && col+n+wordFrame+minPayload > foldAt {
			dst, col = append(dst, fold...), 0
		}
		dst, col = appendWords(dst, col, sep, rest[:end])
		s = rest[end:]
	}
	return dst
}

func wordEnd(s []byte) int {
	if i := bytes.IndexByte(s, ' '); i >= 0 {
		return i
	}
	return len(s)
}

func needsEncoding(word []byte) bool {
	if len(word) > longToken || bytes.Contains(word, []byte("=?")) {
		return true
	}
	for _, c := range word {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// appendWords appends s as one or more encoded-words, split between characters
// (RFC 2047 section 5: "MUST represent an integral number of characters"), each
// line folded. sep goes in front of the first. It returns the column it ends in.
func appendWords(dst []byte, col int, sep, s []byte) ([]byte, int) {
	q := preferQ(s)
	for first := true; len(s) > 0; first = false {
		if !first {
			dst, col, sep = append(dst, fold...), 0, []byte{' '}
		} else if col+len(sep)+wordFrame+minPayload > foldAt {
			dst, col = append(dst, fold...), 0
			if len(sep) == 0 {
				sep = []byte{' '}
			}
		}
		dst = append(dst, sep...)
		col += len(sep)
		room := min(maxWord, foldAt-col) - wordFrame
		n, width := wordFit(s, room, q)
		if q {
			dst = appendQ(append(dst, "=?UTF-8?Q?"...), s[:n])
		} else {
			dst = base64.StdEncoding.AppendEncode(append(dst, "=?UTF-8?B?"...), s[:n])
		}
		dst = append(dst, "?="...)
		col += wordFrame + width
		s = s[n:]
	}
	return dst, col
}

// wordFit returns how many bytes of s, in whole characters, fit into room, and
// how wide they become. At least one character is always taken: the widest is
// 12 in Q, and callers leave room for that by folding.
func wordFit(s []byte, room int, q bool) (n, width int) {
	for n < len(s) {
		_, size := utf8.DecodeRune(s[n:])
		w := (n + size + 2) / 3 * 4
		if q {
			w = width
			for _, c := range s[n : n+size] {
				w += qWidth(c)
			}
		}
		if w > room && n > 0 {
			break
		}
		n, width = n+size, w
	}
	return n, width
}

func preferQ(s []byte) bool {
	w := 0
	for _, c := range s {
		w += qWidth(c)
	}
	return w < (len(s)+2)/3*4
}

// qLiteral holds what RFC 2047 5(3) allows in a phrase, the strictest place.
const qLiteral = "!*+-/"

func qWidth(c byte) int {
	if c == ' ' || isAlnum(c) || strings.IndexByte(qLiteral, c) >= 0 {
		return 1
	}
	return 3
}

func appendQ(dst, s []byte) []byte {
	for _, c := range s {
		switch {
		case c == ' ':
			dst = append(dst, '_')
		case qWidth(c) == 1:
			dst = append(dst, c)
		default:
			dst = append(dst, '=', hexUpper[c>>4], hexUpper[c&15])
		}
	}
	return dst
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// appendPhrase appends a display name (RFC 5322 3.2.5).
func appendPhrase(dst []byte, col int, name string) ([]byte, int) {
	name = strings.Trim(name, " ")
	atoms, ascii := true, true
	for i := range len(name) {
		c := name[i]
		ascii = ascii && c < utf8.RuneSelf
		atoms = atoms && (isAlnum(c) || strings.IndexByte(" !#$%&'*+-/=?^_`{|}~", c) >= 0)
	}
	if !ascii || len(name) > 60 || strings.Contains(name, "=?") {
		return appendWords(dst, col, nil, []byte(name))
	}
	from := len(dst)
	if atoms && !strings.Contains(name, "  ") {
		dst = append(dst, name...)
	} else {
		dst = appendQuoted(dst, name)
	}
	return dst, col + len(dst) - from
}

// appendQuoted appends a quoted-string.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// appendMailbox appends "name <email>", or the address alone.
func appendMailbox(dst []byte, col int, name, email string) []byte {
	if strings.Trim(name, " ") == "" {
		return append(dst, email...)
	}
	dst, col = appendPhrase(dst, col, name)
	if col+len(" <>")+len(email) > foldAt {
		dst = append(dst, fold...)
	}
	dst = append(append(dst, " <"...), email...)
	return append(dst, '>')
}

// appendFilename appends a parameter on a line of its own: quoted if it is
// ASCII, else by RFC 2231, in sections if it does not fit a line.
func appendFilename(dst []byte, param, value string) []byte {
	dst = append(append(dst, ";\r\n "...), param...)
	if isASCII(value) && len(value)+len(param)+len(` =""`) <= foldAt {
		return appendQuoted(append(dst, '='), value)
	}
	var enc []byte
	const prefix = "UTF-8''"
	room := foldAt - len(param) - len(" *10*=;")
	section := 0
	flush := func(last bool) {
		if section == 0 && last {
			dst = append(dst, "*="...)
		} else {
			if section > 0 {
				dst = append(append(dst, ";\r\n "...), param...)
			}
			dst = append(dst, '*')
			if section > 9 {
				dst = append(dst, '0'+byte(section/10))
			}
			dst = append(dst, '0'+byte(section%10), '*', '=')
		}
		if section == 0 {
			dst = append(dst, prefix...)
		}
		dst = append(dst, enc...)
		enc = enc[:0]
		section++
	}
	for _, r := range value {
		var b [utf8.UTFMax]byte
		n := utf8.EncodeRune(b[:], r)
		from := len(enc)
		for _, c := range b[:n] {
			if isAlnum(c) || c == '-' || c == '.' || c == '_' {
				enc = append(enc, c)
			} else {
				enc = append(enc, '%', hexUpper[c>>4], hexUpper[c&15])
			}
		}
		limit := room
		if section == 0 {
			limit -= len(prefix)
		}
		if len(enc) > limit {
			tail := string(enc[from:])
			enc = enc[:from]
			flush(false)
			enc = append(enc, tail...)
		}
	}
	flush(true)
	return dst
}

// asciiName is the file name for readers that do not know RFC 2231.
func asciiName(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r >= utf8.RuneSelf {
			r = '_'
		}
		b.WriteByte(byte(r))
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
