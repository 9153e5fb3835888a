package delivery

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"hikyaku/controlplane/policy"
)

// Options make a Client. All fields may be zero.
type Options struct {
	// Own are the addresses that this node listens on, one for each address of
	// a wildcard listener. Sessions do not connect there unless the target's
	// AllowNetworks holds the address.
	Own []netip.AddrPort
	// DeadFor is how long an address that took no connection is tried last.
	// Default 10m.
	DeadFor time.Duration
	// BrokenTLSFor is how long an address whose STARTTLS failed is spoken to in
	// plain where TLS is opportunistic. Default and bound 72h.
	BrokenTLSFor time.Duration
	// Dial makes connections. Default TCP.
	Dial func(context.Context, DialRequest) (net.Conn, error)
	// Shuffle orders hosts of equal preference. Default math/rand/v2.Shuffle.
	Shuffle func(n int, swap func(i, j int))
}

// DialRequest is one connection to make.
type DialRequest struct {
	To    netip.AddrPort
	From  netip.Addr // the zero value leaves it to the system
	Allow []policy.Network
}

// Bounds of what a Client does and remembers.
const (
	maxBrokenTLSFor = 72 * time.Hour
	memorySize      = 16384
	maxConnects     = 8 // for one session; other addresses are for the next one
)

// Client is what the sessions of a node share. Safe for concurrent use.
type Client struct {
	opt       Options
	dead      *memory[route]
	brokenTLS *memory[netip.AddrPort]
	trace     atomic.Pointer[Trace]
	lastID    atomic.Uint64
	count     counters
}

// route is a way to an address: a carrier may refuse one source and take
// another.
type route struct {
	from netip.Addr
	to   netip.AddrPort
}

// New makes a Client.
func New(opt Options) *Client {
	if opt.DeadFor <= 0 {
		opt.DeadFor = 10 * time.Minute
	}
	if opt.BrokenTLSFor <= 0 || opt.BrokenTLSFor > maxBrokenTLSFor {
		opt.BrokenTLSFor = maxBrokenTLSFor
	}
	if opt.Shuffle == nil {
		opt.Shuffle = rand.Shuffle
	}
	c := &Client{opt: opt, dead: newMemory[route](memorySize), brokenTLS: newMemory[netip.AddrPort](memorySize)}
	if opt.Dial == nil {
		c.opt.Dial = c.dialTCP
	}
	return c
}

// dialTCP connects to a literal address. The control hook sees the address
// that the kernel is about to use, so nothing between here and there can have
// changed it.
func (c *Client) dialTCP(ctx context.Context, r DialRequest) (net.Conn, error) {
	d := net.Dialer{
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !c.allowed(to, r.Allow) {
				return errForbidden
			}
			return nil
		},
	}
	if r.From.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: r.From.AsSlice(), Zone: r.From.Zone()}
	}
	return d.DialContext(ctx, "tcp", r.To.String())
}
