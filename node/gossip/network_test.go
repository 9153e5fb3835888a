package gossip_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"hikyaku/node/gossip"
)

// fabric is a network in this process, which can be cut. It works in virtual
// time.
type fabric struct {
	mu    sync.Mutex
	ports map[string]*port
	cut   func(from, to string) bool // by node name
}

// port is one node's plug: memberlist's transport.
type port struct {
	f       *fabric
	name    string
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	off     chan struct{}
}

// newFabric also sees to it that what memberlist still waits for when it has
// been shut down comes to its end before virtual time stops.
func newFabric(t testing.TB) *fabric {
	t.Cleanup(func() { pass(time.Minute) })
	return &fabric{ports: map[string]*port{}}
}

func (f *fabric) setCut(cut func(from, to string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = cut
}

func (f *fabric) plug(name string) func(*memberlist.Config) (memberlist.NodeAwareTransport, error) {
	return func(c *memberlist.Config) (memberlist.NodeAwareTransport, error) {
		p := &port{f, name, netip.AddrPortFrom(netip.MustParseAddr(c.BindAddr), uint16(c.BindPort)),
			make(chan *memberlist.Packet, 1000), make(chan net.Conn, 100), make(chan struct{})}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ports[p.addr.String()] = p
		return p, nil
	}
}

// to finds the way to an address; nil when there is none.
func (p *port) to(addr string) *port {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	q := p.f.ports[addr]
	if q == nil || p.f.cut != nil && p.f.cut(p.name, q.name) {
		return nil
	}
	return q
}

func (p *port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

func (p *port) WriteTo(b []byte, addr string) (time.Time, error) {
	q := p.to(addr)
	if q == nil {
		return time.Now(), nil // lost
	}
	select {
	case q.packets <- &memberlist.Packet{Buf: slices.Clone(b), From: net.UDPAddrFromAddrPort(p.addr), Timestamp: time.Now()}:
	default:
	}
	return time.Now(), nil
}

func (p *port) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	q := p.to(addr)
	if q == nil {
		pass(timeout)
		return nil, errors.New("no route to host")
	}
	here, there := net.Pipe()
	select {
	case q.streams <- there:
		return here, nil
	case <-q.off:
		return nil, errors.New("connection refused")
	}
}

func (p *port) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return p.WriteTo(b, a.Addr)
}

func (p *port) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return p.DialTimeout(a.Addr, timeout)
}
func (p *port) PacketCh() <-chan *memberlist.Packet { return p.packets }
func (p *port) StreamCh() <-chan net.Conn           { return p.streams }

func (p *port) Shutdown() error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if p.f.ports[p.addr.String()] == p {
		delete(p.f.ports, p.addr.String())
	}
	close(p.off)
	return nil
}

var quiet = slog.New(slog.DiscardHandler)

func key(b byte) []byte { return slices.Repeat([]byte{b}, 32) }

// nth is the options of the nth node of a cluster whose members know the first.
func (f *fabric) nth(n int) gossip.Options {
	o := gossip.Options{
		Name: fmt.Sprintf("n%d", n), Cluster: "c", Version: fmt.Sprintf("1.0.%d", n),
		Listen: fmt.Sprintf("10.0.0.%d:7946", n), Join: []string{"10.0.0.1:7946"}, Keys: [][]byte{key(1)}, Logger: quiet,
	}
	o.SetTransport(f.plug(o.Name))
	return o
}

func start(t testing.TB, o gossip.Options) *gossip.Gossip {
	t.Helper()
	g, err := gossip.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// cluster starts n nodes and waits until each sees all.
func (f *fabric) cluster(t testing.TB, n int) []*gossip.Gossip {
	t.Helper()
	var gs []*gossip.Gossip
	for i := range n {
		gs = append(gs, start(t, f.nth(i+1)))
	}
	within(t, 2*time.Minute, "all see all", func() bool { return allSee(gs, n) })
	return gs
}

func allSee(gs []*gossip.Gossip, n int) bool {
	return !slices.ContainsFunc(gs, func(g *gossip.Gossip) bool { return len(g.Members()) != n })
}

// pass lets virtual time pass. All who call it are in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

// within waits in virtual time, and says how long it took.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
		pass(10 * time.Millisecond)
	}
	return time.Since(began)
}
