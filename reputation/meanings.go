package reputation

import (
	"slices"
	"time"

	"hikyaku/spool/message"
)

// Meaning is what a category stands for, and what follows from it where a rule
// says nothing else.
type Meaning struct {
	Category Category
	Text     string
	About    About
	// Temporary and Permanent follow from a 4xx and a 5xx reply.
	Temporary, Permanent Action
	RetryAfter           time.Duration // with ActRetryFar
}

// Least waits of categories that retry late.
const (
	retryFull   = 6 * time.Hour   // a mailbox is not emptied in minutes
	retryRcpt   = time.Hour       // Gmail and Microsoft count a recipient's mail by the hour
	retryGreyed = 5 * time.Minute // Postgrey's delay, and most others' (RFC 6647 4)
)

// meanings is the table of categories, in the order in which they are listed.
// What stops at 5xx in "Permanent" fails one message only, but for unknown users
// and dead domains: never suppress on doubt.
var meanings = [...]Meaning{
	{Delivered, "accepted", AboutNothing, ActNone, ActNone, 0},
	{UnknownUser, "no such mailbox", AboutRecipient, ActRetry, ActSuppress, 0},
	{Inactive, "the mailbox was there once: disabled, suspended, moved away", AboutRecipient, ActRetry, ActSecond, 0},
	{MailboxFull, "the mailbox is full", AboutRecipient, ActRetryFar, ActFail, retryFull},
	{Filtered, "the recipient's own settings refuse it", AboutRecipient, ActRetry, ActFail, 0},
	{RcptRate, "this recipient gets too much at the moment", AboutRecipient, ActRetryFar, ActRetryFar, retryRcpt},
	{Content, "this message looks like spam, or worse", AboutMessage, ActRetry, ActFail, 0},
	{Size, "the message is too large", AboutMessage, ActRetry, ActFail, 0},
	{PolicyRule, "a rule of the receiver's, not about spam or the source", AboutMessage, ActRetry, ActFail, 0},
	{Auth, "SPF, DKIM or DMARC does not pass, or the sender domain itself is refused", AboutSender, ActRetry, ActFail, 0},
	{BadSender, "the envelope sender or From is refused", AboutSender, ActRetry, ActFail, 0},
	{Rate, "too fast from this source", AboutSource, ActSlow, ActSlow, 0},
	{SenderRate, "too fast from this sender domain or address, whatever source it uses", AboutSender, ActHold, ActHold, 0},
	{Connections, "too many connections from this source", AboutSource, ActOne, ActOne, 0},
	{PerConn, "enough for one connection; a new one may go on", AboutNothing, ActReconnect, ActReconnect, 0},
	{Blocked, "the source is refused for its reputation", AboutSource, ActRest, ActRest, 0},
	{Reputation, "the source is slowed for its reputation", AboutSource, ActSlow, ActSlow, 0},
	{Greylist, "come again in some minutes", AboutNothing, ActRetryFar, ActRetryFar, retryGreyed},
	{DNS, "our name or theirs cannot be looked up", AboutRecipient, ActRetry, ActFail, 0},
	{Network, "no connection, or cut off", AboutCarrier, ActRetry, ActRetry, 0},
	{TLS, "no TLS that both accept", AboutCarrier, ActRetry, ActRetry, 0},
	{TheirFault, "their own trouble", AboutCarrier, ActRetry, ActFail, 0},
	{NoMail, "the domain takes no mail", AboutRecipient, ActRetry, ActSecond, 0},
	{Relay, "they are not responsible for the domain: a wrong MX", AboutRecipient, ActRetry, ActFail, 0},
	{OurFault, "our own fault: syntax, sequence, header fields", AboutUs, ActAlert, ActAlert, 0},
	{Unknown, "no rule and no table knows it", AboutNothing, ActRetry, ActFail, 0},
	{Local, "our own decision: expiry, cancel, no source", AboutUs, ActNone, ActNone, 0},
}

// Consequence is what an action does, in words.
type Consequence struct {
	Action Action
	Text   string
}

var consequences = [...]Consequence{
	{ActSuppress, "the recipient fails and gets no more mail"},
	{ActSecond, "the recipient fails; seen again on another day it gets no more mail"},
	{ActFail, "the recipient fails, without suppression"},
	{ActRetry, "tried again by the schedule"},
	{ActRetryFar, "tried again, not before the given wait"},
	{ActElsewhere, "tried again soon, from another source if there is one"},
	{ActReconnect, "tried again at once on a new connection; no attempt is used up"},
	{ActSlow, "tried again; the source slows down at the carrier"},
	{ActRest, "tried again; the source rests at the carrier"},
	{ActOne, "tried again; the source keeps to one connection at the carrier"},
	{ActHold, "tried again; the tenant's mail is to be held"},
	{ActAlert, "an operator is to look; 4xx is tried again, 5xx fails"},
}

var abouts = [...]About{AboutRecipient, AboutMessage, AboutSender, AboutSource, AboutCarrier, AboutUs}

// Meanings lists the categories in words.
func Meanings() []Meaning { return meanings[:] }

// Consequences lists the actions in words.
func Consequences() []Consequence { return consequences[:] }

func meaningOf(c Category) (Meaning, bool) {
	i := slices.IndexFunc(meanings[:], func(m Meaning) bool { return m.Category == c })
	if i < 0 {
		return Meaning{}, false
	}
	return meanings[i], true
}

func isAction(a Action) bool {
	return slices.ContainsFunc(consequences[:], func(c Consequence) bool { return c.Action == a })
}

// ends reports whether an action ends the recipient, where the code has the
// given class.
func (a Action) ends(c message.Class) bool {
	switch a {
	case ActSuppress, ActSecond, ActFail:
		return true
	case ActAlert, ActNone:
		return c != message.Temporary
	}
	return false
}

// Suppresses reports whether the verdict speaks against the recipient's address
// itself: now, or when it is seen again on another day.
func (v Verdict) Suppresses() bool {
	return v.Final && (v.Action == ActSuppress || v.Action == ActSecond)
}

// verdict is what follows from the category alone.
func (m Meaning) verdict(c message.Class) Verdict {
	v := Verdict{Category: m.Category, About: m.About, Action: m.Temporary}
	if c == message.Permanent {
		v.Action = m.Permanent
	}
	v.Final = v.Action.ends(c)
	if v.Action == ActRetryFar {
		v.RetryAfter = m.RetryAfter
	}
	return v
}
