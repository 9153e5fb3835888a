package delivery

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// HostFailure is a host that did not get as far as a transaction.
type HostFailure struct {
	Host  string
	Addr  string // "192.0.2.1:25"
	Reply message.Reply
}

// connection is a greeted connection, ready for MAIL.
type connection struct {
	wire   *wire
	caps   smtp.Capabilities
	host   *Host
	to     netip.AddrPort
	tls    string
	stop   func() bool // undoes wire.stopWith
	opened time.Duration
}

func (n *connection) close() {
	n.stop()
	_ = n.wire.conn.Close()
}

// errPlainAgain asks for the same address once more without TLS.
var errPlainAgain = errors.New("TLS is broken there")

// connecting is the way of a session from host to host.
type connecting struct {
	client *Client
	target *Target
	id     uint64
	again  func() bool // whether one more connection may be made

	failures   []HostFailure // what each host tried answered
	summary    message.Reply // what that comes to
	unfinished bool          // see Ended
}

// connect tries the candidates until one is ready.
func (n *connecting) connect(ctx context.Context) *connection {
	start := time.Now()
	c, t := n.client, n.target
	list, alive, why := c.candidates(t, start)
	if why != nil {
		n.summary = *why
		return nil
	}
	times := t.Timeouts.withDefaults()
	limit := start.Add(times.Open)
	for i, cand := range list {
		if ctx.Err() != nil || !time.Now().Before(limit) {
			break
		}
		if i > 0 && !n.again() {
			n.cutShort(list[:i], i < alive)
			break
		}
		g := &greeting{client: c, target: t, cand: cand, times: times, limit: limit, id: n.id, again: n.again}
		conn, reply := g.open(ctx)
		if conn != nil {
			c.dead.forget(route{t.Source, cand.to})
			conn.opened = time.Since(start)
			return conn
		}
		if g.unfinished {
			n.cutShort(list[:i], true)
			break
		}
		c.count.connectFailed[reply.Fault].Add(1)
		c.rememberDead(t, cand, &reply)
		n.failures = append(n.failures, HostFailure{Host: cand.host.Name, Addr: cand.to.String(), Reply: reply})
		if reply.Fault == message.FaultLocal {
			break // our own trouble is the same with the next host
		}
	}
	n.summary = faultReply(errStopped, message.PhaseConnect)
	if len(n.failures) > 0 {
		n.summary = summarise(n.failures)
	}
	return nil
}

// cutShort ends the way for want of a further connection. RFC 5321 5.1 wants
// every address tried before mail waits: the next session goes on behind those
// that were tried, whatever they said, or it would begin with them again.
func (n *connecting) cutShort(tried []candidate, unfinished bool) {
	n.unfinished = unfinished
	for _, cand := range tried {
		n.client.dead.remember(route{n.target.Source, cand.to}, time.Now().Add(n.client.opt.DeadFor))
	}
}

// rememberDead keeps addresses where nobody answered in SMTP. A real reply,
// even 421, is somebody at home.
func (c *Client) rememberDead(t *Target, cand candidate, reply *message.Reply) {
	switch reply.Fault {
	case message.FaultRefused, message.FaultReset, message.FaultClosed, message.FaultTimeout, message.FaultNetwork, message.FaultProtocol:
		c.dead.remember(route{t.Source, cand.to}, time.Now().Add(c.opt.DeadFor))
	}
}

// summarise picks the failure that says most: what a host said itself before
// what we noticed, a temporary one before a permanent one, the latest of
// equals. Permanent only comes out when every host was.
func summarise(failures []HostFailure) message.Reply {
	rank := func(r *message.Reply) int {
		v := 0
		if r.Class() == message.Temporary {
			v += 2
		}
		if r.Fault == message.FaultNone {
			v++
		}
		return v
	}
	best := 0
	for i := range failures {
		if rank(&failures[i].Reply) >= rank(&failures[best].Reply) {
			best = i
		}
	}
	return failures[best].Reply
}

// dial makes the TCP connection to the greeting's candidate.
func (g *greeting) dial(ctx context.Context) error {
	if !g.target.mayUse() {
		return errStopped
	}
	wait := min(g.times.Connect, time.Until(g.limit))
	dialCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := g.client.opt.Dial(dialCtx, DialRequest{To: g.cand.to, From: g.target.Source, Allow: g.target.AllowNetworks})
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return errStopped
		case dialCtx.Err() != nil && !errors.Is(err, syscall.ECONNREFUSED):
			return context.DeadlineExceeded
		}
		return err
	}
	g.client.count.opened.Add(1)
	g.wire = newWire(g.client, g.id, g.cand.host.Name, conn, g.times)
	g.wire.limit = g.limit
	g.stop = g.wire.stopWith(ctx)
	return nil
}
