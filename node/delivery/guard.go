package delivery

import (
	"net/netip"

	"hikyaku/controlplane/policy"
)

// forbidden are networks where no public mail host can be (IANA special
// purpose registries). A name in DNS that leads there is a mistake or an
// attack on what listens inside (design.md 5, safety: server-side request
// forgery by MX record).
var forbidden = prefixes(
	"0.0.0.0/8",       // this network
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // carrier-grade NAT
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, broadcast
	"::/96",           // unspecified, loopback, IPv4-compatible
	"64:ff9b:1::/48",  // local NAT64
	"100::/64",        // discard
	"2001::/32",       // Teredo
	"2001:2::/48",     // benchmarks
	"2001:db8::/32",   // documentation
	"3fff::/20",       // documentation
	"fc00::/7",        // unique local
	"fe80::/10",       // link-local
	"fec0::/10",       // site-local
	"ff00::/8",        // multicast
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

// allowedAddr reports whether a session may connect to a. What an IPv6 address
// carries of IPv4 inside is judged too.
func allowedAddr(a netip.Addr, allow []policy.Network) bool {
	a = a.Unmap()
	if !a.IsValid() {
		return false
	}
	if policy.AnyContains(allow, a) {
		return true
	}
	if a.Zone() != "" {
		return false
	}
	for _, p := range forbidden {
		if p.Contains(a) {
			return false
		}
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return allowedAddr(netip.AddrFrom4([4]byte(b[12:16])), nil)
	case sixTo4.Contains(a):
		return allowedAddr(netip.AddrFrom4([4]byte(b[2:6])), nil)
	}
	return true
}

// allowed adds our own listeners to allowedAddr: mail must not go round in
// circles.
func (c *Client) allowed(to netip.AddrPort, allow []policy.Network) bool {
	if !allowedAddr(to.Addr(), allow) {
		return false
	}
	if policy.AnyContains(allow, to.Addr()) {
		return true
	}
	for _, own := range c.opt.Own {
		if own.Port() == to.Port() && own.Addr().Unmap() == to.Addr().Unmap() {
			return false
		}
	}
	return true
}
