package doctor

import (
	"context"
	"crypto/rsa"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Status is what a check came to.
type Status string

// The statuses.
const (
	Pass    Status = "pass"
	Fail    Status = "fail"    // receivers refuse mail for this, or will
	Warn    Status = "warn"    // works, but should be changed
	Hint    Status = "hint"    // nothing that sending needs
	Unknown Status = "unknown" // could not be found out
)

// The checks.
const (
	CheckNameSPF       = "spf"
	CheckNameDKIM      = "dkim"
	CheckNameDMARC     = "dmarc"
	CheckNameAlignment = "alignment"
	CheckNamePTR       = "ptr"
	CheckNameEHLO      = "ehlo"
	CheckNameMX        = "mx"
	CheckNameTLS       = "tls"
	CheckNameMTASTS    = "mta-sts"
	CheckNameTLSRPT    = "tls-rpt"
	CheckNameOneClick  = "one-click"
	CheckNameUnsub     = "unsubscribe"
	CheckNameFormat    = "format"
)

// Subject is who is looked at.
type Subject struct {
	Domain     string // of the From header, lower case, A-label form
	ReturnPath string // domain of the envelope sender; "" is Domain
	Keys       []Key  // that sign for Domain
	Sources    []Source
	// PolicyKnown says that Keys, Sources and PlainCarriers are all there are.
	PolicyKnown bool
	// PlainCarriers are those to which policy sends without TLS.
	PlainCarriers []string
	Message       *Message // nil: none was given
}

// Key signs mail.
type Key struct {
	Domain, Selector string
	Public           any // *rsa.PublicKey or ed25519.PublicKey; nil: not known
}

// Source is an address that mail leaves from.
type Source struct {
	Name string
	Addr netip.Addr // the zero Addr: each node's own, not known here
	EHLO string     // "": the node's host name
}

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name"`
	About   string  `json:"about"` // a domain, an address, a key
	Status  Status  `json:"status"`
	Text    string  `json:"text"`
	Publish *Record `json:"publish,omitempty"`
}

// Report is everything that was found.
type Report struct {
	Domain     string  `json:"domain"`
	ReturnPath string  `json:"return_path"`
	Checks     []Check `json:"checks"`
	Rules      []Rule  `json:"rules"`
	// Publish are the records that would change a failure or a warning.
	Publish []Record `json:"publish"`
	Failed  bool     `json:"failed"`
}

// exam is a report that is being made.
type exam struct {
	ctx context.Context
	l   Lookup
	s   *Subject
	Report
}

func (x *exam) add(name, about string, status Status, format string, args ...any) *Check {
	x.Checks = append(x.Checks, Check{Name: name, About: about, Status: status, Text: fmt.Sprintf(format, args...)})
	return &x.Checks[len(x.Checks)-1]
}

// Examine makes all checks.
func Examine(ctx context.Context, l Lookup, s Subject) *Report {
	if s.ReturnPath == "" {
		s.ReturnPath = s.Domain
	}
	x := &exam{ctx: ctx, l: l, s: &s}
	x.Report = Report{Domain: s.Domain, ReturnPath: s.ReturnPath, Publish: []Record{}}
	x.spf()
	signs := x.keys()
	x.dmarc(signs)
	x.sources()
	x.mx(s.Domain, "From")
	if s.ReturnPath != s.Domain {
		x.mx(s.ReturnPath, "return path")
	}
	x.tls()
	x.hints()
	x.message()
	x.Rules = judge(x.Checks)
	for i := range x.Checks {
		c := &x.Checks[i]
		x.Failed = x.Failed || c.Status == Fail
		if c.Publish != nil && (c.Status == Fail || c.Status == Warn) && !slices.Contains(x.Publish, *c.Publish) {
			x.Publish = append(x.Publish, *c.Publish)
		}
	}
	return &x.Report
}

// keys compares what is published with what signs. It returns the domains that a
// good key signs for.
func (x *exam) keys() []string {
	if len(x.s.Keys) == 0 {
		if x.s.PolicyKnown {
			x.add(CheckNameDKIM, x.s.Domain, Fail, `no SigningKey signs for this domain; "hikyaku dkim keygen" makes one`)
		} else {
			x.add(CheckNameDKIM, x.s.Domain, Unknown, "which key signs is not known; give --selector, or ask a running node")
		}
		return nil
	}
	var good []string
	byRSA := false
	for i := range x.s.Keys {
		k := &x.s.Keys[i]
		c, r := x.key(k)
		if c.Status != Fail && c.Status != Unknown {
			good = append(good, k.Domain)
			byRSA = byRSA || r.Kind == "rsa"
		}
		if (c.Status == Fail || c.Status == Warn) && !oddKey(k.Public) {
			c.Publish = keyRecord(k)
		}
	}
	if len(good) > 0 && !byRSA {
		// Gmail, Yahoo and Microsoft: https://www.uriports.com/blog/dkim-ed25519-adoption/
		x.add(CheckNameDKIM, x.s.Domain, Warn, "only Ed25519 signs: Gmail, Yahoo and Microsoft do not verify Ed25519; sign with an RSA key beside it")
	}
	return good
}

// oddKey reports whether a key has a length that receivers need not take (RFC 8301
// 3.2): to publish it would not help, another has to be made.
func oddKey(public any) bool {
	k, ok := public.(*rsa.PublicKey)
	return ok && (k.N.BitLen() < 1024 || k.N.BitLen() > 4096)
}

// key looks at one key. The record is nil where it could not be read.
func (x *exam) key(k *Key) (*Check, *KeyRecord) {
	name := k.Selector + "._domainkey." + k.Domain
	add := func(s Status, format string, args ...any) *Check {
		return x.add(CheckNameDKIM, name, s, format, args...)
	}
	texts, err := x.l.TXT(x.ctx, name)
	switch {
	case err != nil:
		return add(Unknown, "%v", err), nil
	case len(texts) == 0:
		return add(Fail, "the key is not published"), nil
	case len(texts) > 1:
		return add(Fail, "there are %d TXT records; receivers take any of them, or none", len(texts)), nil
	}
	r, err := ParseKeyRecord(texts[0])
	switch {
	case err != nil:
		return add(Fail, "the record is not valid: %v", err), nil
	case r.Key == nil:
		return add(Fail, "the key is revoked (empty p=)"), r
	case k.Public != nil && !same(r.Key, k.Public):
		return add(Fail, "another key is published than the one that signs"), r
	case r.Kind == "rsa" && r.Bits < 1024:
		return add(Fail, "RSA of %d bits: receivers ignore less than 1024 (RFC 8301 3.2); make a new key", r.Bits), r
	}
	what := "Ed25519"
	if r.Kind == "rsa" {
		what = fmt.Sprintf("RSA of %d bits", r.Bits)
	}
	if k.Public != nil {
		what += ", the key that signs"
	}
	switch {
	case oddKey(r.Key):
		return add(Warn, "%s: verifiers need not take more than 4096 (RFC 8301 3.2); make a new key", what), r
	case r.Testing:
		return add(Warn, "%s, but with t=y: receivers may treat the mail as not signed", what), r
	case r.Kind == "rsa" && r.Bits < 2048:
		return add(Hint, "%s: 2048 should be used (RFC 8301 3.2); make a new key", what), r
	}
	return add(Pass, "%s", what), r
}

// tls looks at what policy says: each carrier is offered TLS unless told not to.
func (x *exam) tls() {
	switch {
	case len(x.s.PlainCarriers) > 0:
		x.add(CheckNameTLS, strings.Join(x.s.PlainCarriers, ", "), Fail, "policy sends without TLS (tls: none); Gmail refuses such mail with 5.7.29")
	case x.s.PolicyKnown:
		x.add(CheckNameTLS, "policy", Pass, "TLS is used wherever it is offered")
	default:
		x.add(CheckNameTLS, "policy", Unknown, "what policy says is not known; ask a running node")
	}
}

// hints are about mail to the domain, bounces among it.
func (x *exam) hints() {
	for _, h := range []struct{ name, at, version, what string }{
		{CheckNameMTASTS, "_mta-sts." + x.s.ReturnPath, "v=STSv1", "MTA-STS: bounces to this domain can be read on their way"},
		{CheckNameTLSRPT, "_smtp._tls." + x.s.ReturnPath, "v=TLSRPTv1", "TLS reporting: nobody tells when mail to this domain cannot be encrypted"},
	} {
		texts, err := x.l.TXT(x.ctx, h.at)
		switch {
		case err != nil:
			x.add(h.name, h.at, Unknown, "%v", err)
		case slices.ContainsFunc(texts, func(t string) bool { return strings.HasPrefix(t, h.version) }):
			x.add(h.name, h.at, Pass, "published")
		default:
			x.add(h.name, h.at, Hint, "no %s", h.what)
		}
	}
}
