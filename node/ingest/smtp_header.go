package ingest

import (
	"bytes"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// fault is why content is refused.
type fault struct {
	class          errorClass
	code           uint16
	enhanced, text string
}

// span is a place in content.
type span struct{ from, to int }

func (s span) of(content []byte) []byte { return content[s.from:s.to] }

// header is what one look at a message's header section found.
type header struct {
	bodyAt     int  // where the section ends: at the empty line, or where there is none
	needBlank  bool // the section ended without an empty line before the body
	received   int
	here       int // Received headers by this host name
	hasDate    bool
	hasID      bool
	from       span // value of From, empty when there is none
	hasFrom    bool
	control    [controlHeaders]span // values of X-Hikyaku headers
	hasControl [controlHeaders]bool
	remove     []span // their fields, in the order of the text; at most MaxHeaders
	fromDomain string
}

// scan reads the header section of content, whose line ends are clean. What is
// not a header field ends the section even without an empty line, as Postfix
// and Sendmail have it; the caller then puts an empty line in, so that all
// parsers after us agree where the body begins.
func (h *header) scan(content []byte, l *smtpListener) *fault {
	*h = header{remove: h.remove[:0]}
	fields := 0
	i := 0
	for i < len(content) && content[i] != '\r' {
		name, value, ok := fieldName(content[i:])
		if !ok {
			h.needBlank = true
			break
		}
		end := fieldEnd(content, i)
		if fields++; fields > l.MaxHeaders || end > l.MaxHeaderBytes {
			return &fault{errContent, 552, "5.3.4", "Header section exceeds the limit"}
		}
		f := field{name: content[i : i+name], whole: span{i, end}, value: span{i + value, end - 2}}
		if bad := h.note(content, f, l); bad != nil {
			return bad
		}
		i = end
	}
	h.bodyAt = i
	if h.received > l.MaxReceived || h.here > l.MaxReceivedHere {
		return &fault{errLoop, 554, "5.4.6", "Too many hops, this message is looping"}
	}
	return nil
}

type field struct {
	name         []byte
	whole, value span
}

// fieldName finds the colon of a field: name is the length of the field name,
// value where its value begins. Space before the colon is obsolete syntax
// (RFC 5322 4.5.8) that some programs take and some do not; here it is no field.
func fieldName(b []byte) (name, value int, ok bool) {
	for name < len(b) && b[name] > ' ' && b[name] < 0x7f && b[name] != ':' {
		name++
	}
	if name == 0 || name >= len(b) || b[name] != ':' {
		return 0, 0, false
	}
	return name, name + 1, true
}

// fieldEnd is behind the field's last CRLF, folded lines included.
func fieldEnd(content []byte, i int) int {
	for i < len(content) {
		j := bytes.IndexByte(content[i:], '\n')
		if j < 0 {
			return len(content)
		}
		i += j + 1
		if i >= len(content) || (content[i] != ' ' && content[i] != '\t') {
			break
		}
	}
	return i
}

const controlPrefix = "X-Hikyaku-"

// note keeps what matters of one field.
func (h *header) note(content []byte, f field, l *smtpListener) *fault {
	is := func(name string) bool { return len(f.name) == len(name) && bytes.EqualFold(f.name, []byte(name)) }
	switch f.name[0] | 0x20 {
	case 'r':
		if is("Received") {
			h.received++
			if receivedBy(f.value.of(content), l.Hostname) {
				h.here++
			}
		}
	case 'd':
		h.hasDate = h.hasDate || is("Date")
	case 'm':
		h.hasID = h.hasID || is("Message-ID")
	case 'f':
		if is("From") {
			if h.hasFrom { // RFC 5322 3.6: exactly one; two show different people to different programs
				return &fault{errContent, 550, "5.6.0", "Content refused: more than one From header"}
			}
			h.hasFrom, h.from = true, f.value
		}
	case 'x':
		if len(f.name) > len(controlPrefix) && bytes.EqualFold(f.name[:len(controlPrefix)], []byte(controlPrefix)) {
			if l.IgnoreControlHeaders {
				h.remove = append(h.remove, f.whole)
				return nil
			}
			return h.noteControl(f)
		}
	}
	return nil
}

// noteControl keeps an X-Hikyaku header's value and marks it for removal. A
// name that we do not know is a typing error whose author believes that it
// works, so it is refused.
func (h *header) noteControl(f field) *fault {
	name := f.name[len(controlPrefix):]
	for c, known := range controlNames {
		if !bytes.EqualFold(name, []byte(known)) {
			continue
		}
		if h.hasControl[c] {
			return &fault{errContent, 550, "5.6.0", "Content refused: header " + controlPrefix + known + " given twice"}
		}
		h.hasControl[c], h.control[c] = true, f.value
		h.remove = append(h.remove, f.whole)
		return nil
	}
	return &fault{errContent, 550, "5.6.0", "Content refused: unknown X-Hikyaku header"}
}

// receivedBy reports whether a Received value has "by host".
func receivedBy(value []byte, host string) bool {
	next := false
	for word := range bytes.FieldsSeq(value) {
		if next && bytes.EqualFold(bytes.TrimRight(word, ";"), []byte(host)) {
			return true
		}
		next = len(word) == 2 && bytes.EqualFold(word, []byte("by"))
	}
	return false
}

// authors is what the addresses of a From header come to. It is kept by the
// session, so that a message allocates nothing for it.
type authors struct {
	parser  fromParser
	domain  string // of all, as long as it is one
	several bool
	allowed []string // patterns; none allow all
	judge   func(address []byte) bool
}

// judgeAuthor takes one address of the From header.
func (s *session) judgeAuthor(address []byte) bool {
	a := &s.authors
	if _, bad := smtp.ParseMailbox(address); bad != nil {
		return false
	}
	d, err := s.domain.of(address)
	if err != nil {
		return false
	}
	a.several = a.several || (a.domain != "" && a.domain != d)
	if !domainAllowed(a.allowed, d) {
		a.domain = ""
		return false
	}
	a.domain = d
	return true
}

// fromSuits reads the From header: its domain picks the signing key, and must
// be one that the tenant may use.
func (s *session) fromSuits() bool {
	h, a := &s.header, &s.authors
	if !h.hasFrom {
		return true // nobody is impersonated
	}
	if a.judge == nil {
		a.judge = s.judgeAuthor
	}
	a.domain, a.several, a.allowed = "", false, nil
	if t := s.tenantPolicy(); t != nil {
		a.allowed = t.SenderDomains
	}
	ok := a.parser.each(h.from.of(*s.body.p), a.judge)
	if len(a.allowed) > 0 && (!ok || a.domain == "") {
		s.decline(errRelay, 553, "5.7.1", "From header is not allowed for this account")
		return false
	}
	if ok && !a.several && a.domain != "" && a.domain[0] != '[' {
		h.fromDomain = a.domain
	}
	return true
}

// Names of the X-Hikyaku headers, without the prefix.
const (
	controlJob = iota
	controlStream
	controlPool
	controlTags
	controlSendAt
	controlExpires
	controlPriority
	controlMetadata
	controlHeaders
)

var controlNames = [controlHeaders]string{"Job", "Stream", "Pool", "Tags", "Send-At", "Expires", "Priority", "Metadata"}

// assemble makes the message as it is kept: our fields, the header section
// without X-Hikyaku headers, the body, in memory of exactly its size.
func (s *session) assemble(m *message.Message, raw []byte) []byte {
	h := &s.header
	added := s.appendTrace(s.added[:0], m)
	added = s.appendMissing(added, m)
	size := len(added) + len(raw)
	for _, r := range h.remove {
		size -= r.to - r.from
	}
	if h.needBlank {
		size += 2
	}
	out := append(make([]byte, 0, size), added...)
	from := 0
	for _, r := range h.remove {
		out = append(out, raw[from:r.from]...)
		from = r.to
	}
	out = append(out, raw[from:h.bodyAt]...)
	if h.needBlank {
		out = append(out, '\r', '\n')
	}
	out = append(out, raw[h.bodyAt:]...)
	s.added = added
	return out
}
