package api

import (
	"time"

	"hikyaku/spool/message"
)

// The shapes that nodes and the control plane's merged views share. They are
// those of the node's own API with the node's name before them; fields that a
// later node adds are left out until this side knows them.

// MailScope picks deliveries. Empty fields match all.
type MailScope struct {
	Destination string `json:"destination,omitempty" maxLength:"255" doc:"Recipient domain in A-label form."`
	Tenant      string `json:"tenant,omitempty" maxLength:"64"`
	Stream      string `json:"stream,omitempty" maxLength:"64"`
	Pool        string `json:"pool,omitempty" maxLength:"64"`
	Job         string `json:"job,omitempty" maxLength:"128"`
	Carrier     string `json:"carrier,omitempty" maxLength:"64"`
	Source      string `json:"source,omitempty" maxLength:"64"`
}

// NodeQueue is the deliveries of one flow for one destination on one node.
type NodeQueue struct {
	Node        string     `json:"node"`
	Destination string     `json:"destination"`
	Priority    string     `json:"priority"`
	Tenant      string     `json:"tenant"`
	Stream      string     `json:"stream,omitempty"`
	Pool        string     `json:"pool,omitempty"`
	Job         string     `json:"job,omitempty"`
	Carrier     string     `json:"carrier,omitempty"`
	Site        string     `json:"site,omitempty"`
	Queued      int64      `json:"queued"`
	InFlight    int64      `json:"in_flight"`
	Oldest      *time.Time `json:"oldest,omitempty" doc:"When the oldest delivery was accepted."`
	NextDue     *time.Time `json:"next_due,omitempty" doc:"When the first delivery may be tried."`
	Held        bool       `json:"held"`
	Binding     string     `json:"binding,omitempty" doc:"The limit that holds the head back; empty when it may go."`
	Last        *LastTry   `json:"last,omitempty"`
}

// LastTry is what the remote said last.
type LastTry struct {
	At     time.Time     `json:"at"`
	Source string        `json:"source,omitempty"`
	Host   string        `json:"host,omitempty"`
	Reply  message.Reply `json:"reply"`
}

// ClusterQueues is one page of the queues of all nodes.
type ClusterQueues struct {
	Queues  []NodeQueue `json:"queues"`
	Total   int         `json:"total" doc:"Queues that match, over all pages and the nodes that answered this one."`
	Next    string      `json:"next,omitempty" doc:"Page token of the next page. A page may be short though there is one."`
	Counted bool        `json:"counted" doc:"False while a node still counts after its start."`
	Coverage
}

// NodeReason is one thing that holds deliveries back on one node.
type NodeReason struct {
	Node  string     `json:"node"`
	Limit string     `json:"limit"`
	Scope string     `json:"scope,omitempty"`
	Value string     `json:"value,omitempty"`
	Used  string     `json:"used,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	Text  string     `json:"text" doc:"One sentence for people."`
}

// ClusterWhy says what holds a scope back, on each node.
type ClusterWhy struct {
	Scope   MailScope    `json:"scope"`
	Queued  int64        `json:"queued"`
	Reasons []NodeReason `json:"reasons"`
	Coverage
}

// NodeDelivery is one message for one destination, on the node that has it.
type NodeDelivery struct {
	Node        string          `json:"node"`
	ID          string          `json:"id"`
	Destination string          `json:"destination"`
	Tenant      string          `json:"tenant,omitempty"`
	Stream      string          `json:"stream,omitempty"`
	Pool        string          `json:"pool,omitempty"`
	Job         string          `json:"job,omitempty"`
	Priority    string          `json:"priority,omitempty"`
	Carrier     string          `json:"carrier,omitempty"`
	Sender      string          `json:"sender"`
	Accepted    time.Time       `json:"accepted"`
	Due         *time.Time      `json:"due,omitempty"`
	Expires     *time.Time      `json:"expires,omitempty"`
	Attempts    int             `json:"attempts"`
	Size        int64           `json:"size"`
	InFlight    bool            `json:"in_flight"`
	Held        bool            `json:"held"`
	Recipients  []NodeRecipient `json:"recipients"`
	Last        *LastTry        `json:"last,omitempty"`
}

// NodeRecipient is one address and where it stands.
type NodeRecipient struct {
	Address string         `json:"address"`
	State   string         `json:"state" doc:"queued, delivered, bounced, expired, cancelled, or moved: another node has it."`
	At      *time.Time     `json:"at,omitempty" doc:"When it ended."`
	Reply   *message.Reply `json:"reply,omitempty"`
}

// ClusterDeliveries is one page of the deliveries queued for a destination.
type ClusterDeliveries struct {
	Deliveries []NodeDelivery `json:"deliveries"`
	Next       string         `json:"next,omitempty" doc:"Page token of the next page. A page may be short though there is one."`
	Coverage
}

// NodeMessage is what one node knows of a message.
type NodeMessage struct {
	Node       string            `json:"node"`
	ID         string            `json:"id"`
	Sender     string            `json:"sender"`
	Tenant     string            `json:"tenant"`
	Stream     string            `json:"stream,omitempty"`
	Pool       string            `json:"pool,omitempty"`
	Job        string            `json:"job,omitempty"`
	Priority   string            `json:"priority"`
	Tags       []string          `json:"tags,omitempty"`
	Metadata   map[string]any    `json:"metadata,omitempty"`
	Accepted   time.Time         `json:"accepted"`
	Via        string            `json:"via,omitempty"`
	From       string            `json:"from,omitempty"`
	Size       int64             `json:"size"`
	Count      int               `json:"deliveries_total"`
	Deliveries []NodeDelivery    `json:"deliveries"`
	Next       int               `json:"next,omitempty" doc:"The first delivery of the next page, 0 when there is none."`
	Raw        []byte            `json:"raw,omitempty" doc:"RFC 5322 content, base64."`
	Template   *message.Template `json:"template,omitempty"`
}

// ClusterMessage is a message wherever it is: a delivery that was handed to
// another node is known to both.
type ClusterMessage struct {
	Messages []NodeMessage `json:"messages"`
	Coverage
}

// NodeAction is a hold, or a cancel that is not yet through, on one node.
type NodeAction struct {
	Node    string     `json:"node"`
	ID      string     `json:"id"`
	Verb    string     `json:"verb"`
	Scope   MailScope  `json:"scope"`
	Message string     `json:"message,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Author  string     `json:"author,omitempty"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
}

// ClusterAction is an action as it stands on the nodes that have it.
type ClusterAction struct {
	ID      string     `json:"id"`
	Verb    string     `json:"verb"`
	Scope   MailScope  `json:"scope"`
	Message string     `json:"message,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Author  string     `json:"author,omitempty"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	On      []string   `json:"on" doc:"Nodes on which it stands."`
}

// ClusterActions is what stands.
type ClusterActions struct {
	Items []ClusterAction `json:"items"`
	Coverage
}

// ClusterJob is one bulk submission over all nodes. Counts are recipients.
type ClusterJob struct {
	Tenant    string    `json:"tenant"`
	ID        string    `json:"id"`
	State     string    `json:"state" doc:"active, paused or cancelled; mixed where nodes differ."`
	Rate      string    `json:"rate,omitempty" doc:"Bound on messages leaving, as in 100/s; on each node that names it."`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	Accepted  int64     `json:"accepted"`
	Queued    int64     `json:"queued"`
	Delivered int64     `json:"delivered"`
	Bounced   int64     `json:"bounced"`
	Expired   int64     `json:"expired"`
	Cancelled int64     `json:"cancelled"`
	On        []string  `json:"on" doc:"Nodes that know it."`
}

// ClusterJobs is one page of jobs.
type ClusterJobs struct {
	Jobs []ClusterJob `json:"jobs"`
	Next string       `json:"next,omitempty" doc:"Page token of the next page. A page may be short though there is one."`
	Coverage
}

// ClusterJobAnswer is one job.
type ClusterJobAnswer struct {
	ClusterJob
	Coverage
}

// JobOrder changes what is not nil.
type JobOrder struct {
	State *string `json:"state,omitempty" enum:"active,paused,cancelled" doc:"cancelled is final"`
	Rate  *string `json:"rate,omitempty" maxLength:"64" doc:"as in 100/s; empty removes the bound"`
}
