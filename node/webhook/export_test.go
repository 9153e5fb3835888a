package webhook

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"

	"hikyaku/controlplane/policy"
)

// SetDial replaces the network, before the first Apply.
func (h *Hooks) SetDial(d func(context.Context, netip.AddrPort, func(netip.Addr) error) (net.Conn, error)) {
	h.dial = d
}

// Allowed is the judgement over an address.
func Allowed(a netip.Addr, allow []policy.Network) bool { return allowed(a, allow) }

// HasProxy reports whether a sender would ask for a proxy.
func (h *Hooks) HasProxy() bool {
	s := newSender(h, "x", &policy.Webhook{URL: "https://hooks.test/"})
	return s.client.Transport.(*http.Transport).Proxy != nil
}

// RetryAfter reads the header's value.
func RetryAfter(v string, now time.Time) time.Duration { return retryAfter(v, now) }

// ConsumerName is a webhook's name in the log.
func ConsumerName(name string) string { return consumerName(name) }

// The times that tests check against.
const (
	OrphanGrace = orphanGrace
	OpenAfter   = openAfter
)

// Dial is the dialer that asks check about the socket's address.
func Dial(ctx context.Context, addr netip.AddrPort, check func(netip.Addr) error) (net.Conn, error) {
	return dialer(ctx, addr, check)
}
