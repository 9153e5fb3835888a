package ingest

import (
	"bytes"
	"fmt"
	"strings"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// rawContent is a whole message that was handed in by HTTP, judged by the rules
// for content that comes by SMTP.
type rawContent struct {
	header  header
	remove  []span
	from    string // the first author's address
	domains []string
	utf8    bool // the header section holds more than ASCII
	eight   bool // so does the content
}

// readRaw checks content and finds what has to be known of it. The returned
// content is raw itself, or raw with a last line end. The error is an
// *httpError about "raw".
func readRaw(raw []byte, hostname string) (*rawContent, []byte, error) {
	if len(raw) == 0 {
		return nil, nil, invalidField("raw", "empty")
	}
	// The bounds of a header section are those of SMTP by default.
	l := &smtpListener{SMTPListener: SMTPListener{IgnoreControlHeaders: true}.withDefaults(hostname)}
	var scan smtp.Content
	scan.Reset(smtp.ContentRules{MaxLine: l.MaxLine, MaxSize: len(raw) + 2})
	out, _, _ := scan.Scan(make([]byte, 0, len(raw)+2), raw)
	out = scan.Finish(out)
	if scan.Defect != smtp.NoDefect {
		// RFC 5322 2.1: lines end in CRLF and nothing else. What is repaired by
		// guessing can be read in two ways.
		return nil, nil, invalidField("raw", fmt.Sprintf("line %d: %s", scan.DefectLine, scan.Defect))
	}
	c := &rawContent{}
	if bad := c.header.scan(out, l); bad != nil {
		return nil, nil, invalidField("raw", bad.text)
	}
	if c.header.needBlank {
		line := 1 + bytes.Count(out[:c.header.bodyAt], []byte("\n"))
		return nil, nil, invalidField("raw", fmt.Sprintf("line %d: not a header field, and no empty line before it", line))
	}
	if err := c.readFrom(out); err != nil {
		return nil, nil, err
	}
	c.findPrivate(out)
	for _, b := range out[:c.header.bodyAt] {
		c.utf8 = c.utf8 || b >= 0x80
	}
	c.eight = !isASCII(string(out))
	return c, out, nil
}

// readFrom finds the authors (RFC 5322 3.6: exactly one From).
func (c *rawContent) readFrom(content []byte) error {
	if !c.header.hasFrom {
		return invalidField("raw", "there is no From header")
	}
	ok := eachFromAddress(c.header.from.of(content), func(address []byte) bool {
		if _, bad := smtp.ParseMailbox(address); bad != nil {
			return false
		}
		domain, err := Destination(string(address))
		if err != nil {
			return false
		}
		if c.from == "" {
			c.from = string(address)
		}
		c.domains = append(c.domains, domain)
		return true
	})
	if !ok || c.from == "" {
		return invalidField("raw", "the From header cannot be read")
	}
	return nil
}

// findPrivate marks what no recipient may see: Bcc (RFC 5322 3.6.3) and
// instructions to us, which by HTTP stand in the request.
func (c *rawContent) findPrivate(content []byte) {
	for i := 0; i < c.header.bodyAt; {
		n, _, _ := fieldName(content[i:])
		end := fieldEnd(content, i)
		name := string(bytes.ToLower(content[i : i+n]))
		if name == "bcc" || name == "resent-bcc" || strings.HasPrefix(name, strings.ToLower(controlPrefix)) {
			c.remove = append(c.remove, span{i, end})
		}
		i = end
	}
}

// assemble is the message as it is kept: our trace header, Date and Message-ID
// where they are missing (RFC 6409 8.2, 8.3), and what was handed in.
func (c *rawContent) assemble(m *message.Message, content []byte, client, hostname string) []byte {
	b := make([]byte, 0, len(content)+512)
	b = append(append(b, "Received: from ["...), client...)
	b = append(append(b, "]\r\n\tby "...), hostname...)
	b = append(b, " (Hikyaku) with HTTP\r\n\tid "...)
	b = append(m.ID.AppendText(b), ";\r\n\t"...)
	b = append(m.Accepted.AppendFormat(b, dateFormat), "\r\n"...)
	if !c.header.hasDate {
		b = append(m.Accepted.AppendFormat(append(b, "Date: "...), dateFormat), "\r\n"...)
	}
	if !c.header.hasID {
		b = m.ID.AppendText(append(b, "Message-ID: <"...))
		b = append(append(append(b, '@'), hostname...), ">\r\n"...)
	}
	from := 0
	for _, r := range c.remove {
		b = append(b, content[from:r.from]...)
		from = r.to
	}
	return append(b, content[from:]...)
}
