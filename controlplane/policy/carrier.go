package policy

import (
	"net/netip"
	"slices"
	"strings"
)

// CarrierOf names the carrier of a site: by recipient domain, else by the MX
// host names, all of which must match, else, where no name matches, by the hosts'
// addresses as far as they are known, all of which must match, else "default".
// Names may be in any case and with a dot at the end: those who got them from a
// person or from DNS have them so.
func (s *Set) CarrierOf(domain string, mx []string, addrs ...netip.Addr) string {
	if name := lookup(plainName(domain), s.index.carrierExact, s.index.carrierSuffix); name != "" {
		return name
	}
	found, all := agree(mx, s.carrierOfHost)
	switch {
	case found != "" && all:
		return found
	case found == "" && len(s.index.carrierNets.owners) > 0:
		if found, all = agree(addrs, s.index.carrierNets.owner); found != "" && all {
			return found
		}
	}
	return DefaultName
}

// agree is the first owner found of things, and whether it owns all of them.
func agree[T any](things []T, ownerOf func(T) string) (found string, all bool) {
	all = true
	for _, thing := range things {
		name := ownerOf(thing)
		if found == "" {
			found = name
		}
		all = all && name != "" && name == found
	}
	return found, all
}

// carrierOfHost finds the longest suffix, the name itself being the longest.
func (s *Set) carrierOfHost(host string) string {
	for rest := plainName(host); rest != ""; {
		if name, ok := s.index.carrierMX["."+rest]; ok {
			return name
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	return ""
}

// plainName allocates nothing where the name is plain.
func plainName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// networks finds the smallest network that holds an address.
type networks struct {
	owners map[netip.Prefix]string
	bits   []int // lengths in use, longest first
}

func (n *networks) add(p netip.Prefix, owner string) {
	if n.owners == nil {
		n.owners = map[netip.Prefix]string{}
	}
	n.owners[p] = owner
	if at, found := slices.BinarySearchFunc(n.bits, p.Bits(), func(a, b int) int { return b - a }); !found {
		n.bits = slices.Insert(n.bits, at, p.Bits())
	}
}

func (n *networks) owner(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	for _, bits := range n.bits {
		p, err := a.Prefix(bits)
		if err != nil {
			continue // longer than an IPv4 address
		}
		if owner, ok := n.owners[p]; ok {
			return owner
		}
	}
	return ""
}

// CarrierFor is CarrierOf with a route's own word for it, and the settings. A
// carrier that is left out (Disabled) counts as the default one.
func (s *Set) CarrierFor(route *Route, domain string, mx []string, addrs ...netip.Addr) (*Carrier, string) {
	name := ""
	if route != nil {
		name = route.Carrier
	}
	if c := s.Carriers[name]; c != nil && c.Disabled {
		name = DefaultName
	}
	if name == "" {
		name = s.CarrierOf(domain, mx, addrs...)
	}
	return s.Carriers[name], name
}

// OddLocalPartsAt says whether, and how, a domain's recipients may have local
// parts that RFC 5321 does not allow unquoted: one of the words of
// Carrier.OddLocalParts. Only what is known of the domain without DNS counts, so
// that a client is told at once, and always the same.
func (s *Set) OddLocalPartsAt(domain string) string {
	route, _ := s.RouteOf(domain)
	if c, _ := s.CarrierFor(route, domain, nil); c != nil {
		return c.OddLocalParts
	}
	return OddRefuse
}
