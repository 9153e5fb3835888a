package feedback

import (
	"time"

	"hikyaku/spool/message"
)

// Kind is of what sort a mail is that came back.
type Kind string

// The kinds. The words are used in metrics and never change.
const (
	Bounce        Kind = "bounce"      // at least one recipient failed for good
	Delay         Kind = "delay"       // somebody still tries
	Relayed       Kind = "relayed"     // delivered, relayed or expanded, as was asked for
	Complaint     Kind = "complaint"   // the recipient calls it spam
	AutoReply     Kind = "auto-reply"  // out of office, challenge, receipt
	Unsubscribing Kind = "unsubscribe" // opt-out reports, mail that asks for it
	Other         Kind = "other"
)

// Report is what a mail says. Nothing in it is proved.
type Report struct {
	Kind Kind
	// Why is the sign by which the kind was known, from a fixed set of words:
	// "rfc3464 failed", "text: qmail", "auto-submitted", …
	Why string
	// Form is how it was written: rfc3464, arf, a mail system's name, text.
	Form       string
	Recipients []Recipient
	Complaint  *Complained // with complaints, and reports that are next to them
	Returned   Returned
	// ReportingMTA and Arrived are of the report (RFC 3464 2.2).
	ReportingMTA string
	From         []string // addresses of the mail's own From
	EnvelopeID   string
	Arrived      time.Time
	// Truncated says that a bound was met and the rest was not read.
	Truncated bool

	nested bool // all is from a report within the mail
}

// Action is what became of a recipient (RFC 3464 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Forwarded Action = "relayed"
	Expanded  Action = "expanded"
)

// Recipient is what became of one.
type Recipient struct {
	Address  string // Final-Recipient, or as the text has it
	Original string // Original-Recipient (RFC 3461 4.2), or ""
	Action   Action
	Status   message.Enhanced // the report's own judgement; zero: none
	// Reply is the diagnostic as the reply of a server: with code and enhanced
	// code, and the phase where the report tells. Without a code in the report
	// the code is 550, 450 or 250, by the status and the action.
	Reply      message.Reply
	RemoteMTA  string
	LastTry    time.Time
	RetryUntil time.Time
}

// Complained is what a feedback report says (RFC 5965).
type Complained struct {
	Type       string // abuse, fraud, virus, not-spam, opt-out, auth-failure, other
	UserAgent  string
	MailFrom   string
	Recipients []string // Original-Rcpt-To; often redacted, then kept as it is
	Arrived    time.Time
	SourceIP   string
	Domain     string // Reported-Domain
	Reporter   string // Reporting-MTA
	Incidents  int    // at least 1
}

// Returned is what the message that was sent back, or its header, still has.
type Returned struct {
	MessageID string   // without brackets
	To        []string // addresses of To; people's writing, not the envelope
	Subject   string   // first 200 bytes
	// Tokens and Links are strings in the shape of our tokens, from anywhere in
	// the report's or the returned header, in the order found, without repeats.
	// Keys says whether they are any.
	Tokens []string
	Links  []string
}
