package compose

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// FieldError is one thing that is wrong with a template, by the path of its
// field: "subject", "headers[2].value", "attachments[0].name".
type FieldError struct {
	Field string
	Err   error
}

// Error is "html: line 3, column 7: reason".
func (e FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap gives access to a *SyntaxError or *MissingError.
func (e FieldError) Unwrap() error { return e.Err }

// Errors are all things that are wrong with a template, at most maxErrors.
type Errors []FieldError

const maxErrors = 20

// Error joins them.
func (es Errors) Error() string {
	s := make([]string, len(es))
	for i, e := range es {
		s[i] = e.Error()
	}
	return strings.Join(s, "; ")
}

// Compiled is a template ready to render. Safe for concurrent use; it holds on
// to the template, which must not change.
type Compiled struct {
	t       *message.Template
	head    []byte  // Date, From, Reply-To, MIME-Version and constant headers
	subject program // nil if head has it
	headers []header
	parts   []part
	size    int // bytes of what is fixed
}

// header is an extra field that differs between recipients.
type header struct {
	field string // "headers[2].value"
	name  string
	value program
}

type builder struct {
	t          *message.Template
	c          *Compiled
	errs       Errors
	text, html program
	mark       string
	out        []byte
	parts      []part
	first      bool
}

// Compile checks a template and prepares it. The error is of type Errors.
func Compile(t *message.Template) (*Compiled, error) {
	b := &builder{t: t, c: &Compiled{t: t}}
	b.envelopeFields()
	subject := b.program("subject", t.Subject, false, true)
	b.extraHeaders()
	b.attachments()
	switch t.Missing {
	case "", "error", "empty", "keep":
	default:
		b.fail("missing", errors.New("want error, empty or keep"))
	}
	if t.Text == "" && t.HTML == "" {
		b.fail("text", errors.New("a message needs text, html or both"))
	}
	if t.Text != "" {
		b.text = b.program("text", t.Text, false, false)
	}
	if t.HTML != "" {
		b.html = b.program("html", t.HTML, true, false)
	}
	if len(b.errs) > 0 {
		return nil, b.errs
	}
	c := b.c
	if s, ok := subject.constant(); ok {
		if s != "" {
			c.head = append(appendText(append(c.head, "Subject: "...), len("Subject: "), []byte(s)), "\r\n"...)
		}
	} else {
		c.subject = subject
	}
	b.mark = mark(t)
	b.tree()
	c.parts = b.parts
	c.size = len(c.head) + 256
	for i := range c.parts {
		c.size += len(c.parts[i].fixed)
	}
	return c, nil
}

func (b *builder) fail(field string, err error) {
	if err != nil && len(b.errs) < maxErrors {
		b.errs = append(b.errs, FieldError{field, err})
	}
}

// envelopeFields writes the fields that come from the template's own.
func (b *builder) envelopeFields() {
	t := b.t
	head := append(make([]byte, 0, 512), "Date: "...)
	head = t.Date.AppendFormat(head, "Mon, 02 Jan 2006 15:04:05 -0700")
	head = append(head, "\r\nFrom: "...)
	head = b.mailbox(head, "from", len("From: "), &t.From)
	if t.ReplyTo != nil {
		head = append(head, "\r\nReply-To: "...)
		head = b.mailbox(head, "reply_to", len("Reply-To: "), t.ReplyTo)
	}
	b.c.head = append(head, "\r\nMIME-Version: 1.0\r\n"...)
	b.fail("subject", checkPlain(t.Subject, MaxSubject))
	if err := checkDomain(t.MessageIDDomain); err != nil {
		b.fail("message_id_domain", err)
	}
}

func checkDomain(s string) error {
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '-' && c != '.' {
			return errors.New("not a host name")
		}
	}
	if s == "" || len(s) > 253 {
		return errors.New("not a host name")
	}
	return nil
}

func (b *builder) mailbox(dst []byte, field string, col int, a *message.Address) []byte {
	address, err := headerAddress(a.Email)
	b.fail(field+".email", err)
	b.fail(field+".name", checkPlain(a.Name, MaxName))
	return appendMailbox(dst, col, a.Name, address)
}

// program parses one templated field. Static templates are one text.
func (b *builder) program(field, src string, html, inHeader bool) program {
	if !utf8.ValidString(src) {
		b.fail(field, errors.New("not valid UTF-8"))
		return nil
	}
	if strings.IndexByte(src, 0) >= 0 {
		b.fail(field, errors.New("NUL cannot be in a message"))
		return nil
	}
	var p program
	if b.t.Static || !strings.Contains(src, "{{") {
		p = program{{kind: opText, text: src}}
	} else {
		var err error
		if p, err = parse(src, html); err != nil {
			b.fail(field, err)
			return nil
		}
	}
	if !inHeader {
		canonicalOps(p)
	}
	return p
}

// canonicalOps makes the line ends of a program's texts CRLF.
func canonicalOps(ops []op) {
	for i := range ops {
		if ops[i].kind == opText {
			ops[i].text = canonical(ops[i].text)
		}
		canonicalOps(ops[i].body)
		canonicalOps(ops[i].inverse)
	}
}

func (b *builder) extraHeaders() {
	if len(b.t.Headers) > MaxHeaders {
		b.fail("headers", fmt.Errorf("more than %d", MaxHeaders))
		return
	}
	for i, h := range b.t.Headers {
		field := "headers[" + strconv.Itoa(i) + "]."
		if err := checkHeaderName(h.Name); err != nil {
			b.fail(field+"name", err)
			continue
		}
		if err := checkPlain(h.Value, maxHeaderValue); err != nil {
			b.fail(field+"value", err)
			continue
		}
		p := b.program(field+"value", h.Value, false, true)
		s, ok := p.constant()
		if !ok {
			b.c.headers = append(b.c.headers, header{field + "value", h.Name, p})
			continue
		}
		var err error
		b.c.head, err = appendHeader(b.c.head, h.Name, []byte(s))
		b.fail(field+"value", err)
	}
}

// appendHeader appends an extra field. Empty ones are left out: a line of white
// space alone is obsolete syntax.
func appendHeader(dst []byte, name string, value []byte) ([]byte, error) {
	if strings.TrimSpace(string(value)) == "" {
		return dst, nil
	}
	dst = append(append(dst, name...), ": "...)
	col := len(name) + len(": ")
	if structured(name) {
		var err error
		if dst, err = appendStructured(dst, col, value); err != nil {
			return dst, err
		}
	} else {
		dst = appendText(dst, col, value)
	}
	return append(dst, '\r', '\n'), nil
}

func (b *builder) attachments() {
	t := b.t
	if len(t.Attachments)+len(t.Inline) > MaxAttachments {
		b.fail("attachments", fmt.Errorf("more than %d", MaxAttachments))
		return
	}
	if len(t.Inline) > 0 && t.HTML == "" {
		b.fail("inline", errors.New("inline images need html that shows them"))
	}
	ids := map[string]bool{}
	check := func(field string, list []message.Attachment, inline bool) {
		for i := range list {
			a, at := &list[i], field+"["+strconv.Itoa(i)+"]."
			b.fail(at+"name", checkPlain(a.Name, MaxName))
			if a.Name == "" && !inline {
				b.fail(at+"name", errors.New("an attachment needs a name"))
			}
			b.fail(at+"content_type", checkContentType(a.ContentType))
			b.fail(at+"content_id", checkContentID(a.ContentID, inline))
			if a.ContentID != "" && ids[a.ContentID] {
				b.fail(at+"content_id", errors.New("used twice"))
			}
			ids[a.ContentID] = true
		}
	}
	check("attachments", t.Attachments, false)
	check("inline", t.Inline, true)
}

var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

// maxPooled keeps an evaluation that one huge message has blown up out of the pool.
const maxPooled = 1 << 20

func (c *Compiled) begin(r *message.Recipient, id message.DeliveryID) (*evaluation, error) {
	ev := evaluations.Get().(*evaluation)
	ev.missing, ev.job, ev.dry = c.t.Missing, c.t.Job, false
	if err := checkAddress(r.Address); err != nil {
		return ev, FieldError{"email", err}
	}
	if err := checkPlain(r.Name, MaxName); err != nil {
		return ev, FieldError{"name", err}
	}
	if err := ev.begin(r, id); err != nil {
		return ev, FieldError{"vars", err}
	}
	return ev, nil
}

func (ev *evaluation) release() {
	ev.recipient, ev.vars.json = nil, nil
	if cap(ev.out)+cap(ev.scratch)+cap(ev.vars.nodes)*24 <= maxPooled {
		evaluations.Put(ev)
	}
}

// Check says whether Render will succeed for r: the name and variables are
// well formed, nothing that Missing forbids is missing, no bound is broken. It
// runs the same programs without building the message. The error is a
// FieldError that names the template's field, or email, name or vars.
func (c *Compiled) Check(r *message.Recipient) error {
	ev, err := c.begin(r, message.DeliveryID{})
	defer ev.release()
	if err != nil {
		return err
	}
	if _, err := headerAddress(r.Address); err != nil {
		return FieldError{"email", err}
	}
	for i := range c.headers { // these can also become too long for a line
		if _, err := ev.header(nil, &c.headers[i]); err != nil {
			return err
		}
	}
	ev.dry = true
	if c.subject != nil {
		if _, err := ev.run(c.subject, toHeader); err != nil {
			return FieldError{"subject", err}
		}
	}
	for i := range c.parts {
		if p := &c.parts[i]; p.text != nil {
			if _, err := ev.run(p.text, toBody); err != nil {
				return FieldError{p.field(), err}
			}
		}
	}
	return nil
}

func (p *part) field() string {
	if p.html {
		return "html"
	}
	return "text"
}

// Render appends the content for one recipient to dst: headers, an empty line
// and body, with CRLF line ends, not dot-stuffed. After an error dst holds
// nothing of use. The error is a FieldError.
func (c *Compiled) Render(dst []byte, r *message.Recipient, id message.DeliveryID) ([]byte, error) {
	ev, err := c.begin(r, id)
	defer ev.release()
	if err != nil {
		return dst, err
	}
	address, err := headerAddress(r.Address)
	if err != nil {
		return dst, FieldError{"email", err}
	}
	if cap(dst)-len(dst) < c.size {
		dst = append(make([]byte, 0, len(dst)+c.size+c.size/2), dst...)
	}
	dst = append(dst, c.head...)
	dst = append(dst, "To: "...)
	dst = appendMailbox(dst, len("To: "), r.Name, address)
	dst = append(dst, "\r\nMessage-ID: <"...)
	dst = id.AppendText(dst)
	dst = append(append(append(dst, '@'), c.t.MessageIDDomain...), ">\r\n"...)
	if c.subject != nil {
		s, err := ev.run(c.subject, toHeader)
		if err != nil {
			return dst, FieldError{"subject", err}
		}
		if dst, err = appendHeader(dst, "Subject", s); err != nil {
			return dst, FieldError{"subject", err}
		}
	}
	for i := range c.headers {
		if dst, err = ev.header(dst, &c.headers[i]); err != nil {
			return dst, err
		}
	}
	for i := range c.parts {
		p := &c.parts[i]
		dst = append(dst, p.fixed...)
		if p.text == nil {
			continue
		}
		s, err := ev.run(p.text, toBody)
		if err != nil {
			return dst, FieldError{p.field(), err}
		}
		dst = appendLeaf(dst, s, p.html, p.last)
	}
	return dst, nil
}

func (ev *evaluation) header(dst []byte, h *header) ([]byte, error) {
	s, err := ev.run(h.value, toHeader)
	if err == nil {
		dst, err = appendHeader(dst, h.name, s)
	}
	if err != nil {
		return dst, FieldError{h.field, err}
	}
	return dst, nil
}
