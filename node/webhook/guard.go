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
		if !policy.MayReach(a, g.allow) {
			return nil, fmt.Errorf("%s: %w", a, errForbidden)
		}
	}
	check := func(a netip.Addr) error {
		if !policy.MayReach(a, g.allow) {
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
