package ingest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// Submission is one message with its recipients on its way through the
// acceptance path, which SMTP and HTTP share.
type Submission struct {
	// Message has Sender, content, Tenant, Stream, Pool, Job, Priority, Tags,
	// Metadata, From, Via and HeaderFrom set. ID and Accepted are set too if
	// the caller had to know them first (Acceptor.NewID), else by Accept.
	Message    *message.Message
	Recipients []message.Recipient // addresses that passed the grammar; a domain may be a U-label
	// OneEach makes each recipient a delivery of its own, numbered in order
	// (HTTP). Otherwise there is one delivery a destination (SMTP).
	OneEach       bool
	SendAt        time.Time // zero: now
	Expires       time.Time // zero: the stream's expiry
	PriorityGiven bool      // else the stream's priority
	Idempotency   *spool.Idempotency
	// Encoded, if set, is called when all that Accept has left to do is to wait
	// for the disk. It may not be called at all when Accept fails.
	Encoded func()
}

// Acceptor takes submissions into the spool. Package node implements it.
type Acceptor interface {
	// Admit says whether new mail of the tenant is welcome: a *Refusal when
	// the disk is short, the spool failed, the tenant has too much queued or
	// the node drains. Called before content is read. Accept asks again, but
	// for the drain: what was in hand when it began is taken.
	Admit(tenant string) error
	// NewID returns a fresh message id.
	NewID(now time.Time) message.ID
	// Accept makes the submission durable. After nil it will not be lost and
	// s must not be touched; a *Refusal is something to tell the client.
	Accept(ctx context.Context, s *Submission) error
	// Policy is the snapshot in force.
	Policy() *policy.Set
}

// Offerer is an Acceptor that can have several submissions of one client on
// their way to the disk at a time.
type Offerer interface {
	Acceptor
	// Offer begins what Accept does. Without an error and without a Receipt
	// the submission is durable already.
	Offer(ctx context.Context, s *Submission) (Receipt, error)
}

// Gate is an Acceptor that takes mail for some addresses only: behind a listener
// for mail that comes in rather than goes out. Nobody logs in there.
type Gate interface {
	// Recipient is asked at RCPT. A *Refusal is told to the client.
	Recipient(client netip.Addr, address string) *Refusal
}

// Receipt is a submission on its way to the disk.
type Receipt interface {
	// Wait is called once, also when nobody wants to know any more, and
	// returns what Accept would.
	Wait(ctx context.Context) error
}

// Refusal is a refusal that a client can be told, over SMTP or HTTP.
type Refusal struct {
	Code       int // SMTP, 4xx or 5xx
	Enhanced   message.Enhanced
	HTTP       int
	RetryAfter time.Duration // for HTTP 429 and 503; zero is none
	Text       string        // generic: no addresses, paths or secrets
}

// Error is "452 4.3.1 text".
func (r *Refusal) Error() string {
	return fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text)
}

// Destination is the queue's name for an address: its domain in A-label form,
// lower case, without a trailing dot, or an address literal in brackets. The
// address must have passed the SMTP grammar; the error says what is wrong with
// the domain.
func Destination(address string) (string, error) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return "", fmt.Errorf("address without a domain")
	}
	domain := address[i+1:]
	if strings.HasPrefix(domain, "[") {
		return strings.ToLower(domain), nil
	}
	if d, ok := plainDomain(domain); ok {
		return d, nil
	}
	d, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "", fmt.Errorf("domain is not a valid internationalised name (RFC 5891)")
	}
	return strings.ToLower(d), nil
}

// oddLocalText says what is wrong with a recipient that oddLocal refuses.
const oddLocalText = "dots at the ends of the local part, or two in a row, are not taken for this domain unless the local part is quoted"

// oddLocal reports whether a recipient has to be refused for its local part: dots
// where RFC 5321 4.1.2 has none (smtp.OddLocal), at a domain of which policy does
// not say that it has such mailboxes. The address must have passed the grammar and
// have a good domain.
func oddLocal(set *policy.Set, address string) bool {
	if !smtp.OddLocal(address) {
		return false
	}
	destination, err := Destination(address)
	return err != nil || set.OddLocalPartsAt(destination) == policy.OddRefuse
}

// plainDomain is the way of almost every domain: letters, digits, dots and
// hyphens need no IDNA tables, only lower case. Labels with "--" in the third
// place (xn--) take the slow way so that a broken A-label is refused.
func plainDomain(domain string) (string, bool) {
	lower := true
	label := 0
	for i := range len(domain) {
		switch c := domain[i]; {
		case c == '.':
			label = i + 1
		case c == '-' && i == label+3 && domain[i-1] == '-':
			return "", false
		case c >= 'A' && c <= 'Z':
			lower = false
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
	}
	if len(domain) == 0 || len(domain) > 253 {
		return "", false
	}
	if !lower {
		domain = strings.ToLower(domain)
	}
	return domain, true
}
