package notice

import (
	"bytes"
	"strconv"
	"strings"

	"hikyaku/spool/message"
)

// statusPart is the part for programs: RFC 3464 2, or RFC 6533 4 in UTF-8.
func (b *builder) statusPart() {
	if b.global {
		b.part("message/global-delivery-status", "8bit", "Delivery report")
	} else {
		b.part("message/delivery-status", "", "Delivery report")
	}
	n := b.n
	if n.Original.EnvID != "" {
		b.line("Original-Envelope-Id: ", b.text(n.Original.EnvID))
	}
	b.line("Reporting-MTA: dns; ", safe(n.Host))
	b.line("X-Hikyaku-Message-ID: ", n.Original.ID.String())
	if !n.Original.Accepted.IsZero() {
		b.date("Arrival-Date", n.Original.Accepted)
	}
	for i := range n.Recipients {
		b.line()
		b.recipient(&n.Recipients[i])
	}
	b.line()
}

// recipient is one block of RFC 3464 2.3.
func (b *builder) recipient(r *Recipient) {
	if kind, addr, ok := originalRecipient(r.ORcpt); ok {
		b.line("Original-Recipient: ", kind, "; ", b.text(addr))
	}
	if ascii(r.Address) {
		b.line("Final-Recipient: rfc822; ", safe(r.Address))
	} else {
		b.line("Final-Recipient: utf-8; ", safe(r.Address)) // RFC 6533 4
	}
	b.line("Action: ", b.n.Kind.String())
	b.line("Status: ", statusOf(b.n.Kind, &r.Reply).String())
	if host := remoteName(r.Host); host != "" {
		b.line("Remote-MTA: dns; ", host)
	}
	b.diagnostic(&r.Reply)
	if !r.At.IsZero() {
		b.date("Last-Attempt-Date", r.At)
	}
	if b.n.Kind == Delayed && !r.Until.IsZero() {
		b.date("Will-Retry-Until", r.Until)
	}
}

// text is what others wrote, as this kind of part can hold it.
func (b *builder) text(s string) string { return string(appendSafe(nil, s, b.global)) }

// statusOf is the Status (RFC 3464 2.3.4) whose class fits the action. What
// was given up while the last reply was temporary is 4.4.7, delivery time
// expired (RFC 3463 3.5); the diagnostic keeps the reply.
func statusOf(k Kind, reply *message.Reply) message.Enhanced {
	class := uint8(2)
	switch k {
	case Delayed:
		class = 4
	case Failed:
		class = 5
		if reply.Class() == message.Temporary {
			return message.Enhanced{Class: 4, Subject: 4, Detail: 7}
		}
	}
	if reply.Enhanced.Class == class {
		return reply.Enhanced
	}
	return message.Enhanced{Class: class} // RFC 3463 3.1: other or undefined
}

// remoteName is the name at the front of "mx1.example.com [192.0.2.1]:25".
func remoteName(host string) string {
	name, _, _ := strings.Cut(host, " ")
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ';' || c == '(' {
			return ""
		}
	}
	return name
}

// diagnostic is RFC 3464 2.3.6: the reply whole, a line of it a line, with its
// code on each as it came over the wire. What we said ourselves is not of the
// type smtp.
func (b *builder) diagnostic(reply *message.Reply) {
	if reply.Code == 0 {
		return
	}
	start := len(b.dst)
	b.dst = append(b.dst, "Diagnostic-Code: "...)
	if reply.Fault == message.FaultNone {
		b.dst = append(b.dst, "smtp; "...)
	} else {
		b.dst = append(b.dst, "x-hikyaku; "...)
	}
	column := start
	for rest, more := reply.Text, true; more; {
		var text string
		text, rest, more = strings.Cut(rest, "\n")
		line := strconv.AppendUint(nil, uint64(reply.Code), 10)
		if more {
			line = append(line, '-')
		} else {
			line = append(line, ' ')
		}
		if e := reply.Enhanced.String(); e != "" {
			line = append(append(line, e...), ' ')
		}
		line = bytes.TrimRight(appendSafe(line, text, b.global), " ")
		b.dst, column = appendFolded(b.dst, column, line)
		if more {
			b.dst = append(b.dst, "\r\n    "...)
			column = len(b.dst) - 4
		}
	}
	b.dst = append(b.dst, '\r', '\n')
}

// appendFolded appends text, broken at spaces so that lines stay within
// foldAt, and by force within maxLine. Lines begin at start; the start of the
// last one is returned.
func appendFolded(dst []byte, start int, text []byte) ([]byte, int) {
	for len(text) > 0 {
		word := text
		if i := bytes.IndexByte(text[1:], ' '); i >= 0 {
			word = text[:i+1]
		}
		if room := maxLine / 2; len(word) > room {
			for room > 0 && word[room]&0xc0 == 0x80 {
				room-- // not within a character
			}
			word = word[:room]
		}
		text = text[len(word):]
		if len(dst)-start+len(word) > foldAt && len(bytes.TrimSpace(dst[start:])) > 0 {
			dst = append(dst, '\r', '\n')
			start = len(dst)
			dst = append(dst, "    "...)
			word = bytes.TrimLeft(word, " ")
		}
		dst = append(dst, word...)
	}
	return dst, start
}

// originalRecipient reads ORCPT=, "type;xtext" (RFC 3461 4.2). What cannot be
// read is left out of the notice.
func originalRecipient(orcpt string) (kind, addr string, ok bool) {
	kind, text, ok := strings.Cut(orcpt, ";")
	if !ok || kind == "" || text == "" {
		return "", "", false
	}
	for i := range len(kind) {
		c := kind[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return "", "", false
		}
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '+' {
			out = append(out, text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", "", false
		}
		v, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil {
			return "", "", false
		}
		out = append(out, byte(v))
		i += 2
	}
	return kind, string(out), true
}
