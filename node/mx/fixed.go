package mx

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// fixedUntil is how long an answer without any look-up is good for.
const fixedUntil = 24 * time.Hour

// literal is a destination that is an address (RFC 5321 4.1.3):
// "[192.0.2.1]" or "[IPv6:2001:db8::1]".
func literal(destination string, o Options) (*Answer, *message.Reply) {
	text, ok := strings.CutSuffix(destination[1:], "]")
	const tag = "ipv6:"
	v6 := len(text) > len(tag) && strings.EqualFold(text[:len(tag)], tag)
	if v6 {
		text = text[len(tag):]
	}
	a, err := netip.ParseAddr(text)
	if !ok || err != nil || a.Zone() != "" || a.Is4() == v6 {
		return nil, permanent(550, enhanced(5, 1, 2), "the destination is not a valid address literal")
	}
	a = a.Unmap()
	if !allowed(a, o) {
		return nil, permanent(550, enhanced(5, 4, 4), "the destination is not "+article(family(o))+" address")
	}
	name := "[" + a.String() + "]"
	if a.Is6() {
		name = "[IPv6:" + a.String() + "]"
	}
	return &Answer{
		Hosts: []Host{{Name: a.String(), Addrs: []netip.Addr{a}}}, Site: name, Names: []string{name},
		Until: o.now().Add(fixedUntil), Fixed: true,
	}, nil
}

func allowed(a netip.Addr, o Options) bool {
	switch o.Addresses {
	case policy.AddressesIPv4:
		return a.Is4()
	case policy.AddressesIPv6:
		return a.Is6()
	}
	return true
}

// DefaultPort is the port of route hosts that name none.
const DefaultPort = 25

// Hosts resolves the fixed hosts of a route, in their order: "name:port",
// "name", "192.0.2.1:25" or "[2001:db8::1]:25". Names are looked up by A and
// AAAA only.
//
// A route is the operator's word, so nothing here is permanent: a typing error
// in it, or a record that is not there yet, must not bounce mail.
func (r *Resolver) Hosts(ctx context.Context, hostPorts []string, o Options) (*Answer, *message.Reply) {
	now := o.now()
	a := &Answer{Until: now.Add(fixedUntil), Fixed: true}
	why := "the route names no host"
	hostPorts = hostPorts[:min(len(hostPorts), MaxHosts)]
	sites := make([]string, 0, len(hostPorts))
	for i, hp := range hostPorts {
		name, port, ok := splitHostPort(hp)
		if !ok {
			why = "the route has a host that is not name:port or address:port"
			continue
		}
		host := Host{Name: name, Port: port, Preference: uint16(i)}
		if addr, err := netip.ParseAddr(name); err == nil {
			host.Addrs = []netip.Addr{addr.Unmap()} // named by the operator, whatever the carrier's family
		} else {
			h := r.addresses(ctx, name, o, now)
			host.Addrs = h.addrs
			a.Until = earlier(a.Until, h.until)
			switch {
			case h.why != "":
				why = "look-up of the route's host " + name + " failed: " + h.why
			case len(h.addrs) == 0:
				why = "the route's host " + name + " has no " + family(o) + " address"
			}
		}
		sites = append(sites, net.JoinHostPort(name, strconv.Itoa(int(port))))
		a.Names = append(a.Names, name)
		if len(host.Addrs) > 0 {
			a.Hosts = append(a.Hosts, host)
		}
	}
	if len(a.Hosts) == 0 {
		return nil, temporary(why)
	}
	a.Site = boundSite(strings.Join(sites, ","))
	return a, nil
}

// splitHostPort reads one host of a route.
func splitHostPort(s string) (name string, port uint16, ok bool) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.String(), DefaultPort, a.Zone() == ""
	}
	name, text, err := net.SplitHostPort(s)
	if err != nil {
		name, text = s, strconv.Itoa(DefaultPort)
	}
	p, err := strconv.ParseUint(text, 10, 16)
	if err != nil || p == 0 {
		return "", 0, false
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.String(), uint16(p), a.Zone() == ""
	}
	name = plain(name)
	return name, uint16(p), hostName(name)
}
