package spool

import (
	"encoding/binary"
	"math"

	"hikyaku/spool/message"
)

// appendMeta appends all of a message but its id, which is in the key, and its
// content, which is a record of its own.
func appendMeta(b, key []byte, m *message.Message) []byte {
	start := len(b)
	b = append(b, recordVersion)
	b = appendText(b, m.Sender)
	b = append(b, byte(m.Body), byte(m.Return))
	b = appendBool(b, m.UTF8)
	b = appendText(b, m.EnvID)
	b = appendText(b, m.Tenant)
	b = appendText(b, m.Stream)
	b = appendText(b, m.Pool)
	b = appendText(b, m.Job)
	b = append(b, byte(m.Priority))
	b = binary.AppendUvarint(b, uint64(len(m.Tags)))
	for _, t := range m.Tags {
		b = appendText(b, t)
	}
	b = appendBytes(b, m.Metadata)
	b = appendTime(b, m.Accepted)
	b = appendText(b, m.From)
	b = appendText(b, m.Via)
	b = appendText(b, m.HeaderFrom)
	b = binary.AppendUvarint(b, uint64(m.Deliveries))
	return seal(b, start, key)
}

func decodeMeta(key, value []byte, id message.ID) (*message.Message, error) {
	f, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	m := &message.Message{ID: id}
	m.Sender = f.str()
	m.Body = message.Body(f.below(uint64(message.BodyBinaryMIME) + 1))
	m.Return = message.Return(f.below(uint64(message.ReturnHeaders) + 1))
	m.UTF8 = f.bool()
	m.EnvID = f.str()
	m.Tenant = f.str()
	m.Stream = f.str()
	m.Pool = f.str()
	m.Job = f.str()
	m.Priority = message.Priority(f.below(message.Priorities))
	if n := f.count(); n > 0 {
		m.Tags = make([]string, n)
		for i := range m.Tags {
			m.Tags[i] = f.str()
		}
	}
	m.Metadata = f.bytes()
	m.Accepted = f.time()
	m.From = f.str()
	m.Via = f.str()
	m.HeaderFrom = f.str()
	m.Deliveries = uint16(f.below(math.MaxUint16 + 1))
	return m, f.done()
}

// The kinds of content.
const (
	contentRaw      = 0
	contentTemplate = 1

	contentHead = 2 // version and kind
)

func contentSize(m *message.Message) int {
	if m.Template == nil {
		return len(m.Raw) + 16
	}
	return m.Template.Size() + 1024
}

func appendContent(b, key []byte, m *message.Message) []byte {
	start := len(b)
	b = append(b, recordVersion)
	if m.Template == nil {
		b = append(append(b, contentRaw), m.Raw...)
	} else {
		b = appendTemplate(append(b, contentTemplate), m.Template)
	}
	return seal(b, start, key)
}

// decodeContent sets Raw or Template of m; both are copies.
func decodeContent(key, value []byte, m *message.Message) error {
	f, err := unseal(key, value)
	if err != nil {
		return err
	}
	if f.below(contentTemplate+1) == contentTemplate {
		m.Template = f.template()
	} else if !f.bad {
		m.Raw = append([]byte{}, f.rest()...)
	}
	return f.done()
}

func appendTemplate(b []byte, t *message.Template) []byte {
	b = appendAddress(b, t.From)
	b = appendBool(b, t.ReplyTo != nil)
	if t.ReplyTo != nil {
		b = appendAddress(b, *t.ReplyTo)
	}
	b = appendText(b, t.Subject)
	b = appendText(b, t.Text)
	b = appendText(b, t.HTML)
	b = binary.AppendUvarint(b, uint64(len(t.Headers)))
	for _, h := range t.Headers {
		b = appendText(appendText(b, h.Name), h.Value)
	}
	b = appendAttachments(b, t.Attachments)
	b = appendAttachments(b, t.Inline)
	b = appendText(b, t.Missing)
	b = appendBool(b, t.Static)
	b = appendTime(b, t.Date)
	return appendText(b, t.MessageIDDomain)
}

func (f *fields) template() *message.Template {
	t := &message.Template{From: f.address()}
	if f.bool() {
		a := f.address()
		t.ReplyTo = &a
	}
	t.Subject = f.str()
	t.Text = f.str()
	t.HTML = f.str()
	if n := f.count(); n > 0 {
		t.Headers = make([]message.Header, n)
		for i := range t.Headers {
			t.Headers[i] = message.Header{Name: f.str(), Value: f.str()}
		}
	}
	t.Attachments = f.attachments()
	t.Inline = f.attachments()
	t.Missing = f.str()
	t.Static = f.bool()
	t.Date = f.time()
	t.MessageIDDomain = f.str()
	return t
}

func appendAddress(b []byte, a message.Address) []byte {
	return appendText(appendText(b, a.Email), a.Name)
}

func (f *fields) address() message.Address {
	return message.Address{Email: f.str(), Name: f.str()}
}

func appendAttachments(b []byte, as []message.Attachment) []byte {
	b = binary.AppendUvarint(b, uint64(len(as)))
	for i := range as {
		b = appendText(b, as[i].Name)
		b = appendText(b, as[i].ContentType)
		b = appendText(b, as[i].ContentID)
		b = appendBytes(b, as[i].Content)
	}
	return b
}

func (f *fields) attachments() []message.Attachment {
	n := f.count()
	if n == 0 {
		return nil
	}
	as := make([]message.Attachment, n)
	for i := range as {
		as[i] = message.Attachment{Name: f.str(), ContentType: f.str(), ContentID: f.str(), Content: f.bytes()}
	}
	return as
}
