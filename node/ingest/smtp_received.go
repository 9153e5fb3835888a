package ingest

import (
	"crypto/tls"
	"strings"
	"time"

	"hikyaku/spool/message"
)

// appendTrace appends the one Received header that we add (RFC 5321 4.4). It
// tells who handed the message in, how, and under which id; not the login.
func (s *session) appendTrace(b []byte, m *message.Message) []byte {
	b = append(b, "Received: from "...)
	b = append(b, s.hello...)
	b = append(b, " ("...)
	if s.client.IsValid() {
		b = append(b, '[')
		if s.client.Is6() {
			b = append(b, "IPv6:"...)
		}
		b = append(append(b, s.clientIP...), ']')
	} else {
		b = append(b, "unknown"...)
	}
	b = append(b, ")\r\n\tby "...)
	b = append(b, s.l.Hostname...)
	b = append(b, " (Hikyaku) with "...)
	b = s.appendProtocol(b, m.UTF8)
	if s.tls != nil {
		b = append(b, "\r\n\t("...)
		b = append(b, strings.ReplaceAll(tls.VersionName(s.tls.Version), " ", "")...)
		b = append(b, ' ')
		b = append(b, tls.CipherSuiteName(s.tls.CipherSuite)...)
		b = append(b, ')')
	}
	b = append(b, "\r\n\tid "...)
	b = m.ID.AppendText(b)
	b = append(b, ";\r\n\t"...)
	b = s.date.append(b, m.Accepted)
	return append(b, '\r', '\n')
}

// dateFormat is RFC 5322 3.3.
const dateFormat = "Mon, 2 Jan 2006 15:04:05 -0700"

// dateCache is a second's text: within it, all messages of a session have the
// same.
type dateCache struct {
	second int64
	text   []byte
}

// append appends t, which is in UTC.
func (c *dateCache) append(b []byte, t time.Time) []byte {
	if second := t.Unix(); second != c.second || len(c.text) == 0 {
		c.second, c.text = second, t.AppendFormat(c.text[:0], dateFormat)
	}
	return append(b, c.text...)
}

// appendProtocol appends the "with" keyword (RFC 3848, RFC 6531 4.3).
func (s *session) appendProtocol(b []byte, utf8 bool) []byte {
	switch {
	case !s.extended:
		return append(b, "SMTP"...)
	case utf8:
		b = append(b, "UTF8SMTP"...)
	default:
		b = append(b, "ESMTP"...)
	}
	if s.tls != nil {
		b = append(b, 'S')
	}
	if s.user != "" {
		b = append(b, 'A')
	}
	return b
}

// appendMissing appends Date and Message-ID where a client that logged in left
// them out: we are its submission agent (RFC 6409 8.2, 8.3). For others we are a
// relay, which changes nothing but the trace (RFC 5321 6.4).
func (s *session) appendMissing(b []byte, m *message.Message) []byte {
	if s.user == "" || !*s.l.AddMissingHeaders {
		return b
	}
	if !s.header.hasDate {
		b = append(b, "Date: "...)
		b = s.date.append(b, m.Accepted)
		b = append(b, '\r', '\n')
	}
	if !s.header.hasID {
		b = append(b, "Message-ID: <"...)
		b = m.ID.AppendText(b)
		b = append(b, '@')
		domain := s.header.fromDomain
		if domain == "" {
			domain = s.l.Hostname
		}
		b = append(append(b, domain...), ">\r\n"...)
	}
	return b
}
