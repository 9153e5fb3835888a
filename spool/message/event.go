package message

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// EventType names a transition. One record is written for each, in the same
// atomic batch as the transition itself.
type EventType string

// The event types.
const (
	EventAccepted   EventType = "accepted"
	EventDelivered  EventType = "delivered"
	EventDeferred   EventType = "deferred"
	EventBounced    EventType = "bounced"
	EventExpired    EventType = "expired"
	EventCancelled  EventType = "cancelled"
	EventHeld       EventType = "held"       // one for the action, whose id it has; not in the ledger
	EventReleased   EventType = "released"   // its end
	EventSuppressed EventType = "suppressed" // ends as bounced, with this reason; nothing writes it yet
	// EventTransferred is the sender's end of a delivery that went to another
	// node, EventReceived the receiver's beginning; Host is the other node. In
	// the ledger of one node they end and begin, in the cluster's they cancel out.
	EventTransferred EventType = "transferred"
	EventReceived    EventType = "received"
	EventRejected    EventType = "rejected" // refused at ingest; counted, nothing writes it yet
	// What comes back later, matched to a recipient: it annotates, the ledger has
	// the recipient's end already.
	EventLateBounce   EventType = "late-bounce"
	EventComplained   EventType = "complained"
	EventUnsubscribed EventType = "unsubscribed"
)

// Event is one record of the event log: one recipient, one transition.
// Durations are microseconds in JSON.
type Event struct {
	Type        EventType
	Time        time.Time
	ID          DeliveryID
	Node        string
	Tenant      string
	Stream      string
	Pool        string
	Job         string
	Tags        []string
	Metadata    []byte // JSON object of the message, or nil
	RcptMeta    []byte // JSON object of the recipient, or nil
	Sender      string
	Recipient   string
	Destination string
	Carrier     string
	Source      string // name of the source
	SourceAddr  string // its address
	Host        string // name of the host tried
	HostAddr    string // its address and port
	Attempt     uint16
	Size        uint32
	Reply       Reply
	Category    string // what the reply means (package reputation), "" for success
	Rule        string // the rule that says so
	TLS         string // "TLS1.3 TLS_AES_128_GCM_SHA256 verified", "" for plain
	Via         string // accepted: "smtp", "http", "dsn"
	From        string // accepted: client address
	NextDue     time.Time
	Stages      Stages
}

// Stages is where the time of an attempt went.
type Stages struct {
	Queued  time.Duration // from due to dispatch
	Resolve time.Duration
	Connect time.Duration // TCP, banner, EHLO, TLS, AUTH; zero on a reused connection
	Sign    time.Duration // rendering and signing
	Mail    time.Duration // MAIL to the answer of RCPT
	Data    time.Duration // content to the answer of the dot
	Total   time.Duration // from acceptance to this outcome
}

// AppendJSON appends the event as one line of JSON ending in "\n". It does not
// reflect: this is on the path of each message.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","time":"`...)
	b = appendTime(b, e.Time)
	b = append(b, `","id":"`...)
	b = append(e.ID.AppendText(b), '"')
	b = appendField(b, "node", e.Node)
	b = appendField(b, "tenant", e.Tenant)
	b = appendField(b, "stream", e.Stream)
	b = appendField(b, "pool", e.Pool)
	b = appendField(b, "job", e.Job)
	if len(e.Tags) > 0 {
		b = append(b, `,"tags":[`...)
		for i, t := range e.Tags {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, t)
		}
		b = append(b, ']')
	}
	b = appendRaw(b, "metadata", e.Metadata)
	b = appendRaw(b, "recipient_metadata", e.RcptMeta)
	b = append(b, `,"sender":`...)
	b = appendString(b, e.Sender)
	b = appendField(b, "recipient", e.Recipient)
	b = appendField(b, "destination", e.Destination)
	b = appendField(b, "carrier", e.Carrier)
	b = appendField(b, "source", e.Source)
	b = appendField(b, "source_addr", e.SourceAddr)
	b = appendField(b, "host", e.Host)
	b = appendField(b, "host_addr", e.HostAddr)
	b = appendInt(b, "attempt", int64(e.Attempt))
	b = appendInt(b, "size", int64(e.Size))
	if e.Reply.Code != 0 {
		b = append(b, `,"reply":{"code":`...)
		b = strconv.AppendUint(b, uint64(e.Reply.Code), 10)
		if e.Reply.Enhanced.Class != 0 {
			b = append(b, `,"enhanced":"`...)
			b = append(e.Reply.Enhanced.AppendText(b), '"')
		}
		b = append(b, `,"text":`...)
		b = appendString(b, e.Reply.Text)
		b = appendField(b, "phase", e.Reply.Phase.String())
		b = appendField(b, "fault", e.Reply.Fault.String())
		b = append(b, '}')
	}
	b = appendField(b, "category", e.Category)
	b = appendField(b, "rule", e.Rule)
	b = appendField(b, "tls", e.TLS)
	b = appendField(b, "via", e.Via)
	b = appendField(b, "from", e.From)
	if !e.NextDue.IsZero() {
		b = append(b, `,"next_due":"`...)
		b = append(appendTime(b, e.NextDue), '"')
	}
	if e.Stages != (Stages{}) {
		b = append(b, `,"stages_us":{"total":`...)
		b = strconv.AppendInt(b, e.Stages.Total.Microseconds(), 10)
		b = appendInt(b, "queued", e.Stages.Queued.Microseconds())
		b = appendInt(b, "resolve", e.Stages.Resolve.Microseconds())
		b = appendInt(b, "connect", e.Stages.Connect.Microseconds())
		b = appendInt(b, "sign", e.Stages.Sign.Microseconds())
		b = appendInt(b, "mail", e.Stages.Mail.Microseconds())
		b = appendInt(b, "data", e.Stages.Data.Microseconds())
		b = append(b, '}')
	}
	return append(b, '}', '\n')
}

// EventRecord is the decoded form of a line of the event log, for readers.
type EventRecord struct {
	Type        EventType        `json:"type"`
	Time        time.Time        `json:"time"`
	ID          DeliveryID       `json:"id"`
	Node        string           `json:"node,omitempty"`
	Tenant      string           `json:"tenant,omitempty"`
	Stream      string           `json:"stream,omitempty"`
	Pool        string           `json:"pool,omitempty"`
	Job         string           `json:"job,omitempty"`
	Tags        []string         `json:"tags,omitempty"`
	Metadata    json.RawMessage  `json:"metadata,omitempty"`
	RcptMeta    json.RawMessage  `json:"recipient_metadata,omitempty"`
	Sender      string           `json:"sender"`
	Recipient   string           `json:"recipient,omitempty"`
	Destination string           `json:"destination,omitempty"`
	Carrier     string           `json:"carrier,omitempty"`
	Source      string           `json:"source,omitempty"`
	SourceAddr  string           `json:"source_addr,omitempty"`
	Host        string           `json:"host,omitempty"`
	HostAddr    string           `json:"host_addr,omitempty"`
	Attempt     uint16           `json:"attempt,omitempty"`
	Size        uint32           `json:"size,omitempty"`
	Reply       *Reply           `json:"reply,omitempty"`
	Category    string           `json:"category,omitempty"`
	Rule        string           `json:"rule,omitempty"`
	TLS         string           `json:"tls,omitempty"`
	Via         string           `json:"via,omitempty"`
	From        string           `json:"from,omitempty"`
	NextDue     *time.Time       `json:"next_due,omitempty"`
	StagesUS    map[string]int64 `json:"stages_us,omitempty"`
}

// appendTime appends "2006-01-02T15:04:05.000000Z" (RFC 3339). Time.AppendFormat
// reads its layout anew each time and takes three times as long; there are two
// times in the events of a message.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = appendDigits(append(b, '-'), int(month), 2)
	b = appendDigits(append(b, '-'), day, 2)
	b = appendDigits(append(b, 'T'), hour, 2)
	b = appendDigits(append(b, ':'), minute, 2)
	b = appendDigits(append(b, ':'), second, 2)
	b = appendDigits(append(b, '.'), t.Nanosecond()/1000, 6)
	return append(b, 'Z')
}

// appendDigits appends n in so many digits.
func appendDigits(b []byte, n, digits int) []byte {
	var text [6]byte
	for i := digits - 1; i >= 0; i-- {
		text[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, text[:digits]...)
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return appendString(b, value)
}

func appendRaw(b []byte, name string, value []byte) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return append(b, value...)
}

func appendInt(b []byte, name string, v int64) []byte {
	if v == 0 {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return strconv.AppendInt(b, v, 10)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Control bytes and quotes are
// escaped; bytes that are not UTF-8 become U+FFFD, so every line is valid JSON
// whatever a peer said.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf && c != 0x7f {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			b = append(append(b, s[start:i]...), `\ufffd`...)
			i++
			start = i
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
