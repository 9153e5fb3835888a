package notice

import (
	"bytes"
	"encoding/base64"
	"time"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// Notice is what one notice is made from.
type Notice struct {
	Kind       Kind
	Host       string           // host name of this node, A-label: the Reporting-MTA
	From       string           // address of the From field; "" is MAILER-DAEMON@Host
	To         string           // envelope sender of the original; never ""
	ID         message.ID       // of the notice itself
	Now        time.Time        // its Date
	Original   *message.Message // for ID, EnvID, Return, UTF8 and Accepted
	Content    []byte           // the original as it was sent or would have been: header, empty line, body
	Full       bool             // policy allows the whole content to go back
	Recipients []Recipient      // at least one
}

// Recipient is one recipient that the notice is about.
type Recipient struct {
	Address string        // as in message.Recipient
	ORcpt   string        // ORCPT as given, "type;xtext", or ""
	Reply   message.Reply // the last one, of the remote or our own
	Host    string        // who said it, "mx1.example.com [192.0.2.1]:25"; "" when nobody was reached
	At      time.Time     // of the last attempt; zero when there was none
	Until   time.Time     // Delayed: when we stop trying
}

// Bounds on what goes back of the original.
const (
	MaxContent = 1 << 20  // larger content goes back as its header only
	MaxHeader  = 64 << 10 // a larger header is cut, between fields
	maxLine    = 998      // RFC 5322 2.1.1
	foldAt     = 76       // lines we write ourselves
	dateFormat = "Mon, 02 Jan 2006 15:04:05 -0700"
)

// Build appends the notice to dst as a complete message, to be sent from the
// null reverse-path to n.To. See BodyOf and NeedsUTF8 for its envelope.
func Build(dst []byte, n *Notice) []byte {
	b := &builder{n: n, dst: dst, global: n.global()}
	b.boundary = n.boundary()
	b.header()
	b.part("text/plain; charset=utf-8", "quoted-printable", "Notification")
	b.human()
	b.statusPart()
	b.originalPart()
	b.line("--", b.boundary, "--")
	return b.dst
}

// BodyOf is the BODY= parameter that a built notice needs.
func BodyOf(raw []byte) message.Body {
	if ascii(raw) {
		return message.Body7Bit
	}
	return message.Body8BitMIME
}

// NeedsUTF8 reports whether the notice can only be sent with SMTPUTF8: when
// its own header holds an address that is not ASCII.
func NeedsUTF8(n *Notice) bool { return !ascii(n.To) || !ascii(n.from()) }

// builder appends one notice.
type builder struct {
	n        *Notice
	dst      []byte
	boundary string
	global   bool // the RFC 6533 forms
}

// global reports whether the parts must be able to hold UTF-8: for an address
// that is not ASCII, or an original that was sent with SMTPUTF8.
func (n *Notice) global() bool {
	if n.Original.UTF8 || !ascii(n.To) {
		return true
	}
	for i := range n.Recipients {
		if !ascii(n.Recipients[i].Address) {
			return true
		}
	}
	return false
}

func (n *Notice) from() string {
	if n.From != "" {
		return n.From
	}
	return "MAILER-DAEMON@" + n.Host
}

// boundary is a line that the original does not hold. The notice's ID cannot
// be known to whoever wrote the original; the loop makes that a certainty.
func (n *Notice) boundary() string {
	b := "=_" + n.ID.String()
	for bytes.Contains(n.Content, []byte(b)) {
		b += "_"
	}
	return b
}

// line appends text and a line end.
func (b *builder) line(text ...string) {
	for _, t := range text {
		b.dst = append(b.dst, t...)
	}
	b.dst = append(b.dst, '\r', '\n')
}

func (b *builder) date(name string, t time.Time) {
	b.dst = append(append(append(b.dst, name...), ':'), ' ')
	b.dst = t.UTC().AppendFormat(b.dst, dateFormat)
	b.dst = append(b.dst, '\r', '\n')
}

func (b *builder) header() {
	n := b.n
	b.line("From: Mail Delivery System <", safe(n.from()), ">")
	b.line("To: <", safe(n.To), ">")
	w := &words[n.Kind]
	b.line("Subject: ", w.subject, " ", encodedWord(w.subjectJa))
	b.date("Date", n.Now)
	b.line("Message-ID: <", n.ID.String(), "@", safe(n.Host), ">")
	if id := originalID(n.Content); id != "" {
		b.line("In-Reply-To: ", id)
		b.line("References: ", id)
	}
	b.line("Auto-Submitted: auto-replied") // RFC 3834 5
	b.line("MIME-Version: 1.0")
	b.line("Content-Type: multipart/report; report-type=delivery-status;")
	b.line("\tboundary=\"", b.boundary, "\"")
	b.line()
	b.line("This is a delivery status notification in MIME format (RFC 3464).")
	b.line()
}

// part begins the next part. Encoding "" leaves the field out.
func (b *builder) part(contentType, encoding, description string) {
	b.line("--", b.boundary)
	b.line("Content-Type: ", contentType)
	if encoding != "" {
		b.line("Content-Transfer-Encoding: ", encoding)
	}
	b.line("Content-Description: ", description)
	b.line()
}

// encodedWord is RFC 2047's B form. The texts are ours and short: one word.
func encodedWord(s string) string {
	return "=?UTF-8?B?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

func ascii[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// safe is s without anything that could end a line or hide in one.
func safe(s string) string {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			return string(appendSafe(nil, s, true))
		}
	}
	if !utf8.ValidString(s) {
		return string(appendSafe(nil, s, true))
	}
	return s
}

// appendSafe appends s with control bytes and broken UTF-8 as "?". Without
// utf8OK other characters become \x{…}, RFC 6533 3's way to write them in
// ASCII.
func appendSafe(dst []byte, s string, utf8OK bool) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				c = '?'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1, r < 0xa0: // C1 controls too
			dst = append(dst, '?')
		case utf8OK:
			dst = append(dst, s[i:i+size]...)
		default:
			dst = appendUnitext(dst, r)
		}
		i += size
	}
	return dst
}

func appendUnitext(dst []byte, r rune) []byte {
	const digits = "0123456789ABCDEF"
	dst = append(dst, `\x{`...)
	shift := 8
	for r>>shift > 0xf {
		shift += 4
	}
	if r < 0x100 {
		shift = 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[r>>shift&0xf])
	}
	return append(dst, '}')
}
