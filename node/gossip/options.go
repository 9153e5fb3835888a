package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// Options are what Start needs. Name and Listen are required.
type Options struct {
	Name    string // of this node, unique in the cluster
	Cluster string // others than this are not heard
	Version string // of the program, for the others to see
	// Listen is "address:port" for TCP and UDP; port 0 takes a free one. Beyond
	// loopback it needs Keys.
	Listen string
	// Advertise is where others reach Listen: "host:port". Default: Listen.
	Advertise string
	// Join are the "host:port" of some members; see SetJoin.
	Join []string
	// Keys are 16, 24 or 32 bytes each, the first is used to encrypt; at most
	// two, the second while keys are changed.
	Keys [][]byte
	// Timing is LAN unless given.
	Timing Timing
	// OnWarning is called with each warning of another node, by one goroutine.
	OnWarning func(Warning)
	// Logger takes what memberlist says, too; default slog.Default().
	Logger *slog.Logger

	transport func(*memberlist.Config) (memberlist.NodeAwareTransport, error) // tests
}

// Timing is how soon things are noticed, and what that costs.
type Timing int

// Timings.
const (
	LAN   Timing = iota // nodes in one place or near to each other
	Local               // all on one machine
)

// Bounds.
const (
	// MaxMembers are known; those above are not taken in.
	MaxMembers = 4096
	// MaxKeys is one to use and one that is coming or going. Not more, also
	// because memberlist's ring moves keys under its readers when one is removed
	// that is not the last.
	MaxKeys = 2

	maxName    = 128 // bytes
	maxVersion = 64
)

// pace is what Timing means for this package.
type pace struct {
	rejoin time.Duration // between two rounds of joining
	forget time.Duration // how long a lost member is tried again
}

func (o *Options) pace() pace {
	if o.Timing == Local {
		return pace{2 * time.Second, 10 * time.Minute}
	}
	return pace{10 * time.Second, 24 * time.Hour}
}

// config checks the options and turns them into memberlist's.
func (o *Options) config(ctx context.Context) (*memberlist.Config, error) {
	if o.Name == "" || len(o.Name) > maxName || !plain(o.Name) {
		return nil, fmt.Errorf("gossip: name %.140q: want 1 to %d bytes without control characters", o.Name, maxName)
	}
	if len(o.Version) > maxVersion || len(o.Cluster) > maxName {
		return nil, fmt.Errorf("gossip: version has at most %d bytes, cluster at most %d", maxVersion, maxName)
	}
	listen, err := o.listen()
	if err != nil {
		return nil, err
	}
	c := memberlist.DefaultLANConfig()
	if o.Timing == Local {
		c = memberlist.DefaultLocalConfig()
	}
	c.Name, c.BindAddr, c.BindPort = o.Name, listen.Addr().String(), int(listen.Port())
	c.AdvertisePort = c.BindPort
	if err := o.advertise(ctx, c, listen.Addr()); err != nil {
		return nil, err
	}
	if c.Keyring, err = newRing(o.Keys); err != nil {
		return nil, err
	}
	c.Label = "hikyaku " + o.Cluster
	c.TCPTimeout = min(c.TCPTimeout, 5*time.Second)
	// A node that starts again elsewhere, or on another free port, takes its
	// name back from its dead self.
	c.DeadNodeReclaimTime = time.Second
	// What is sent is small or rare; inflating is one thing less to attack.
	c.EnableCompression = false
	return c, nil
}

// listen is the address to listen on. memberlist takes a name for "all
// addresses", so names do not get that far.
func (o *Options) listen() (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip: listen %.80q: want address:port, as in 127.0.0.1:7946: %w", o.Listen, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("gossip: listen %.80q: want an IP address and a port, as in 127.0.0.1:7946 or [::1]:7946", o.Listen)
	}
	if len(o.Keys) == 0 && !a.IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf("gossip: listen %s can be reached from the network and there is no key: give the nodes a gossip key, or listen on 127.0.0.1", o.Listen)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

func (o *Options) advertise(ctx context.Context, c *memberlist.Config, listen netip.Addr) error {
	if o.Advertise == "" {
		if listen.IsUnspecified() {
			return fmt.Errorf("gossip: listen %s says no address that others could use: advertise one", o.Listen)
		}
		c.AdvertiseAddr = listen.String()
		return nil
	}
	at, err := resolve(ctx, o.Advertise)
	if err != nil {
		return fmt.Errorf("gossip: advertise: %w", err)
	}
	if len(o.Keys) == 0 && !at[0].Addr().IsLoopback() {
		return fmt.Errorf("gossip: advertise %s is not on this machine and there is no key: give the nodes a gossip key", o.Advertise)
	}
	c.AdvertiseAddr, c.AdvertisePort = at[0].Addr().String(), int(at[0].Port())
	return nil
}

// resolve finds the addresses of "host:port".
func resolve(ctx context.Context, hostPort string) ([]netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("%.80q: want host:port: %w", hostPort, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%.80q: want a port of 1 to 65535", hostPort)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), uint16(n))}, nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %.80q: %w", host, err)
	}
	out := make([]netip.AddrPort, 0, len(found))
	for _, a := range found {
		out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(n)))
	}
	if len(out) == 0 {
		return nil, errors.New("look up " + host + ": there is no address")
	}
	return out, nil
}

// plain reports whether a text may be shown and stored.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
}
