package delivery

import (
	"cmp"
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"hikyaku/controlplane/policy"
)

// Host is one host that may take the mail, with its resolved addresses.
type Host struct {
	Name       string // name as in the MX record, lower case; verified against certificates
	Preference uint16 // lower first; equals are tried in random order (RFC 5321 5.1)
	Port       uint16 // 0: the target's
	Addrs      []netip.Addr
}

// TLSMode is how much TLS a session needs.
type TLSMode uint8

// The TLS modes.
const (
	TLSOpportunistic TLSMode = iota // where offered and working, any certificate
	TLSNone                         // never
	TLSRequired                     // any certificate
	TLSVerified                     // a certificate that names the host
	TLSImplicit                     // from the first byte, verified
)

var tlsModes = map[string]TLSMode{
	"": TLSOpportunistic, "opportunistic": TLSOpportunistic, "none": TLSNone,
	"required": TLSRequired, "verified": TLSVerified, "implicit": TLSImplicit,
}

// ParseTLSMode reads the word of a Carrier's or Route's tls field; "" is
// opportunistic.
func ParseTLSMode(s string) (TLSMode, bool) {
	m, ok := tlsModes[s]
	return m, ok
}

// Target is what one session connects to, and how. The node fills it in from
// DNS or a route, from the carrier and from the source.
type Target struct {
	Hosts     []Host
	Port      uint16 // 0 is 25
	Addresses string // policy.Carrier.Addresses: any, prefer-ipv4, ipv4, ipv6

	TLS     TLSMode
	RootCAs *x509.CertPool // nil is the system's

	// AllowNetworks are networks that are else forbidden: private, loopback …
	AllowNetworks []policy.Network

	Username      string
	Password      policy.Secret
	AuthPlaintext bool

	Source netip.Addr // address to send from; the zero value leaves it to the system
	Fence  Fence      // whether the source may be used at this moment; nil is always
	EHLO   string     // our name

	MessagesPerConnection   int           // 0 is policy.DefaultMessagesPerConnection
	RecipientsPerConnection int           // 0 is no bound
	IdleTimeout             time.Duration // 0 is policy.DefaultIdleTimeout

	// OddAsGiven sends recipients' local parts that RFC 5321 does not allow unquoted
	// (smtp.OddLocal) as they came; else they go in quotes.
	OddAsGiven bool

	NoPipelining bool // for peers that announce PIPELINING but cannot do it
	NoChunking   bool // the same for CHUNKING

	Timeouts *Timeouts // nil is the defaults
}

// Fence is the right to use a source, which may end at any moment and never
// comes back. A session asks it right before each connection and each write
// with a MAIL command in it.
type Fence interface {
	// MayUse reports whether the source may be used at now. Both calls must be
	// quick.
	MayUse(now time.Time) bool
	// Stopped ends when somebody has noticed that the right has ended, which is
	// no earlier than MayUse says so.
	Stopped() context.Context
}

// mayUse reports whether the target's source may be used now.
func (t *Target) mayUse() bool { return t.Fence == nil || t.Fence.MayUse(time.Now()) }

// Timeouts are the longest waits of a session. Zero fields are the defaults,
// those of RFC 5321 4.5.3.2 where it names one.
type Timeouts struct {
	Connect   time.Duration // one TCP connection; 30s
	Open      time.Duration // all of connecting and greeting, over all hosts; 6m
	Banner    time.Duration // 4.5.3.2.1: 5m
	EHLO      time.Duration // 5m
	StartTLS  time.Duration // 1m
	Handshake time.Duration // 30s
	Auth      time.Duration // 1m
	Mail      time.Duration // 4.5.3.2.2: 5m
	Rcpt      time.Duration // 4.5.3.2.3: 5m
	Data      time.Duration // 4.5.3.2.4: 2m
	Block     time.Duration // 4.5.3.2.5: 3m for each write of at most 32 KiB
	Dot       time.Duration // 4.5.3.2.6: 10m
	Reset     time.Duration // 1m
	Quit      time.Duration // 5s
	Closing   time.Duration // for what a peer may still say after 421; 10s
	Attempt   time.Duration // one transaction in all; 30m
}

// withDefaults is t with its zero fields filled in.
func (t *Timeouts) withDefaults() Timeouts {
	var v Timeouts
	if t != nil {
		v = *t
	}
	return Timeouts{
		Connect:   cmp.Or(v.Connect, 30*time.Second),
		Open:      cmp.Or(v.Open, 6*time.Minute),
		Banner:    cmp.Or(v.Banner, 5*time.Minute),
		EHLO:      cmp.Or(v.EHLO, 5*time.Minute),
		StartTLS:  cmp.Or(v.StartTLS, time.Minute),
		Handshake: cmp.Or(v.Handshake, 30*time.Second),
		Auth:      cmp.Or(v.Auth, time.Minute),
		Mail:      cmp.Or(v.Mail, 5*time.Minute),
		Rcpt:      cmp.Or(v.Rcpt, 5*time.Minute),
		Data:      cmp.Or(v.Data, 2*time.Minute),
		Block:     cmp.Or(v.Block, 3*time.Minute),
		Dot:       cmp.Or(v.Dot, 10*time.Minute),
		Reset:     cmp.Or(v.Reset, time.Minute),
		Quit:      cmp.Or(v.Quit, 5*time.Second),
		Closing:   cmp.Or(v.Closing, 10*time.Second),
		Attempt:   cmp.Or(v.Attempt, 30*time.Minute),
	}
}

func (t *Target) port(h *Host) uint16 { return cmp.Or(h.Port, t.Port, 25) }
