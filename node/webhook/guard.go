package webhook

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"hikyaku/controlplane/policy"
)

// forbidden are networks where no public endpoint can be (IANA special purpose
// registries), and addresses at which clouds tell machines their secrets. A
// tenant's URL that leads there asks us to knock on our own doors.
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
	nat64  = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4 = netip.MustParsePrefix("2002::/16")
)

// allowed reports whether a webhook may be posted to an address. What an IPv6
// address carries of IPv4 inside is judged too.
func allowed(a netip.Addr, allow []policy.Network) bool {
	if a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if !a.IsValid() {
		return false
	}
	if policy.AnyContains(allow, a) {
		return true
	}
	for _, p := range forbidden {
		if p.Contains(a) {
			return false
		}
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return allowed(netip.AddrFrom4([4]byte(b[12:16])), nil)
	case sixTo4.Contains(a):
		return allowed(netip.AddrFrom4([4]byte(b[2:6])), nil)
	}
	return true
}

// errForbidden is what a URL leads to that it must not.
var errForbidden = errors.New("address is private, local or reserved; allow_networks can allow it")

// dialFunc connects to an address; check is asked about the address of the
// socket before it connects.
type dialFunc func(ctx context.Context, addr netip.AddrPort, check func(netip.Addr) error) (net.Conn, error)

const dialTime = 10 * time.Second

func dialer(ctx context.Context, addr netip.AddrPort, check func(netip.Addr) error) (net.Conn, error) {
	d := net.Dialer{
		Timeout: dialTime,
		Control: func(_, address string, _ syscall.RawConn) error {
			peer, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("address of the socket: %w", err)
			}
			return check(peer.Addr())
		},
	}
	return d.DialContext(ctx, "tcp", addr.String())
}

// guard connects for one webhook.
type guard struct {
	lookup func(context.Context, string) ([]netip.Addr, error)
	dial   dialFunc
	allow  []policy.Network
}

const maxAddrs = 16 // of a name that are tried

// dialContext is http.Transport's. A name with one forbidden address is refused
// whole: who puts one of ours beside one of theirs means no good.
func (g *guard) dialContext(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("address of the endpoint: %w", err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return nil, fmt.Errorf("port %.20q of the endpoint is none", port)
	}
	addrs, err := g.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if !allowed(a, g.allow) {
			return nil, fmt.Errorf("%s: %w", a, errForbidden)
		}
	}
	check := func(a netip.Addr) error {
		if !allowed(a, g.allow) {
			return fmt.Errorf("%s: %w", a, errForbidden)
		}
		return nil
	}
	var all error
	for _, a := range addrs[:min(len(addrs), maxAddrs)] {
		conn, err := g.dial(ctx, netip.AddrPortFrom(a, uint16(p)), check)
		if err == nil {
			return conn, nil
		}
		all = errors.Join(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, all
}

func (g *guard) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := g.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up the endpoint: %w", err)
	}
	if len(addrs) == 0 {
		return nil, errors.New("look up the endpoint: it has no address")
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// endpoint is a URL as it may be shown.
func endpoint(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
