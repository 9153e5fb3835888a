package delivery

import (
	"context"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// Work is where a session gets its jobs and brings its results. It belongs to
// one lane; the session calls it from its own goroutine only.
type Work interface {
	// Reconnect reports whether one more connection may be made, when the one
	// before it is closed and did not come as far as the first job. false ends
	// the session.
	Reconnect() bool
	// Next waits at most wait for a job. false ends the session: nothing came,
	// or the node wants the connection closed.
	Next(ctx context.Context, wait time.Duration) (*Job, bool)
	// TryNext is a job that can go now, or false. It must not wait: the peer
	// is waiting for us.
	TryNext() (*Job, bool)
	// Again reports whether one more transaction may be made for a job: each is
	// a message to the peer, and Next and TryNext allow the first. After false
	// the recipients that have had none are given back. It must not wait either.
	Again(*Job) bool
	// Done is called exactly once for each job. The Result is the callee's,
	// who ends its use with Release.
	Done(*Result)
}

// Content makes the bytes of one job's message.
type Content interface {
	// Prepare renders and signs. It runs in the session's goroutine right
	// before the message is sent, at most once for a job. The pieces together
	// are RFC 5322 content with CRLF line ends; they must stay unchanged until
	// the job's Result is released. An error that is or wraps a *ContentError
	// says what becomes of the recipients; any other is a temporary failure.
	Prepare(ctx context.Context) ([][]byte, error)
}

// ContentError is an outcome in place of content: a template that cannot be
// rendered, content that is gone.
type ContentError struct{ Reply message.Reply }

// Error is the reply on one line.
func (e *ContentError) Error() string { return "content: " + e.Reply.String() }

// Job is one delivery to attempt.
type Job struct {
	Delivery *message.Delivery
	Content  Content
	Sender   string // "" is the null reverse-path
	// SenderOf, if set, gives the envelope sender for one recipient, by its place
	// in Delivery.Recipients, in place of Sender: each goes in a transaction of
	// its own then. All must be addresses in ASCII.
	SenderOf func(recipient int) string
	Body     message.Body
	UTF8     bool // accepted with SMTPUTF8
	Return   message.Return
	EnvID    string
	// Offer is how many recipients, from the first on, are to be attempted; 0
	// is all of them.
	Offer int
	// MaxRecipients bounds the recipients of one transaction; more make
	// several transactions. 0 is policy.DefaultRecipientsPerTransaction.
	MaxRecipients int
	// Deadline ends the attempt wherever it stands. Zero is none beside
	// Timeouts.Attempt.
	Deadline time.Time
}

// RecipientReply is the outcome of one recipient.
type RecipientReply struct {
	Index int // in Job.Delivery.Recipients
	Reply message.Reply
}

// Result is the outcome of one job.
type Result struct {
	Job *Job
	// Replies has an entry for each recipient that was attempted, by index.
	// Those missing were not: they are due again at once, without a penalty.
	Replies []RecipientReply
	// NotAttempted says that Replies is empty.
	NotAttempted bool
	// Withheld says that Work allowed no further transaction for those missing.
	Withheld bool
	// AmbiguousDot says that the connection was lost between the end of the
	// content and its answer: the recipients may get it twice (design.md 5.3).
	AmbiguousDot bool
	// DSNRelayed says that the peer offered DSN and got our parameters, so
	// notices of success are its business now (RFC 3461 5.2.2).
	DSNRelayed bool
	Host       string // name of the host
	HostAddr   string // "192.0.2.1:25"
	SourceAddr string // local address of the connection
	TLS        string // "TLS1.3 TLS_AES_128_GCM_SHA256 verified", "" for plain
	Stages     message.Stages

	pieces  [][]byte
	facts   smtp.ContentFacts
	mail    smtp.MailParams
	todo    []int
	total   int  // recipients of the job
	open    int  // transactions that have not ended
	begun   bool // one has been taken
	waiting bool // in Session.waiting
}

var results = sync.Pool{New: func() any { return new(Result) }}

// Release gives the result back. It is the owner's last act.
func (r *Result) Release() {
	// A delivery of thousands of recipients is rare; its slices are not kept.
	const keep = 256
	replies, todo := r.Replies[:cap(r.Replies)], r.todo[:0]
	if cap(replies) > keep {
		replies, todo = nil, nil
	}
	clear(replies[:min(r.total, len(replies))])
	*r = Result{Replies: replies[:0], todo: todo}
	results.Put(r)
}

func newResult(job *Job) *Result {
	r := results.Get().(*Result)
	r.Job, r.total = job, len(job.Delivery.Recipients)
	for i := range job.Delivery.Recipients {
		r.Replies = append(r.Replies, RecipientReply{Index: i})
	}
	return r
}

// settle gives recipient i its outcome. The first one stands.
func (r *Result) settle(i int, reply message.Reply) {
	if r.Replies[i].Reply.Code == 0 {
		r.Replies[i].Reply = reply
	}
}

// settleAll gives all recipients without an outcome this one.
func (r *Result) settleAll(reply message.Reply) {
	for i := range r.Replies {
		r.settle(i, reply)
	}
	r.todo = r.todo[:0]
}

// close drops the entries of recipients that were not attempted.
func (r *Result) close() {
	kept := r.Replies[:0]
	for _, e := range r.Replies {
		if e.Reply.Code != 0 {
			kept = append(kept, e)
		}
	}
	r.Replies = kept
	r.NotAttempted = len(kept) == 0
}

// offered are the recipients to attempt.
func (j *Job) offered() []message.Recipient {
	to := j.Delivery.Recipients
	if j.Offer > 0 && j.Offer < len(to) {
		return to[:j.Offer]
	}
	return to
}

func (j *Job) maxRecipients() int {
	if j.SenderOf != nil {
		return 1
	}
	if j.MaxRecipients > 0 {
		return j.MaxRecipients
	}
	return policy.DefaultRecipientsPerTransaction
}
