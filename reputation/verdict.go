package reputation

import "time"

// Category is what a reply means. The word is used in events, metrics, rules and
// on the wire between nodes, so it never changes.
type Category string

// The categories.
const (
	Delivered   Category = "delivered"
	UnknownUser Category = "unknown-user" // no such mailbox
	Inactive    Category = "inactive"     // it was there once: disabled, suspended, moved away
	MailboxFull Category = "mailbox-full"
	Filtered    Category = "filtered"    // refused by the recipient's own settings
	RcptRate    Category = "rcpt-rate"   // this recipient gets too much at the moment
	Content     Category = "content"     // this message looks like spam, or worse
	Size        Category = "size"        // too large
	PolicyRule  Category = "policy"      // the receiver's rules, not about spam or source
	Auth        Category = "auth"        // SPF, DKIM, DMARC, or the sender domain itself
	BadSender   Category = "bad-sender"  // the envelope sender or From is refused
	Rate        Category = "rate"        // too fast from this source
	SenderRate  Category = "sender-rate" // too fast from this sender, whatever source it uses
	Connections Category = "connections"
	PerConn     Category = "per-connection" // enough for one connection: a new one may go on
	Blocked     Category = "blocked"        // the source is refused for its reputation
	Reputation  Category = "reputation"     // slowed for it
	Greylist    Category = "greylist"
	DNS         Category = "dns"       // ours or theirs cannot be looked up
	Network     Category = "network"   // no connection, cut off
	TLS         Category = "tls"       // no TLS that both accept
	TheirFault  Category = "temporary" // their trouble
	NoMail      Category = "no-mail"   // the domain takes no mail (null MX, 556)
	Relay       Category = "relay"     // they are not responsible for it: wrong MX
	OurFault    Category = "protocol"  // our own fault: syntax, sequence, header fields
	Unknown     Category = "unclassified"
	Local       Category = "local" // our own decision: expiry, cancel, no source
)

// About is what a reply is about: where the consequence lies.
type About string

// What a reply can be about.
const (
	AboutNothing   About = ""
	AboutRecipient About = "recipient"
	AboutMessage   About = "message"
	AboutSender    About = "sender" // tenant and sender domain
	AboutSource    About = "source"
	AboutCarrier   About = "carrier"
	AboutUs        About = "us"
)

// Action is what follows for this delivery and this connection.
type Action string

// The actions. What follows for the source or tenant over time, the controller
// decides.
const (
	ActNone      Action = ""
	ActSuppress  Action = "suppress"     // the recipient gets no more mail
	ActSecond    Action = "second-sight" // suppressed when seen again on another day
	ActFail      Action = "fail"         // this recipient fails, without suppression
	ActRetry     Action = "retry"        // by the schedule
	ActRetryFar  Action = "retry-later"  // not before Verdict.RetryAfter
	ActElsewhere Action = "elsewhere"    // again soon, from another source if there is one
	ActReconnect Action = "reconnect"    // at once, on a new connection; no attempt is used up
	ActSlow      Action = "slow"         // retry, and the source slows down
	ActRest      Action = "rest"         // retry, and the source rests
	ActOne       Action = "one-connection"
	ActHold      Action = "hold" // retry; the tenant's mail is to be held
	ActAlert     Action = "alert"
)

// Verdict is what a reply means.
type Verdict struct {
	Category Category
	About    About
	Action   Action
	// Final: the recipient ends here; else it is tried again, whatever the code's
	// first digit is.
	Final bool
	// RetryAfter is the least wait before the recipient is tried again from this
	// source; with ActRetryFar, from any.
	RetryAfter time.Duration
	// Rule names the rule, as "docomo/unknown-at-rcpt".
	Rule string
}

// OfSource reports whether a reply refuses the source for its own sake.
func (v *Verdict) OfSource() bool {
	return v.About == AboutSource && (v.Category == Blocked || v.Action == ActRest)
}

// OfSpeed reports whether a reply says that the source is too fast.
func (v *Verdict) OfSpeed() bool {
	return v.About == AboutSource && (v.Category == Rate || v.Category == Reputation)
}
