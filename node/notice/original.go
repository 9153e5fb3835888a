package notice

import (
	"bytes"
	"mime/quotedprintable"
	"strings"

	"hikyaku/spool/message"
)

// originalPart gives back the original, or its header.
//
// RFC 3461 4.3: the whole only where RET=FULL was given, and only with a
// notice of failure. Content that cannot stand in a message as it is (lines
// over 998 bytes, NUL: never accepted, but looked at again) goes back as its
// header.
func (b *builder) originalPart() {
	n := b.n
	whole := n.Kind == Failed && n.Full && n.Original.Return == message.ReturnFull &&
		len(n.Content) <= MaxContent && sound(n.Content)
	if whole {
		kind := "message/rfc822"
		if b.global {
			kind = "message/global"
		}
		encoding := "7bit"
		if !ascii(n.Content) {
			encoding = "8bit"
		}
		b.part(kind, encoding, "Undelivered message")
		b.dst = append(b.dst, n.Content...)
		b.dst = append(b.dst, '\r', '\n')
		return
	}
	kind := "text/rfc822-headers"
	if b.global {
		kind = "message/global-headers"
	}
	header := headerOf(n.Content)
	if ascii(header) && sound(header) {
		b.part(kind, "7bit", "Header of the message")
		b.dst = append(b.dst, header...)
		b.dst = append(b.dst, '\r', '\n')
		return
	}
	// RFC 6522 4: a header that is not clean 7 bit text is encoded.
	if !b.global {
		kind += "; charset=utf-8"
	}
	b.part(kind, "quoted-printable", "Header of the message")
	b.quoted(header)
	b.line()
}

// headerOf is the header with the CRLF of its last field, at most MaxHeader
// bytes, cut between fields.
func headerOf(content []byte) []byte {
	h := content
	if bytes.HasPrefix(h, []byte("\r\n")) {
		return nil
	}
	if i := bytes.Index(h, []byte("\r\n\r\n")); i >= 0 {
		h = h[:i+2]
	}
	if len(h) <= MaxHeader {
		return h
	}
	h = h[:MaxHeader]
	for {
		i := bytes.LastIndex(h, []byte("\r\n"))
		if i < 0 {
			return nil
		}
		if next := content[i+2]; next != ' ' && next != '\t' {
			return content[:i+2]
		}
		h = h[:i]
	}
}

// sound reports whether content can stand in a message as it is.
func sound(content []byte) bool {
	line := 0
	for i, c := range content {
		switch c {
		case 0:
			return false
		case '\n':
			if i == 0 || content[i-1] != '\r' {
				return false
			}
			line = 0
			continue
		case '\r':
			if i+1 == len(content) || content[i+1] != '\n' {
				return false
			}
			continue
		}
		if line++; line > maxLine {
			return false
		}
	}
	return true
}

// quoted appends text in quoted-printable form, CRLF at its end.
func (b *builder) quoted(text []byte) {
	w := quotedprintable.NewWriter((*sink)(b))
	_, _ = w.Write(text) // into memory: cannot fail
	_ = w.Close()
}

// sink lets a writer append to the notice.
type sink builder

func (s *sink) Write(p []byte) (int, error) {
	s.dst = append(s.dst, p...)
	return len(p), nil
}

// originalID is the Message-ID of the original, in angle brackets, if it has
// one that can be repeated in a header.
func originalID(content []byte) string {
	const name = "message-id:"
	for line := range bytes.SplitSeq(headerOf(content), []byte("\r\n")) {
		if len(line) < len(name) || !strings.EqualFold(string(line[:len(name)]), name) {
			continue
		}
		id := string(bytes.Trim(line[len(name):], " \t"))
		if len(id) < 3 || len(id) > 250 || id[0] != '<' || strings.IndexByte(id, '>') != len(id)-1 {
			return ""
		}
		for i := range len(id) {
			if id[i] <= ' ' || id[i] >= 0x7f {
				return ""
			}
		}
		return id
	}
	return ""
}
