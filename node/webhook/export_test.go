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

// Body is one block of the log as a webhook of the tenant posts it.
func Body(tenant string, lines []byte) ([]byte, int) {
	r := feed{reader: &oneBlock{lines}}
	b, f := &batch{store: "ab12"}, newFilter(&policy.Webhook{Tenant: tenant})
	for {
		line, at, err := r.next(context.Background())
		if err != nil {
			break
		}
		if want, err := f.wants(line); want && err == nil {
			b.add(at, line)
		}
	}
	b.seal("h", "n1")
	return b.body, b.events
}

// oneBlock is a log with a single block.
type oneBlock struct{ lines []byte }

func (o *oneBlock) Next(context.Context) (Block, error) {
	if o.lines == nil {
		return Block{}, context.Canceled
	}
	b := Block{Lines: o.lines, First: 7, Last: 7}
	o.lines = nil
	return b, nil
}

func (*oneBlock) Close() {}
