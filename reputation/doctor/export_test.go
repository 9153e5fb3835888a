package doctor

import (
	"context"
	"net/netip"
)

// Expand is the macros of RFC 7208 7.
func Expand(l Lookup, spec, domain, sender, helo string, ip netip.Addr) (string, string) {
	local, senderDomain, _ := cutAddress(sender)
	e := &spfEval{ctx: context.Background(), l: l, ip: ip, local: local, senderDomain: senderDomain, helo: helo}
	name, bad := e.expand(spec, domain)
	if bad != "" {
		return bad, e.why
	}
	return name, ""
}

// Organizational is a domain's organizational domain.
func Organizational(ctx context.Context, l Lookup, domain string) (string, error) {
	steps, _, err := walk(ctx, l, domain)
	return organizational(domain, steps), err
}

// PolicyOf is where the policy of a domain stands, and what it is.
func PolicyOf(ctx context.Context, l Lookup, domain string) (string, string, error) {
	steps, _, err := walk(ctx, l, domain)
	s, p := policyOf(domain, steps)
	if s == nil {
		return "", p, err
	}
	return s.domain, p, err
}

// Generic finds an address in a name.
func Generic(name string, a netip.Addr) bool { return generic(name, a) }
