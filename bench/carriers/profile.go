package carriers

import (
	"time"

	"hikyaku/controlplane/policy"
)

// Profile is one simulated carrier, as it is written in YAML.
type Profile struct {
	Name string `json:"name"`
	// Description says in words what is modelled.
	Description string `json:"description"`
	// BasedOn names where numbers and texts come from.
	BasedOn []string `json:"based_on"`
	// Domains are recipient domains; "*.sink.test" stands for all below it.
	Domains []string `json:"domains"`
	// MX are the hosts of all domains.
	MX []Host `json:"mx"`
	// Dead makes hosts that take no connection: refused (RST to each SYN) or
	// silent (no answer at all). Nothing else of the profile counts then.
	Dead string `json:"dead,omitempty"`
	// Banner stands after the host's name in the greeting. Default "ESMTP".
	Banner string `json:"banner,omitempty"`
	// Extensions are the EHLO lines beside STARTTLS and CHUNKING.
	Extensions []string `json:"extensions,omitempty"`
	// Chunking offers CHUNKING.
	Chunking bool `json:"chunking,omitempty"`
	// StartTLS is none (the default), offered or required.
	StartTLS string `json:"starttls,omitempty"`
	// Latency is how long each phase takes.
	Latency Phases `json:"latency,omitzero"`
	// Limits hold over all sources, PerSource for each on its own.
	Limits    policy.Limits `json:"limits,omitzero"`
	PerSource policy.Limits `json:"per_source,omitzero"`
	// The limits of one connection and one transaction; 0 is none.
	MessagesPerConnection    int `json:"messages_per_connection,omitempty"`
	RecipientsPerConnection  int `json:"recipients_per_connection,omitempty"`
	RecipientsPerTransaction int `json:"recipients_per_transaction,omitempty"`
	// ExcessVoidsSession loses what the session delivered before a recipient
	// too many, although it was answered with 250.
	ExcessVoidsSession bool `json:"excess_voids_session,omitempty"`
	// SessionTime cuts a connection at its first MAIL after this long. It is no
	// limit that a sender is told of, so no violation.
	SessionTime policy.Duration `json:"session_time,omitempty"`
	// Over is what is said to what exceeds a limit.
	Over Over `json:"over,omitzero"`
	// Chance are ordinary refusals that may strike anyone.
	Chance []Chance `json:"chance,omitempty"`
	// Greylist defers recipients at first sight.
	Greylist *Greylist `json:"greylist,omitempty"`
	// Recipients are the fates of addresses; what has none is taken.
	Recipients []Fate `json:"recipients,omitempty"`
	// TopOfHour defers what comes too densely after the full hour.
	TopOfHour *TopOfHour `json:"top_of_hour,omitempty"`
	// Punish is what becomes of a source that goes too far.
	Punish *Punish `json:"punish,omitempty"`
}

// Host is a name in an MX set.
type Host struct {
	Name       string `json:"name"`
	Preference int    `json:"preference,omitempty"`
	Addresses  int    `json:"addresses,omitempty"` // how many it has; default 1
}

// Phases are the latencies before each answer.
type Phases struct {
	Connect Latency `json:"connect,omitzero"`
	Hello   Latency `json:"hello,omitzero"`
	Mail    Latency `json:"mail,omitzero"`
	Rcpt    Latency `json:"rcpt,omitzero"`
	Data    Latency `json:"data,omitzero"`
	Dot     Latency `json:"dot,omitzero"`
}

// Say is a way to refuse.
type Say struct {
	// Reply is an SMTP reply. {source}, {rcpt}, {from} and {host} are filled
	// in. 421 closes the connection (RFC 5321 3.8).
	Reply string `json:"reply,omitempty"`
	Close bool   `json:"close,omitempty"` // after the reply
	Reset bool   `json:"reset,omitempty"` // TCP RST instead of a reply
	Drop  bool   `json:"drop,omitempty"`  // FIN instead of a reply
}

// Over says how each limit refuses. What is left out is refused in a plain way.
type Over struct {
	Connections              *Say `json:"connections,omitempty"`
	ConnectionRate           *Say `json:"connection_rate,omitempty"`
	Rate                     *Say `json:"rate,omitempty"`
	PerDay                   *Say `json:"per_day,omitempty"`
	MessagesPerConnection    *Say `json:"messages_per_connection,omitempty"`
	RecipientsPerConnection  *Say `json:"recipients_per_connection,omitempty"`
	RecipientsPerTransaction *Say `json:"recipients_per_transaction,omitempty"`
	SessionTime              *Say `json:"session_time,omitempty"`
	TLS                      *Say `json:"tls,omitempty"` // MAIL without the TLS that is required
}

// Chance refuses a share of what comes in one phase, by the seed.
type Chance struct {
	Phase string  `json:"phase"` // connect, mail, rcpt, data or dot
	Share float64 `json:"share"` // 0 to 1
	Say
}

// Greylist defers a pair of source and recipient at first sight.
type Greylist struct {
	Share float64         `json:"share"`           // of the addresses, by hash
	Wait  policy.Duration `json:"wait"`            // a retry before this is deferred too
	Keep  policy.Duration `json:"keep,omitempty"`  // default 24h
	Reply string          `json:"reply,omitempty"` // default 450 4.2.0 Greylisted
}

// Fate is what becomes of a share of the addresses, chosen by a hash.
type Fate struct {
	// Kind is unknown, full, filtered (refused with Reply), dropped (taken, and
	// in no mailbox), bounce (taken, and returned later as a DSN) or complaint
	// (taken, and complained about later as ARF).
	Kind  string  `json:"kind"`
	Share float64 `json:"share"`
	// Phase is rcpt (the default) or dot. At the dot there is one answer for
	// all recipients of a message: that of the first.
	Phase string `json:"phase,omitempty"`
	Reply string `json:"reply,omitempty"`
	// After is how long a bounce or complaint takes.
	After Latency `json:"after,omitzero"`
	// Status is a bounce's RFC 3463 code. Default 5.1.1.
	Status string `json:"status,omitempty"`
}

// TopOfHour is what a carrier does that is tired of everyone's full hours.
type TopOfHour struct {
	For   policy.Duration `json:"for"`  // after the full hour
	Rate  policy.Rate     `json:"rate"` // of each source, that is still taken; no violation beyond
	Reply string          `json:"reply"`
	// Hour is how long an hour is where time goes faster (Quicker).
	Hour policy.Duration `json:"-"`
}

// In reports whether a time is among the first of an hour.
func (t *TopOfHour) In(now time.Time) bool {
	return now.Sub(now.Truncate(t.Hour.Or(time.Hour))) < t.For.D()
}

// Punish is how a carrier treats a source by its strikes: one for each
// violation, for each try while it is deferred or blocked, and for each unknown
// recipient beyond the tolerated share.
type Punish struct {
	// Forgive is the time after which one strike is forgotten.
	Forgive policy.Duration `json:"forgive"`
	// Slow delays every answer, from so many strikes on.
	Slow *Slow `json:"slow,omitempty"`
	// Defer refuses every MAIL for now.
	Defer *Step `json:"defer,omitempty"`
	// Block refuses every connection for a time; the strikes begin anew at half
	// of what brought it, so it does not take as much to come again.
	Block *Block `json:"block,omitempty"`
	// Unknown is how many unknown recipients are tolerated.
	Unknown *Unknown `json:"unknown,omitempty"`
}

// Slow is the first step of a punishment.
type Slow struct {
	Strikes int             `json:"strikes"`
	Delay   policy.Duration `json:"delay"`
}

// Step is a step that refuses.
type Step struct {
	Strikes int `json:"strikes"`
	Say
}

// Block is the last step. Each further block is twice as long as the one
// before, unless there was none for the span Forget.
type Block struct {
	Strikes int             `json:"strikes"`
	For     policy.Duration `json:"for"`
	AtMost  policy.Duration `json:"at_most"`
	Forget  policy.Duration `json:"forget"`
	Say
}

// Unknown strikes at each unknown recipient while more than Share of the last
// Of recipients are unknown.
type Unknown struct {
	Share float64 `json:"share"`
	Of    int     `json:"of"`
}
