package doctor

import (
	"bytes"
	"errors"
	"net/mail"
	"net/url"
	"slices"
	"strings"
)

// Message is the header of a message as it leaves.
type Message struct {
	fields []field
}

type field struct{ name, value string } // name in lower case, value unfolded

// maxHeader bounds what is read of a message.
const maxHeader = 256 << 10

// ParseMessage reads the header of a message.
func ParseMessage(text []byte) (*Message, error) {
	text = text[:min(len(text), maxHeader)]
	m := &Message{}
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		line, text = bytes.TrimSuffix(line, []byte{'\r'}), rest
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(m.fields) == 0 {
				return nil, errors.New("the message begins with a folded line")
			}
			last := &m.fields[len(m.fields)-1]
			last.value += " " + strings.TrimSpace(string(line))
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, errors.New("the header has a line that is no field")
		}
		m.fields = append(m.fields, field{strings.ToLower(name), strings.TrimSpace(value)})
	}
	if len(m.fields) == 0 {
		return nil, errors.New("there is no header")
	}
	return m, nil
}

// all are the values of a field.
func (m *Message) all(name string) []string {
	var out []string
	for _, f := range m.fields {
		if f.name == name {
			out = append(out, f.value)
		}
	}
	return out
}

// From is the domain of the From header, "" where it has none or several.
func (m *Message) From() string {
	from := m.all("from")
	if len(from) != 1 {
		return ""
	}
	list, err := mail.ParseAddressList(from[0])
	if err != nil || len(list) != 1 {
		return ""
	}
	_, domain, _ := cutAddress(list[0].Address)
	return domain
}

// message looks at the message that was given.
func (x *exam) message() {
	m := x.s.Message
	if m == nil {
		x.add(CheckNameUnsub, "message", Unknown, "no message was given; --message FILE checks one")
		x.add(CheckNameOneClick, "message", Unknown, "no message was given; --message FILE checks one")
		x.add(CheckNameFormat, "message", Unknown, "no message was given; --message FILE checks one")
		return
	}
	x.format(m)
	x.unsubscribe(m)
	x.oneClick(m)
}

// once are the fields that a message has at most once (RFC 5322 3.6); true: it
// must have it.
var once = map[string]bool{
	"from": true, "date": true, "message-id": true, "sender": false, "reply-to": false, "to": false, "cc": false, "bcc": false,
	"in-reply-to": false, "references": false, "subject": false,
}

func (x *exam) format(m *Message) {
	var wrong []string
	for name, must := range once {
		switch n := len(m.all(name)); {
		case n > 1:
			wrong = append(wrong, name+" is there more than once")
		case n == 0 && must:
			wrong = append(wrong, name+" is missing")
		}
	}
	slices.Sort(wrong)
	from := m.From()
	switch {
	case len(wrong) > 0:
		x.add(CheckNameFormat, "message", Fail, "%s", strings.Join(wrong, "; "))
	case from == "":
		x.add(CheckNameFormat, "message", Fail, "From does not hold one address")
	case from != x.s.Domain:
		x.add(CheckNameFormat, "message", Warn, "From is of %s, not of %s, which was looked at", from, x.s.Domain)
	default:
		x.add(CheckNameFormat, "message", Pass, "one From, Date and Message-ID")
	}
}

// unsubscribe is RFC 2369 3.2: a header that mail programs make a button of.
func (x *exam) unsubscribe(m *Message) {
	for _, v := range m.all("list-unsubscribe") {
		if hasURL(v, "https") || hasURL(v, "mailto") {
			x.add(CheckNameUnsub, "message", Pass, "List-Unsubscribe is there")
			return
		}
	}
	x.add(CheckNameUnsub, "message", Fail, "no List-Unsubscribe with an https or mailto address; fine for mail that nobody subscribed to, as a receipt")
}

// oneClick is RFC 8058 3.1.
func (x *exam) oneClick(m *Message) {
	lists, posts := m.all("list-unsubscribe"), m.all("list-unsubscribe-post")
	fail := func(format string, args ...any) { x.add(CheckNameOneClick, "message", Fail, format, args...) }
	switch {
	case len(lists) == 0:
		fail("no List-Unsubscribe; fine for mail that nobody subscribed to, as a receipt")
		return
	case len(lists) > 1 || len(posts) > 1:
		fail("List-Unsubscribe or List-Unsubscribe-Post is there more than once")
		return
	case !hasURL(lists[0], "https"):
		fail("List-Unsubscribe has no https address; mailto alone is not one-click")
		return
	case len(posts) == 0:
		fail("List-Unsubscribe-Post is missing; it must be: List-Unsubscribe=One-Click")
		return
	case strings.TrimSpace(posts[0]) != "List-Unsubscribe=One-Click":
		fail("List-Unsubscribe-Post is %.60q; it must be: List-Unsubscribe=One-Click", posts[0])
		return
	}
	x.covered(m)
}

func hasURL(value, scheme string) bool {
	for part := range strings.SplitSeq(value, ",") {
		u, err := url.Parse(strings.Trim(strings.TrimSpace(part), "<>"))
		if err == nil && strings.EqualFold(u.Scheme, scheme) && (u.Host != "" || u.Opaque != "") {
			return true
		}
	}
	return false
}

// covered looks for a signature over both fields (RFC 8058 4).
func (x *exam) covered(m *Message) {
	signatures := m.all("dkim-signature")
	if len(signatures) == 0 {
		x.add(CheckNameOneClick, "message", Unknown, "the headers are right, but the file has no DKIM signature; give a message as it arrived")
		return
	}
	best := "no signature covers List-Unsubscribe and List-Unsubscribe-Post (h=)"
	for _, s := range signatures {
		tags, err := parseTags(s)
		if err != nil {
			continue
		}
		var d, a string
		var h []string
		for _, t := range tags {
			switch t.name {
			case "a":
				a = strings.ToLower(t.value)
			case "d":
				d = strings.ToLower(t.value)
			case "h":
				h = list(t.value)
			}
		}
		if a != "rsa-sha256" && a != "ed25519-sha256" {
			continue // RFC 8301 3.1: signatures with SHA-1 are none
		}
		if !slices.Contains(h, "list-unsubscribe") || !slices.Contains(h, "list-unsubscribe-post") {
			continue
		}
		ok, err := aligned(x.ctx, x.l, x.s.Domain, d, "r")
		if err == nil && ok {
			x.add(CheckNameOneClick, "message", Pass, "both headers, covered by the signature of %s", d)
			return
		}
		best = "the signature that covers the headers is of " + d + ", not of " + x.s.Domain
	}
	x.add(CheckNameOneClick, "message", Fail, "%s", best)
}
