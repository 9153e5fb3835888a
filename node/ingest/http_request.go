package ingest

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"hikyaku/spool/message"
)

// SubmitRequest is the body of POST /v1/messages. The tags are the OpenAPI
// document's source; decodeSubmit reads the same fields by hand.
type SubmitRequest struct {
	Raw []byte `json:"raw,omitempty" doc:"A whole message in RFC 5322 form, base64. Excludes from to missing."`

	From        *SubmitAddress `json:"from,omitempty" doc:"Author. Required unless raw is given."`
	ReplyTo     *SubmitAddress `json:"reply_to,omitempty" doc:"Where answers go."`
	Subject     string         `json:"subject,omitempty" doc:"Subject; a template." maxLength:"4096"`
	Text        string         `json:"text,omitempty" doc:"Plain text; a template. Text, html or both are required unless raw is given."`
	HTML        string         `json:"html,omitempty" doc:"HTML; a template whose variables are escaped."`
	Headers     []SubmitHeader `json:"headers,omitempty" doc:"Extra header fields." maxItems:"100"`
	Attachments []SubmitFile   `json:"attachments,omitempty" doc:"Files." maxItems:"100"`
	Inline      []SubmitFile   `json:"inline,omitempty" doc:"Images that html shows by <img src=\"cid:…\">." maxItems:"100"`
	Missing     string         `json:"missing,omitempty" doc:"What a variable does that a recipient lacks: error (that recipient is rejected; the default), empty, or keep the tag as written." enum:"error,empty,keep"`

	To              []SubmitRecipient `json:"to" doc:"Recipients. Each gets a message of their own." minItems:"1"`
	AllowDuplicates bool              `json:"allow_duplicates,omitempty" doc:"Lets an address occur more than once; otherwise all but the first are rejected."`
	EnvelopeFrom    *string           `json:"envelope_from,omitempty" doc:"Envelope sender, to which bounces go. Default: the author's address. Empty is the null sender."`
	Stream          string            `json:"stream,omitempty" doc:"Traffic class. Default: the tenant's." maxLength:"64"`
	Pool            string            `json:"pool,omitempty" doc:"Pool of sources. Default: the stream's." maxLength:"64"`
	Job             string            `json:"job,omitempty" doc:"Job to count under, printable ASCII without spaces. Default: the message's id." maxLength:"128"`
	Tags            []string          `json:"tags,omitempty" doc:"Tags of at most 64 bytes, for events." maxItems:"16"`
	Priority        string            `json:"priority,omitempty" doc:"Default: the stream's." enum:"high,normal,low"`
	SendAt          *time.Time        `json:"send_at,omitempty" doc:"Not before this time (RFC 3339)."`
	ExpiresAt       *time.Time        `json:"expires_at,omitempty" doc:"Give up after this time (RFC 3339). Default: the stream's expiry."`
	Metadata        JSONObject        `json:"metadata,omitempty" doc:"An object of at most 16 KiB, given back in events."`
}

// SubmitAddress is a mailbox.
type SubmitAddress struct {
	Email string `json:"email" example:"news@example.com"`
	Name  string `json:"name,omitempty" maxLength:"256"`
}

// SubmitHeader is one extra header field.
type SubmitHeader struct {
	Name  string `json:"name" maxLength:"60" example:"List-Unsubscribe"`
	Value string `json:"value" doc:"A template."`
}

// SubmitFile is an attachment or inline image.
type SubmitFile struct {
	Name        string `json:"name,omitempty" doc:"File name; required of an attachment." maxLength:"256"`
	ContentType string `json:"content_type,omitempty" doc:"Default: by the name's ending." example:"application/pdf"`
	ContentID   string `json:"content_id,omitempty" doc:"What html names in cid:…; required of an inline image."`
	Content     []byte `json:"content" doc:"The file, base64."`
}

// SubmitRecipient is one recipient.
type SubmitRecipient struct {
	Email    string     `json:"email" example:"taro@example.jp"`
	Name     string     `json:"name,omitempty" maxLength:"256"`
	Vars     JSONObject `json:"vars,omitempty" doc:"Variables of the templates, at most 64 KiB."`
	Metadata JSONObject `json:"metadata,omitempty" doc:"An object of at most 4 KiB, given back in this recipient's events."`
}

// SubmitAnswer is the answer to POST /v1/messages.
type SubmitAnswer struct {
	Job      string              `json:"job" doc:"The job to watch, pause or cancel."`
	Messages []SubmittedMessage  `json:"messages" doc:"One for each accepted recipient, in the order of the request."`
	Rejected []RejectedRecipient `json:"rejected" doc:"Recipients that get nothing."`
}

// SubmittedMessage is one accepted recipient.
type SubmittedMessage struct {
	ID    message.DeliveryID `json:"id"`
	Email string             `json:"email"`
}

// RejectedRecipient is one refused recipient.
type RejectedRecipient struct {
	Email string `json:"email"`
	Error string `json:"error"`
	Path  string `json:"path" doc:"Where in the request, as in to[3]."`
}

// Bounds of a request's fields.
const (
	maxVarsBytes         = 64 << 10
	maxMetadata          = 16 << 10
	maxTags              = 16
	maxTag               = 64
	maxJobName           = 128
	maxRcptMetadataBytes = 4 << 10
	maxListItems         = 100
)

// submit is a decoded request: what the caller gave, each kept apart from the
// request's memory.
type submit struct {
	req   SubmitRequest
	built string              // the first field that only a built message has
	raw   bool                // raw was given
	rcpts []message.Recipient // of to
	vars  bool                // some recipient has vars
	at    int                 // index in rcpts of the first with vars
}

// decodeSubmit reads a request. The error is an *httpError with paths.
func decodeSubmit(body []byte, maxRecipients int) (*submit, error) {
	if !utf8.Valid(body) {
		return nil, refuse(400, codeInvalidJSON, "the request is not valid UTF-8")
	}
	d := &submitDecoder{r: jsonReader{b: body, path: make([]pathStep, 0, 8)}, s: &submit{}, max: maxRecipients}
	if err := d.r.object(d.field); err != nil {
		return nil, err
	}
	if err := d.r.end(); err != nil {
		return nil, err
	}
	if d.s.rcpts == nil {
		return nil, refuse(400, codeInvalidJSON, "the request has no recipients", Problem{"to", "want 1 to " + strconv.Itoa(maxRecipients) + " recipients"})
	}
	return d.s, nil
}

type submitDecoder struct {
	r     jsonReader
	s     *submit
	max   int
	arena []byte // vars and metadata of recipients, many to an allocation
}

func (d *submitDecoder) field(key []byte) (err error) {
	q := &d.s.req
	switch string(key) {
	case "from", "reply_to", "subject", "text", "html", "headers", "attachments", "inline", "missing":
		if d.s.built == "" {
			d.s.built = string(key)
		}
		return d.builtField(string(key))
	case "raw":
		d.s.raw = true
		q.Raw, err = d.r.base64()
	case "to":
		err = d.recipients()
	case "allow_duplicates":
		q.AllowDuplicates, err = d.r.boolean()
	case "envelope_from":
		var s string
		s, err = d.r.str()
		q.EnvelopeFrom = &s
	case "stream":
		q.Stream, err = d.r.str()
	case "pool":
		q.Pool, err = d.r.str()
	case "job":
		q.Job, err = d.r.str()
	case "tags":
		err = d.tags()
	case "priority":
		q.Priority, err = d.r.str()
	case "send_at":
		q.SendAt, err = d.time()
	case "expires_at":
		q.ExpiresAt, err = d.time()
	case "metadata":
		var b []byte
		if b, err = d.r.appendObject(nil); err == nil && len(b) > maxMetadata {
			err = d.r.fail(fmt.Sprintf("more than %d bytes", maxMetadata))
		}
		q.Metadata = b
	default:
		return d.r.unknown()
	}
	return err
}

func (d *submitDecoder) builtField(key string) (err error) {
	q := &d.s.req
	switch key {
	case "from":
		q.From, err = d.address()
	case "reply_to":
		q.ReplyTo, err = d.address()
	case "subject":
		q.Subject, err = d.r.str()
	case "text":
		q.Text, err = d.r.str()
	case "html":
		q.HTML, err = d.r.str()
	case "headers":
		err = d.headers()
	case "attachments":
		q.Attachments, err = d.files()
	case "inline":
		q.Inline, err = d.files()
	case "missing":
		q.Missing, err = d.r.str()
	}
	return err
}

func (d *submitDecoder) address() (*SubmitAddress, error) {
	var a SubmitAddress
	return &a, d.r.object(func(key []byte) (err error) {
		switch string(key) {
		case "email":
			a.Email, err = d.r.str()
		case "name":
			a.Name, err = d.r.str()
		default:
			err = d.r.unknown()
		}
		return err
	})
}

// room refuses the element i of a list that may hold most.
func (d *submitDecoder) room(i, most int) error {
	if i < most {
		return nil
	}
	d.r.path = d.r.path[:len(d.r.path)-1]
	return d.r.fail("more than " + strconv.Itoa(most))
}

func (d *submitDecoder) headers() error {
	return d.r.array(func(i int) error {
		if err := d.room(i, maxListItems); err != nil {
			return err
		}
		var h SubmitHeader
		err := d.r.object(func(key []byte) (err error) {
			switch string(key) {
			case "name":
				h.Name, err = d.r.str()
			case "value":
				h.Value, err = d.r.str()
			default:
				err = d.r.unknown()
			}
			return err
		})
		d.s.req.Headers = append(d.s.req.Headers, h)
		return err
	})
}

func (d *submitDecoder) files() (list []SubmitFile, err error) {
	err = d.r.array(func(i int) error {
		if err := d.room(i, maxListItems); err != nil {
			return err
		}
		var f SubmitFile
		given := false
		err := d.r.object(func(key []byte) (err error) {
			switch string(key) {
			case "name":
				f.Name, err = d.r.str()
			case "content_type":
				f.ContentType, err = d.r.str()
			case "content_id":
				f.ContentID, err = d.r.str()
			case "content":
				given = true
				f.Content, err = d.r.base64()
			default:
				err = d.r.unknown()
			}
			return err
		})
		if err == nil && !given {
			err = d.r.fail("content is missing")
		}
		list = append(list, f)
		return err
	})
	return list, err
}

func (d *submitDecoder) tags() error {
	return d.r.array(func(i int) error {
		if err := d.room(i, maxTags); err != nil {
			return err
		}
		t, err := d.r.str()
		if err == nil && (t == "" || len(t) > maxTag || hasControls(t)) {
			err = d.r.fail(fmt.Sprintf("want 1 to %d bytes without control characters", maxTag))
		}
		d.s.req.Tags = append(d.s.req.Tags, t)
		return err
	})
}

func (d *submitDecoder) time() (*time.Time, error) {
	s, err := d.r.str()
	if err != nil {
		return nil, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, d.r.fail("not a time in RFC 3339 form, as in 2026-11-22T09:30:00+09:00")
	}
	return &t, nil
}

func (d *submitDecoder) recipients() error {
	d.s.rcpts = make([]message.Recipient, 0, min(d.max, 1+len(d.r.b)/64))
	err := d.r.array(func(i int) error {
		if err := d.room(i, d.max); err != nil {
			return err
		}
		breathe(i)
		d.s.rcpts = append(d.s.rcpts, message.Recipient{})
		return d.recipient(&d.s.rcpts[i])
	})
	if err == nil && len(d.s.rcpts) == 0 {
		err = d.r.fail("want 1 to " + strconv.Itoa(d.max) + " recipients")
	}
	return err
}

func (d *submitDecoder) recipient(rc *message.Recipient) error {
	given := false
	err := d.r.object(func(key []byte) (err error) {
		switch string(key) {
		case "email":
			given = true
			rc.Address, err = d.r.str()
		case "name":
			rc.Name, err = d.r.str()
		case "vars":
			if rc.Vars, err = d.object(maxVarsBytes); !d.s.vars {
				d.s.vars, d.s.at = true, len(d.s.rcpts)-1
			}
		case "metadata":
			rc.Metadata, err = d.object(maxRcptMetadataBytes)
		default:
			err = d.r.unknown()
		}
		return err
	})
	if err == nil && !given {
		err = d.r.fail("email is missing")
	}
	return err
}

// arenaBlock is how much memory recipients' objects share.
const arenaBlock = 64 << 10

// object reads a recipient's object into the arena. Recipients die one by one,
// so a block outlives most of its own; blocks are small for that.
func (d *submitDecoder) object(limit int) ([]byte, error) {
	if cap(d.arena)-len(d.arena) < 512 {
		d.arena = make([]byte, 0, min(arenaBlock, len(d.r.b)-d.r.pos+512))
	}
	from := len(d.arena)
	out, err := d.r.appendObject(d.arena)
	d.arena = out
	if err != nil {
		return nil, err
	}
	if len(out)-from > limit {
		return nil, d.r.fail(fmt.Sprintf("more than %d bytes", limit))
	}
	return out[from:len(out):len(out)], nil
}

func hasControls(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return true
		}
	}
	return false
}
