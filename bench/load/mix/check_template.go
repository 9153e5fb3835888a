package mix

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strconv"
	"strings"
)

// checkTemplate compares what was rendered for recipient n with what the mix
// renders itself. The standard library reads it: nothing of the product's own
// composer is used.
func (m *Mix) checkTemplate(n int, received []byte) error {
	msg, err := mail.ReadMessage(bytes.NewReader(received))
	if err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if got, want := msg.Header.Get(numberHeader), strconv.Itoa(n); got != want {
		return fmt.Errorf("%s: got %q, want %q", numberHeader, got, want)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	if err := same("subject", subject, m.render(m.Template.subject, n, false)); err != nil {
		return err
	}
	if err := m.checkTo(msg.Header.Get("To"), n); err != nil {
		return err
	}
	var p parts
	if err := p.read(msg.Header.Get("Content-Type"), msg.Header.Get("Content-Transfer-Encoding"), msg.Body, 0); err != nil {
		return err
	}
	if err := same("text", p.text, m.render(m.Template.text, n, false)); err != nil {
		return err
	}
	return same("html", p.html, m.render(m.Template.html, n, true))
}

func (m *Mix) checkTo(header string, n int) error {
	to, err := mail.ParseAddress(header)
	if err != nil {
		return fmt.Errorf("to: %w", err)
	}
	if err := same("to", to.Address, string(m.AppendRecipient(nil, n))); err != nil {
		return err
	}
	return same("name", to.Name, string(m.appendVariable(nil, varName, n, false)))
}

// same compares texts whose line ends may have become CRLF on the way.
func same(what, got, want string) error {
	lines := func(s string) string { return strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n") }
	if got, want = lines(got), lines(want); got != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		return fmt.Errorf("%s, byte %d: got %q, want %q", what, at, excerpt([]byte(got), min(at, len(got))), excerpt([]byte(want), min(at, len(want))))
	}
	return nil
}

// parts are the two alternatives of a rendered message, decoded.
type parts struct{ text, html string }

const maxDepth = 4

func (p *parts) read(contentType, encoding string, body io.Reader, depth int) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("content type %.80q: %w", contentType, err)
	}
	if depth > maxDepth {
		return errors.New("too many parts inside of parts")
	}
	if strings.HasPrefix(kind, "multipart/") {
		for r := multipart.NewReader(body, params["boundary"]); ; {
			part, err := r.NextRawPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("parts of %s: %w", kind, err)
			}
			if err := p.read(part.Header.Get("Content-Type"), part.Header.Get("Content-Transfer-Encoding"), part, depth+1); err != nil {
				return err
			}
		}
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(io.LimitReader(body, maxBytes))
	if err != nil {
		return fmt.Errorf("decode %s: %w", kind, err)
	}
	switch kind {
	case "text/plain":
		p.text += string(b)
	case "text/html":
		p.html += string(b)
	}
	return nil
}
