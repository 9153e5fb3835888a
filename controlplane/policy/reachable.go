package policy

import "net/netip"

// forbidden are networks where no public host can be (IANA special purpose
// registries), and addresses at which clouds tell machines their secrets. A name
// that leads there is a mistake, or asks us to knock on our own doors: by an MX
// record, or by the URL of a webhook (server-side request forgery).
var forbidden = prefixes(
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // carrier-grade NAT; 100.100.100.200 is a cloud's metadata
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // a cloud's host agent, a public address that is none
	"169.254.0.0/16",   // link-local; 169.254.169.254 is most clouds' metadata
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // protocol assignments; 192.0.0.192 is a cloud's metadata
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // private
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast
	"::/96",            // unspecified, loopback, IPv4-compatible
	"64:ff9b:1::/48",   // local NAT64
	"100::/64",         // discard
	"2001::/32",        // Teredo
	"2001:2::/48",      // benchmarks
	"2001:db8::/32",    // documentation
	"3fff::/20",        // documentation
	"fc00::/7",         // unique local; fd00:ec2::254 is a cloud's metadata
	"fe80::/10",        // link-local
	"fec0::/10",        // site-local
	"ff00::/8",         // multicast
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var (
	global6 = netip.MustParsePrefix("2000::/3") // all that IANA gives out (RFC 4291 2.4)
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4  = netip.MustParsePrefix("2002::/16")
)

// MayReach reports whether mail or events may go to an address that somebody else
// has named: one of a public network, or of those that were allowed. What an IPv6
// address carries of IPv4 inside is judged too.
func MayReach(a netip.Addr, allow []Network) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if !a.IsValid() {
		return false
	}
	if AnyContains(allow, a) {
		return true
	}
	for _, p := range forbidden {
		if p.Contains(a) {
			return false
		}
	}
	if a.Is6() && !global6.Contains(a) && !nat64.Contains(a) {
		return false // IPv4-translated (::ffff:0:a.b.c.d) and what was never given out
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return MayReach(netip.AddrFrom4([4]byte(b[12:16])), nil)
	case sixTo4.Contains(a):
		return MayReach(netip.AddrFrom4([4]byte(b[2:6])), nil)
	}
	return true
}
