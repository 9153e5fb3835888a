package message

import (
	"strings"
	"time"
)

// Priority classes, strongest first. A class never starves those below it; see
// scheduler. MT-PRIORITY (RFC 6710) values map onto them: ≥ 3 High, -2…2
// Normal, ≤ -3 Low.
type Priority uint8

// The priority classes.
const (
	High   Priority = 0
	Normal Priority = 1
	Low    Priority = 2

	Priorities = 3
)

// String is the word used in policy, API and CLI.
func (p Priority) String() string {
	switch p {
	case High:
		return "high"
	case Normal:
		return "normal"
	default:
		return "low"
	}
}

// ParsePriority reads high, normal or low.
func ParsePriority(s string) (Priority, bool) {
	switch strings.ToLower(s) {
	case "high":
		return High, true
	case "normal", "":
		return Normal, true
	case "low":
		return Low, true
	}
	return Normal, false
}

// Body is the BODY= parameter of MAIL (RFC 6152, RFC 3030).
type Body uint8

// The body kinds. BodyUnknown is content accepted without BODY=, found to be
// 7 bit or not by looking.
const (
	Body7Bit Body = iota
	Body8BitMIME
	BodyBinaryMIME
)

// Return is the RET= parameter of MAIL (RFC 3461 4.3).
type Return uint8

// The RET values.
const (
	ReturnUnset Return = iota
	ReturnFull
	ReturnHeaders
)

// Message is content accepted once: envelope sender, content and metadata,
// shared by all its deliveries. Exactly one of Raw and Template is set.
type Message struct {
	ID     ID
	Sender string // envelope sender "local@domain" in its wire form, without <>; "" is the null reverse-path
	Body   Body
	UTF8   bool   // needs SMTPUTF8 (RFC 6531)
	Return Return // RET=
	EnvID  string // ENVID=, xtext decoded, at most 100 bytes

	Tenant   string
	Stream   string
	Pool     string
	Job      string
	Priority Priority
	Tags     []string // at most 16 of at most 64 bytes
	Metadata []byte   // a JSON object or nil, at most 16 KiB

	Accepted   time.Time // UTC, microseconds
	From       string    // who handed it in: client address, SMTP user and address, or API key name, for events
	Via        string    // "smtp", "http" or "dsn"
	HeaderFrom string    // domain of the From header, A-label, lower case; picks the signing key; may be ""
	Deliveries uint16    // how many deliveries refer to this message (0 means 65,536)

	Raw      []byte    // RFC 5322 content, CRLF line ends only, trace header in front, not dot-stuffed
	Template *Template // rendered for each recipient at dispatch
}

// Size is the content's size in bytes; for a template, of its parts.
func (m *Message) Size() int {
	if m.Template == nil {
		return len(m.Raw)
	}
	return m.Template.Size()
}

// Template is what the HTTP API stores once and renders for each recipient.
// The text fields hold Handlebars over the recipient's vars.
type Template struct {
	From        Address      `json:"from"`
	ReplyTo     *Address     `json:"reply_to,omitempty"`
	Subject     string       `json:"subject"`
	Text        string       `json:"text,omitempty"`
	HTML        string       `json:"html,omitempty"`
	Headers     []Header     `json:"headers,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Inline      []Attachment `json:"inline,omitempty"`
	// Missing says what an unknown variable does: "error" (that recipient is
	// refused at acceptance), "empty" (renders as nothing) or "keep" (the tag
	// stays as written).
	Missing string `json:"missing,omitempty"`
	// Static marks content without template tags, copied as it is.
	Static bool `json:"static,omitempty"`
	// Job is the message's job, for the built-in variable of that name.
	Job string `json:"job,omitempty"`
	// Date and MessageIDDomain fix what must not differ between attempts.
	Date            time.Time `json:"date"`
	MessageIDDomain string    `json:"message_id_domain"`
}

// Size is roughly how many bytes the template holds.
func (t *Template) Size() int {
	n := len(t.Subject) + len(t.Text) + len(t.HTML)
	for _, a := range t.Attachments {
		n += len(a.Content)
	}
	for _, a := range t.Inline {
		n += len(a.Content)
	}
	return n
}

// Address is a mailbox with an optional display name.
type Address struct {
	Email string `json:"email"`
	Name  string `json:"name,omitempty"`
}

// Header is one extra header field.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Attachment is one attached or inline part; Content is decoded bytes
// (base64 in JSON).
type Attachment struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type,omitempty"`
	ContentID   string `json:"content_id,omitempty"`
	Content     []byte `json:"content"`
}
