package message

import (
	"slices"
	"time"
)

// QueueKey names one queue: the deliveries of one flow for one destination. It
// is also the spool's partition key, in the order of its fields, so all queues
// of a destination are neighbours on disk.
//
// Destination is a domain in A-label form, lower case, no trailing dot, or an
// address literal in brackets. The names are those of policy: 1 to 64 bytes of
// [a-z0-9._-] for tenant, stream and pool, up to 128 bytes of printable ASCII
// without space for job. Stream, pool and job may be "".
type QueueKey struct {
	Destination string   `json:"destination"`
	Priority    Priority `json:"priority"`
	Tenant      string   `json:"tenant"`
	Stream      string   `json:"stream,omitempty"`
	Pool        string   `json:"pool,omitempty"`
	Job         string   `json:"job,omitempty"`
}

// Notify is the NOTIFY= parameter of RCPT (RFC 3461 4.1), a bit set. Zero is
// "not given", which means failure notices at the server's choice.
type Notify uint8

// The NOTIFY bits.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Recipient is one address of a delivery.
type Recipient struct {
	Address  string // "local@domain", wire form, as given; domain may be a U-label
	Name     string // display name for the To header; templates only
	Notify   Notify
	ORcpt    string // ORCPT= as given, "type;xtext", at most 500 bytes
	Vars     []byte // JSON object or nil: template variables
	Metadata []byte // JSON object or nil: added to the message's in events
}

// Delivery is one message for one destination: the unit that is queued,
// attempted and retried.
type Delivery struct {
	ID         DeliveryID
	Queue      QueueKey
	Due        time.Time // not before; microseconds, unique enough with ID to be a key
	Accepted   time.Time
	Expires    time.Time   // after this it ends as expired
	Attempts   uint16      // attempts made so far
	Size       uint32      // bytes of content
	Recipients []Recipient // those still pending, at least one
	Last       *LastAttempt
}

// LastAttempt is what the queue remembers of the last attempt: enough to
// answer "why is it still here" and to write the notice when it expires.
type LastAttempt struct {
	At     time.Time
	Source string // name of the source
	Host   string // host name and address tried, "mx1.example.com [192.0.2.1]:25"
	Reply  Reply  // of the first recipient that is still pending
}

// Clone copies d so that it can be changed; recipients' byte fields are shared.
func (d *Delivery) Clone() *Delivery {
	c := *d
	c.Recipients = slices.Clone(d.Recipients)
	return &c
}

// State is where a recipient stands. Every accepted recipient is Queued or in
// exactly one of the four end states (design.md 5.2).
type State uint8

// The states.
const (
	Queued State = iota
	Delivered
	Bounced
	Expired
	Cancelled
)

var stateNames = [...]string{"queued", "delivered", "bounced", "expired", "cancelled"}

// String is the word used in API, events and metrics.
func (s State) String() string { return stateNames[s] }

// MarshalText gives JSON the word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.Index(stateNames[:], string(b))
	if i < 0 {
		return errBadState
	}
	*s = State(i)
	return nil
}

// Final reports whether s is an end state.
func (s State) Final() bool { return s != Queued }

// Scope picks deliveries for hold, release, retry, cancel and expire. Empty
// fields match all; the zero Scope matches everything and is refused by the
// API unless the caller says so.
type Scope struct {
	Destination string `json:"destination,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Stream      string `json:"stream,omitempty"`
	Pool        string `json:"pool,omitempty"`
	Job         string `json:"job,omitempty"`
	Carrier     string `json:"carrier,omitempty"`
	Source      string `json:"source,omitempty"`
}

// MatchesQueue compares the fields that a queue key has; Carrier and Source
// are for the scheduler, which knows them.
func (s *Scope) MatchesQueue(k *QueueKey) bool {
	return (s.Destination == "" || s.Destination == k.Destination) &&
		(s.Tenant == "" || s.Tenant == k.Tenant) &&
		(s.Stream == "" || s.Stream == k.Stream) &&
		(s.Pool == "" || s.Pool == k.Pool) &&
		(s.Job == "" || s.Job == k.Job)
}

// IsZero reports whether s matches everything.
func (s *Scope) IsZero() bool { return *s == Scope{} }
