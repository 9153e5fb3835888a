package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// ErrNotFound is what a Queue answers for what it does not know, or what
// belongs to another tenant: the two must not be told apart.
var ErrNotFound = errors.New("not found")

// HTTPAuthenticator says who a client is. Policy lives behind it.
type HTTPAuthenticator interface {
	// APIKey looks a bearer token up, in constant time. key is its name, for events.
	APIKey(ctx context.Context, token string) (tenant, key string, ok bool)
	// Network is the tenant whose networks hold the address.
	Network(addr netip.Addr) (tenant string, ok bool)
}

// Queue answers questions about what was accepted, and changes it. All of it is
// for one tenant; the errors are ErrNotFound, a *Refusal, or the queue's own.
type Queue interface {
	// MessageStatus lists a message's deliveries numbered from and up, at most limit.
	MessageStatus(ctx context.Context, tenant string, id message.ID, from uint16, limit int) (*MessageStatus, error)
	// CancelMessage cancels one delivery, or with a nil index all of them.
	CancelMessage(ctx context.Context, tenant string, id message.ID, index *uint16) (*CancelResult, error)
	// Job is how far a job is.
	Job(ctx context.Context, tenant, job string) (*JobStatus, error)
	// PatchJob pauses, resumes or slows a job.
	PatchJob(ctx context.Context, tenant, job string, patch JobPatch) (*JobStatus, error)
	// CancelJob cancels what is left of a job.
	CancelJob(ctx context.Context, tenant, job string) (*JobStatus, error)
}

// IdempotencyStore finds stored answers; *spool.Store is one. They are written
// by Acceptor.Accept, in the same batch as the message.
type IdempotencyStore interface {
	Idempotency(tenant, key string) (*spool.Idempotency, bool, error)
}

// CompiledTemplate is a template that was checked.
type CompiledTemplate interface {
	// Check says why the template cannot be rendered for a recipient.
	Check(r *message.Recipient) error
}

// Problem is one thing that is wrong with a request.
type Problem struct {
	Path   string `json:"path" doc:"Where in the request, as in to[3].email." example:"to[3].email"`
	Reason string `json:"reason" doc:"What is wrong there."`
}

// HTTPBackend is what the node gives to the HTTP server.
type HTTPBackend struct {
	Acceptor      Acceptor
	Authenticator HTTPAuthenticator
	Queue         Queue
	Idempotency   IdempotencyStore
	// Compile checks a template and sets its Static where it has no tags. The
	// problems' paths are those of the template's fields. (Package compose does
	// it; siblings do not import each other.)
	Compile func(t *message.Template) (CompiledTemplate, []Problem)
	// Rest is called when a large request has computed, before the next one may,
	// and may wait; nil does not.
	Rest func(ctx context.Context, worked time.Duration)
	// Healthy says whether GET /healthz answers 200.
	Healthy func() bool
}

// MessageStatus is a message and a page of its deliveries.
type MessageStatus struct {
	ID         message.ID       `json:"id" doc:"The message's id."`
	Job        string           `json:"job,omitempty" doc:"The job it belongs to."`
	Stream     string           `json:"stream,omitempty"`
	Pool       string           `json:"pool,omitempty"`
	Sender     string           `json:"envelope_from" doc:"The envelope sender."`
	Tags       []string         `json:"tags,omitempty"`
	Metadata   JSONObject       `json:"metadata,omitempty" doc:"As given."`
	Accepted   time.Time        `json:"accepted" doc:"When it was accepted."`
	Total      int              `json:"total" doc:"How many deliveries it has."`
	Deliveries []DeliveryStatus `json:"deliveries" doc:"A page of them, in order."`
	Next       *int             `json:"next,omitempty" doc:"The from of the next page, when there is one."`
}

// DeliveryStatus is where one delivery stands.
type DeliveryStatus struct {
	ID          message.DeliveryID `json:"id"`
	Destination string             `json:"destination"`
	Recipients  []RecipientStatus  `json:"recipients"`
	Attempts    int                `json:"attempts" doc:"Attempts made so far."`
	Due         *time.Time         `json:"due,omitempty" doc:"Of what is queued: not before this time."`
	Expires     *time.Time         `json:"expires,omitempty" doc:"Of what is queued: it ends as expired after this time."`
	Last        *AttemptStatus     `json:"last,omitempty" doc:"Of what is queued: the last attempt."`
}

// RecipientStatus is where one recipient stands.
type RecipientStatus struct {
	Email string         `json:"email"`
	State message.State  `json:"state" enum:"queued,delivered,bounced,expired,cancelled"`
	At    *time.Time     `json:"at,omitempty" doc:"When it reached its end state."`
	Reply *message.Reply `json:"reply,omitempty" doc:"What the receiving server said at the end."`
}

// AttemptStatus is the last attempt of a delivery.
type AttemptStatus struct {
	At     time.Time     `json:"at"`
	Source string        `json:"source,omitempty"`
	Host   string        `json:"host,omitempty"`
	Reply  message.Reply `json:"reply"`
}

// CancelResult says what a cancel did.
type CancelResult struct {
	ID        string `json:"id" doc:"What was to be cancelled."`
	Cancelled int    `json:"cancelled" doc:"Recipients that will get nothing."`
	InFlight  int    `json:"in_flight" doc:"Recipients being delivered to right now: too late for this attempt, no other will follow."`
	Ended     int    `json:"ended" doc:"Recipients that had ended before."`
}

// The states of a job.
const (
	JobActive    = "active"
	JobPaused    = "paused"
	JobCancelled = "cancelled"
)

// JobStatus is how far a job is. The counters are of recipients.
type JobStatus struct {
	Job       string       `json:"job"`
	State     string       `json:"state" enum:"active,paused,cancelled"`
	Rate      *policy.Rate `json:"rate,omitempty" doc:"The bound set on it, as in 100/s."`
	Accepted  int64        `json:"accepted"`
	Queued    int64        `json:"queued"`
	Delivered int64        `json:"delivered"`
	Bounced   int64        `json:"bounced"`
	Expired   int64        `json:"expired"`
	Cancelled int64        `json:"cancelled"`
	First     *time.Time   `json:"first,omitempty" doc:"When its first message was accepted."`
	Last      *time.Time   `json:"last,omitempty" doc:"When its counters changed last."`
}

// JobPatch is a change of a job. Nil leaves as it is.
type JobPatch struct {
	State     *string      // JobActive or JobPaused
	Rate      *policy.Rate // with ClearRate false
	ClearRate bool
}

// JSONObject is a JSON object kept as text.
type JSONObject json.RawMessage

// MarshalJSON gives the text itself.
func (o JSONObject) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	return o, nil
}
