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
func Allowed(a netip.Addr, allow []policy.Network) bool { return policy.MayReach(a, allow) }

// HasProxy reports whether a sender would ask for a proxy.
func (h *Hooks) HasProxy() bool {
	s := newSender(h, "x", &policy.Webhook{URL: "https://hooks.test/"})
	return s.client.Transport.(*http.Transport).Proxy != nil
}

// RetryAfter reads the header's value.
func RetryAfter(v string, now time.Time) time.Duration { return retryAfter(v, now) }

// The times that tests check against.
const (
	OrphanGrace = orphanGrace
	OpenAfter   = openAfter
)

// Dial is the dialer that asks check about the socket's address.
func Dial(ctx context.Context, addr netip.AddrPort, check func(netip.Addr) error) (net.Conn, error) {
	return dialer(ctx, addr, check)
}

// Body is one block of the log as a webhook of the tenant posts it.
func Body(tenant string, lines []byte) ([]byte, int) {
	p := newPage(Place{}, Block{Lines: lines, First: 7, Last: 7})
	b, f := &batch{}, newFilter(&policy.Webhook{Tenant: tenant})
	for _, n := range p.candidates(f) {
		if f.wants(&p.lines[n]) && p.valid(n) {
			b.add(p, n)
		}
	}
	out := envelope(b.id("h", "ab12"), "h", "n1")
	for i, x := range b.parts {
		for k, n := range x.lines {
			if i+k > 0 {
				out = append(out, ',')
			}
			out = appendEvent(out, "ab12", mark{p.First, int(n)}, p.text(n))
		}
	}
	return append(out, "\n]}\n"...), b.events
}

// The bounds that tests check against.
const (
	MaxBody    = maxBody
	MaxHints   = maxHints
	QuickLanes = quickLanes
	SlowLanes  = slowLanes
	WarmConns  = warmConns
	BookName   = bookName
)
