package api

import (
	"time"

	"hikyaku/spool/message"
)

// Scope picks deliveries. Empty fields match all.
type Scope struct {
	Destination string `json:"destination,omitempty" maxLength:"255" doc:"recipient domain in A-label form"`
	Tenant      string `json:"tenant,omitempty" maxLength:"64"`
	Stream      string `json:"stream,omitempty" maxLength:"64"`
	Pool        string `json:"pool,omitempty" maxLength:"64"`
	Job         string `json:"job,omitempty" maxLength:"128"`
	Carrier     string `json:"carrier,omitempty" maxLength:"64"`
	Source      string `json:"source,omitempty" maxLength:"64"`
}

// Message returns the scope as the scheduler and the spool know it.
func (s Scope) Message() message.Scope { return message.Scope(s) }

// QueueFilter picks and orders queues.
type QueueFilter struct {
	Scope
	Sort  string // size, age, due or name
	Limit int    // 1 to 1000
	Page  string // QueueList.Next of the page before
}

// QueueList is one page of queues.
type QueueList struct {
	Queues []Queue `json:"queues"`
	Total  int     `json:"total" doc:"queues that match, over all pages"`
	Next   string  `json:"next,omitempty" doc:"page token of the next page"`
	// Counted is false while sizes are still being counted after a start.
	Counted bool `json:"counted" doc:"false while sizes are still being counted after a start"`
}

// Queue is the deliveries of one flow for one destination.
type Queue struct {
	Destination string       `json:"destination"`
	Priority    string       `json:"priority"`
	Tenant      string       `json:"tenant"`
	Stream      string       `json:"stream,omitempty"`
	Pool        string       `json:"pool,omitempty"`
	Job         string       `json:"job,omitempty"`
	Carrier     string       `json:"carrier,omitempty"`
	Site        string       `json:"site,omitempty"`
	Queued      int64        `json:"queued"`
	InFlight    int64        `json:"in_flight"`
	Oldest      *time.Time   `json:"oldest,omitempty" doc:"when the oldest delivery was accepted"`
	NextDue     *time.Time   `json:"next_due,omitempty" doc:"when the first delivery may be tried"`
	Held        bool         `json:"held"`
	Binding     string       `json:"binding,omitempty" doc:"the limit that holds the head back; empty when it may go"`
	Last        *LastAttempt `json:"last,omitempty"`
}

// LastAttempt is what the remote said last.
type LastAttempt struct {
	At     time.Time     `json:"at"`
	Source string        `json:"source,omitempty"`
	Host   string        `json:"host,omitempty"`
	Reply  message.Reply `json:"reply"`
}

// Reason is one thing that holds deliveries back.
type Reason struct {
	Limit string     `json:"limit" doc:"name of the limit or state, as in carrier.rate or held"`
	Scope string     `json:"scope,omitempty" doc:"where it stands, as in carrier docomo"`
	Value string     `json:"value,omitempty" doc:"its value, as in 20 or 100/s"`
	Used  string     `json:"used,omitempty" doc:"how much of it is used"`
	Until *time.Time `json:"until,omitempty" doc:"when it lets go by itself"`
	Text  string     `json:"text" doc:"one sentence for people"`
}

// WhyAnswer says what holds a scope back. No reasons: nothing does.
type WhyAnswer struct {
	Scope   Scope    `json:"scope"`
	Queued  int64    `json:"queued"`
	Reasons []Reason `json:"reasons"`
}

// DeliveryFilter picks the deliveries of one destination.
type DeliveryFilter struct {
	Scope        // Destination is set
	Limit int    // 1 to 1000
	Page  string // DeliveryList.Next of the page before
}

// DeliveryList is one page of deliveries, in the order in which they are due
// within each queue.
type DeliveryList struct {
	Deliveries []Delivery `json:"deliveries"`
	Next       string     `json:"next,omitempty" doc:"page token of the next page"`
}

// Delivery is one message for one destination.
type Delivery struct {
	ID          string       `json:"id"`
	Destination string       `json:"destination"`
	Tenant      string       `json:"tenant,omitempty"`
	Stream      string       `json:"stream,omitempty"`
	Pool        string       `json:"pool,omitempty"`
	Job         string       `json:"job,omitempty"`
	Priority    string       `json:"priority,omitempty"`
	Carrier     string       `json:"carrier,omitempty"`
	Sender      string       `json:"sender"`
	Accepted    time.Time    `json:"accepted"`
	Due         *time.Time   `json:"due,omitempty"`
	Expires     *time.Time   `json:"expires,omitempty"`
	Attempts    int          `json:"attempts"`
	Size        int64        `json:"size"`
	InFlight    bool         `json:"in_flight"`
	Held        bool         `json:"held"`
	MovingTo    string       `json:"moving_to,omitempty" doc:"the node that it is offered to; it waits until it is known who has it"`
	MovedTo     string       `json:"moved_to,omitempty" doc:"the node that it was handed over to; ask that one"`
	Recipients  []Recipient  `json:"recipients"`
	Last        *LastAttempt `json:"last,omitempty"`
}

// Recipient is one address and where it stands.
type Recipient struct {
	Address string         `json:"address"`
	State   string         `json:"state" enum:"queued,delivered,bounced,expired,cancelled"`
	At      *time.Time     `json:"at,omitempty" doc:"when it ended"`
	Reply   *message.Reply `json:"reply,omitempty"`
}

// MessageOptions say how much of a message is wanted.
type MessageOptions struct {
	Content bool
	From    int // first delivery shown
	Limit   int // 1 to 1000
}

// Message is what was accepted once, with its deliveries.
type Message struct {
	ID         string         `json:"id"`
	Sender     string         `json:"sender" doc:"empty for the null sender, and once the message is no longer stored"`
	Tenant     string         `json:"tenant"`
	Stream     string         `json:"stream,omitempty"`
	Pool       string         `json:"pool,omitempty"`
	Job        string         `json:"job,omitempty"`
	Priority   string         `json:"priority"`
	Tags       []string       `json:"tags,omitempty"`
	Metadata   map[string]any `json:"metadata,omitempty"`
	Accepted   time.Time      `json:"accepted"`
	Via        string         `json:"via,omitempty" doc:"smtp, http or dsn; absent once the message is no longer stored, which is when its last delivery has ended"`
	From       string         `json:"from,omitempty" doc:"who handed it in"`
	Size       int64          `json:"size"`
	Count      int            `json:"deliveries_total"`
	Deliveries []Delivery     `json:"deliveries"`
	// Next is the first delivery of the next page, 0 when there is none.
	Next int `json:"next,omitempty"`
	// Raw or Template is there when content was asked for and is still stored.
	Raw      []byte            `json:"raw,omitempty" doc:"RFC 5322 content, base64"`
	Template *message.Template `json:"template,omitempty"`
}

// The verbs of an action.
const (
	VerbHold    = "hold"
	VerbRelease = "release"
	VerbRetry   = "retry"
	VerbCancel  = "cancel"
	VerbExpire  = "expire"
)

// ActionRequest acts on all deliveries of a scope, or of one message.
type ActionRequest struct {
	Verb    string     `json:"verb" enum:"hold,release,retry,cancel,expire"`
	Scope   Scope      `json:"scope,omitzero"`
	Message string     `json:"message,omitempty" maxLength:"40" doc:"message or delivery id; then the scope is empty"`
	Reason  string     `json:"reason,omitempty" maxLength:"500" doc:"why, for those who come after"`
	Author  string     `json:"author,omitempty" maxLength:"128" doc:"who, for those who come after"`
	Expires *time.Time `json:"expires,omitempty" doc:"when a hold ends by itself"`
	All     bool       `json:"all,omitempty" doc:"needed for an empty scope, which is everything"`
	// ID makes repeating harmless: the same id again does nothing that the
	// first did not, and takes hold of no mail that came after it.
	ID string `json:"id,omitempty" maxLength:"26" doc:"makes repeating harmless: an id as of a message, whose time bounds the mail that is meant"`
}

// Action is an action that stands: a hold, or a cancel that is not yet through.
type Action struct {
	ID      string     `json:"id"`
	Verb    string     `json:"verb"`
	Scope   Scope      `json:"scope"`
	Message string     `json:"message,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Author  string     `json:"author,omitempty"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
}

// ActionResult says what an action did.
type ActionResult struct {
	Action
	Affected int64 `json:"affected" doc:"deliveries the action took hold of"`
	// TooLate counts deliveries that were being sent: their outcome stands.
	TooLate    int64    `json:"too_late" doc:"deliveries in flight, whose outcome stands"`
	TooLateIDs []string `json:"too_late_ids,omitempty" doc:"the first 1000 of them"`
	// Running says that the rest is done in the background, page by page.
	Running bool `json:"running" doc:"the rest is done in the background"`
}

// JobFilter picks jobs.
type JobFilter struct {
	Tenant string
	State  string // active, paused, cancelled or ""
	Limit  int    // 1 to 1000
	Page   string
}

// JobList is one page of jobs.
type JobList struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next,omitempty" doc:"page token of the next page"`
}

// Job is one bulk submission and how far it is. Counts are recipients.
type Job struct {
	Tenant    string    `json:"tenant"`
	ID        string    `json:"id"`
	State     string    `json:"state" enum:"active,paused,cancelled"`
	Rate      string    `json:"rate,omitempty" doc:"bound on messages leaving, as in 100/s"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	Accepted  int64     `json:"accepted"`
	Queued    int64     `json:"queued"`
	Delivered int64     `json:"delivered"`
	Bounced   int64     `json:"bounced"`
	Expired   int64     `json:"expired"`
	Cancelled int64     `json:"cancelled"`
}

// JobChange changes what is not nil.
type JobChange struct {
	State *string `json:"state,omitempty" enum:"active,paused,cancelled" doc:"cancelled is final"`
	Rate  *string `json:"rate,omitempty" maxLength:"64" doc:"as in 100/s; empty removes the bound"`
}

// ListFilter bounds a listing of lanes, sites or budgets.
type ListFilter struct {
	Scope
	Limit int // 1 to 1000
}

// Lane is the connections from one source to one site.
type Lane struct {
	Source      string     `json:"source"`
	Site        string     `json:"site"`
	Carrier     string     `json:"carrier"`
	Connections int        `json:"connections"`
	Idle        int        `json:"idle"`
	Takes       int        `json:"takes,omitempty" doc:"connections at once that the hosts have shown to take from the source; absent: they have refused none beside others"`
	Until       *time.Time `json:"until,omitempty" doc:"rests until then"`
	Last        string     `json:"last,omitempty" doc:"last reply that was no success"`
}

// Site is an MX host set.
type Site struct {
	Site         string     `json:"site"`
	Carrier      string     `json:"carrier"`
	Destinations int        `json:"destinations"`
	Connections  int        `json:"connections"`
	Failures     int        `json:"failures" doc:"attempts in a row in which no host took a connection"`
	Until        *time.Time `json:"until,omitempty" doc:"rests until then"`
	Last         string     `json:"last,omitempty"`
}

// Budget is one limit and how much of it is left.
type Budget struct {
	Scope     string     `json:"scope" doc:"where it stands, as in carrier docomo or tenant shop"`
	Kind      string     `json:"kind" doc:"rate, per_day, connections or connection_rate"`
	Limit     string     `json:"limit"`
	Used      int64      `json:"used"`
	Available int64      `json:"available"`
	Until     *time.Time `json:"until,omitempty" doc:"when some of it comes back"`

	// Of a limit that this node shares with others:
	Shared  bool    `json:"shared,omitempty" doc:"other nodes have parts of the limit"`
	Granted bool    `json:"granted,omitempty" doc:"of a shared limit: the leader's grant holds; else the node has its floor only"`
	Share   float64 `json:"share,omitempty" doc:"of a shared rate: this node's part, 0 to 1"`
	Part    int64   `json:"part,omitempty" doc:"of a shared limit: what is this node's of the burst, the connections or the day's count"`
	Permits int64   `json:"permits,omitempty" doc:"what the leader has given of the day's count on top"`
}

// TraceFilter picks SMTP sessions. Empty fields match all.
type TraceFilter struct {
	Direction   string // in, out or ""
	Destination string
	Host        string // name or address of the peer
	Sender      string
	Recipient   string
}

// TraceLine is one thing that happened in a session. Content is not traced,
// and credentials are replaced.
type TraceLine struct {
	Time      time.Time `json:"time"`
	Session   string    `json:"session"`
	Direction string    `json:"direction"` // in or out
	Kind      string    `json:"kind"`      // sent, received or note
	Text      string    `json:"text"`
	Peer      string    `json:"peer,omitempty"`
}

// EventQuery picks lines of the event log. It has the fields of events.Query,
// in the same order, so that one converts into the other.
type EventQuery struct {
	ID          string
	Recipient   string
	Sender      string
	Tenant      string
	Stream      string
	Job         string
	Tag         string
	Type        string
	Destination string
	Carrier     string
	Source      string
	Since       time.Time
	Until       time.Time
	Limit       int
}

// EventsFound says how much was looked at.
type EventsFound struct {
	Matches       int   `json:"matches"`
	Segments      int   `json:"segments"`
	Blocks        int   `json:"blocks"`
	BlocksSkipped int   `json:"blocks_skipped"`
	ContentBytes  int64 `json:"json_bytes"`
	DamagedBytes  int64 `json:"damaged_bytes"`
	Limited       bool  `json:"limited"`
}
