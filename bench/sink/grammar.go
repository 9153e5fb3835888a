package sink

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// cutCommand splits a line into verb and argument. Trailing spaces go
// (RFC 5321 4.1.1: servers SHOULD tolerate them).
func cutCommand(line []byte) (word, arg []byte) {
	word, arg, _ = bytes.Cut(bytes.TrimRight(line, " "), []byte{' '})
	return word, arg
}

// upper writes word in upper case to dst, if it fits. What does not fit is no
// word that the sink knows.
func upper(dst *[16]byte, word []byte) []byte {
	if len(word) > len(dst) {
		return nil
	}
	for i, c := range word {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst[i] = c
	}
	return dst[:len(word)]
}

// clean reports whether a line has no control bytes: no NUL, TAB, bare CR.
func clean(line []byte) bool {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// cutPath reads "FROM:<address> params" after the given keyword with its
// colon. RFC 5321 3.3: no spaces around the colon. A quoted local part may
// hold ">" and spaces; nothing of it becomes a parameter.
func cutPath(arg []byte, keyword string) (address, params []byte, ok bool) {
	if len(arg) < len(keyword)+2 || !strings.EqualFold(string(arg[:len(keyword)]), keyword) || arg[len(keyword)] != '<' {
		return nil, nil, false
	}
	b := arg[len(keyword)+1:]
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<' || c == ' ':
			return nil, nil, false
		case c == '>':
			params = b[i+1:]
			if len(params) > 0 && params[0] != ' ' {
				return nil, nil, false
			}
			return b[:i], bytes.TrimLeft(params, " "), true
		}
	}
	return nil, nil, false
}

// mailbox reports whether a path names one: local part, "@" and domain.
// What the domain may be is for others to judge.
func mailbox(address []byte) bool {
	at := bytes.LastIndexByte(address, '@')
	return at > 0 && at < len(address)-1
}

// ascii reports whether b needs no SMTPUTF8.
func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// A verb whose parameters are checked.
type verb uint8

const (
	verbMail verb = iota
	verbRcpt
)

// extensionOf names the extension that brings a parameter of MAIL or RCPT. A
// parameter not listed here is brought by the extension of its own name.
func extensionOf(v verb, keyword []byte) string {
	switch string(keyword) {
	case "BODY": // RFC 6152
		return only(v == verbMail, "8BITMIME")
	case "SIZE": // RFC 1870
		return only(v == verbMail, "SIZE")
	case "SMTPUTF8": // RFC 6531
		return only(v == verbMail, "SMTPUTF8")
	case "AUTH": // RFC 4954
		return only(v == verbMail, "AUTH")
	case "RET", "ENVID": // RFC 3461
		return only(v == verbMail, "DSN")
	case "NOTIFY", "ORCPT":
		return only(v == verbRcpt, "DSN")
	}
	return string(keyword)
}

func only(where bool, extension string) string {
	if where {
		return extension
	}
	return ""
}

// params is what the sink itself must know of the parameters of MAIL.
type params struct {
	size int64
	utf8 bool
}

// parse checks that each parameter belongs to an extension that was offered,
// and to the verb, and is given once. The refusal is "" if so.
func (p *params) parse(v verb, b []byte, offered map[string]bool) (refusal string) {
	var seen [8][]byte
	for n := 0; len(b) > 0; n++ {
		var one []byte
		one, b, _ = bytes.Cut(b, []byte{' '})
		b = bytes.TrimLeft(b, " ")
		word, value, hasValue := bytes.Cut(one, []byte{'='})
		if len(word) == 0 || hasValue && len(value) == 0 || n == len(seen) {
			return "501 5.5.4 bad parameters"
		}
		var buf [16]byte
		if word = upper(&buf, word); !offered[extensionOf(v, word)] {
			return "555 5.5.4 parameter of no extension that was offered"
		}
		for _, s := range seen[:n] {
			if bytes.EqualFold(s, word) {
				return "501 5.5.4 parameter given twice"
			}
		}
		seen[n] = one[:len(word)]
		switch string(word) {
		case "SIZE":
			var ok bool
			if p.size, ok = number(value); !ok {
				return "501 5.5.4 bad SIZE"
			}
		case "SMTPUTF8":
			p.utf8 = true
		}
	}
	return ""
}

// parseChunk reads BDAT's argument: a size and perhaps LAST (RFC 3030 2).
func parseChunk(arg []byte) (size int64, last, ok bool) {
	digits, word, more := bytes.Cut(arg, []byte{' '})
	size, ok = number(digits)
	if more {
		last = strings.EqualFold(string(word), "LAST")
		ok = ok && last
	}
	return size, last, ok
}

// number reads a decimal number of at most 18 digits.
func number(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// appendReply appends a reply of one or more lines in the form of RFC 5321
// 4.2.1, whatever separators the lines came with, and returns the first digit
// of its code.
func appendReply(dst []byte, reply string) ([]byte, byte) {
	reply = strings.TrimRight(reply, "\r\n")
	if !hasCode(reply) {
		reply = "451 4.3.0 the session gave a reply without a code"
	}
	code := reply[:3]
	for more := true; more; {
		var line string
		line, reply, more = strings.Cut(reply, "\n")
		line = strings.TrimRight(line, "\r")
		if hasCode(line) && line[:3] == code {
			line = line[min(4, len(line)):]
		}
		sep := byte(' ')
		if more {
			sep = '-'
		}
		dst = append(append(dst, code...), sep)
		dst = append(append(dst, line...), '\r', '\n')
	}
	return dst, code[0]
}

// hasCode reports whether line begins with a reply code (RFC 5321 4.2).
func hasCode(line string) bool {
	return len(line) >= 3 && line[0] >= '2' && line[0] <= '5' && line[1] >= '0' && line[1] <= '5' &&
		line[2] >= '0' && line[2] <= '9' && (len(line) == 3 || line[3] == ' ' || line[3] == '-')
}

// An arena makes strings that last from bytes that do not, many for one
// allocation: what a strings.Builder has written never changes.
type arena struct{ b strings.Builder }

const arenaSize = 1 << 10

func (a *arena) keep(p []byte) string {
	if a.b.Cap()-a.b.Len() < len(p) {
		a.b = strings.Builder{}
		a.b.Grow(max(arenaSize, len(p)))
	}
	from := a.b.Len()
	a.b.Write(p)
	return a.b.String()[from:]
}
