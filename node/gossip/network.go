package gossip

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// network is memberlist's own transport, but for dialling: who closes does not
// wait for a peer that does not answer.
type network struct {
	*memberlist.NetTransport
	ctx context.Context // the owner's: ends with Gossip
}

// listen opens the sockets. With port 0 it takes a free one, for which UDP may
// be in somebody else's hands: so it tries again.
func listen(ctx context.Context, c *memberlist.Config) (memberlist.NodeAwareTransport, error) {
	nc := &memberlist.NetTransportConfig{BindAddrs: []string{c.BindAddr}, BindPort: c.BindPort, Logger: c.Logger}
	t, err := memberlist.NewNetTransport(nc)
	for range 10 {
		if err == nil || c.BindPort != 0 {
			break
		}
		t, err = memberlist.NewNetTransport(nc)
	}
	if err != nil {
		return nil, err
	}
	if c.BindPort == 0 {
		c.BindPort = t.GetAutoBindPort()
	}
	if c.AdvertisePort == 0 {
		c.AdvertisePort = c.BindPort
	}
	return &network{t, ctx}, nil
}

// DialTimeout is DialAddressTimeout for a peer without a name.
func (n *network) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return n.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout connects; the connection ends with the owner.
func (n *network) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(n.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return &dialled{c, context.AfterFunc(n.ctx, func() { _ = c.Close() })}, nil
}

type dialled struct {
	net.Conn
	release func() bool
}

func (d *dialled) Close() error {
	d.release()
	return d.Conn.Close()
}
