package carriers

import (
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// listener hands out connections that know when their bytes came.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c, nil
	}
	return &conn{TCPConn: t}, nil
}

// conn bounds the time at which the next command was sent.
//
// The server below reads when it has nothing left to do, and while it holds a
// reply back. A read of the first kind begins with an empty buffer: whatever is
// handled until the next one was sent after the read before it had returned,
// and if it had to wait, just when it returned. Reads during a delay only add
// to what waits, so they move the later bound and not the earlier one.
type conn struct {
	*net.TCPConn
	mu struct {
		sync.Mutex
		since, until time.Time
		last         time.Time // when the last read returned
		held         time.Time // a reply is held back until then
	}
}

// blockedFor is how long a read takes at least that had to wait. One that
// found its bytes there takes some microseconds.
const blockedFor = 100 * time.Microsecond

// heldSlack is how much later than we think a delay may end.
const heldSlack = 5 * time.Millisecond

func (c *conn) Read(p []byte) (int, error) {
	begin := time.Now()
	n, err := c.TCPConn.Read(p)
	end := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		waited := end.Sub(begin) >= blockedFor
		c.mu.until = end.Add(-c.sinceArrival())
		if begin.After(c.mu.held) {
			c.mu.since = c.mu.until
			if !waited && !c.mu.last.IsZero() && c.mu.last.Before(c.mu.since) {
				c.mu.since = c.mu.last
			}
		}
	}
	c.mu.last = end
	return n, err
}

// sinceArrival is how long ago the kernel received the last data, to a tick of
// its clock: so it does not count against the sender how long this process
// waited for a processor. It asks the kernel once for each read.
func (c *conn) sinceArrival() time.Duration {
	info, err := c.info()
	if err != nil {
		return 0
	}
	return time.Duration(info.Last_data_recv) * time.Millisecond
}

// info asks the kernel about the connection. It never blocks.
func (c *conn) info() (info *unix.TCPInfo, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	return info, errors.Join(controlErr, err)
}

// RemoteAddr lets the session find its connection.
func (c *conn) RemoteAddr() net.Addr { return remote{c.TCPConn.RemoteAddr(), c} }

type remote struct {
	net.Addr
	conn *conn
}

// heard is when the command that is being handled was sent.
func (c *conn) heard() (since, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.since, c.mu.until
}

// hold tells that a reply is held back from now on.
func (c *conn) hold(now time.Time, d time.Duration) {
	if d <= 0 {
		return
	}
	c.mu.Lock()
	c.mu.held = now.Add(d + heldSlack)
	c.mu.Unlock()
}

// gone asks the kernel whether the peer has closed: its FIN or RST has come,
// although what was sent before it may be unread.
func (c *conn) gone() bool {
	info, err := c.info()
	const established = 1                          // TCP_ESTABLISHED of the kernel's tcp_states.h
	return err != nil || info.State != established // an error: it is closed here already
}

// silence is an address that answers no SYN: its queue of connections is full
// and nobody takes any out.
type silence struct {
	fd    int
	fills []net.Conn
}

// startSilence occupies an address. What fills the queue are connections of
// our own; the kernel takes one more than the backlog of 0 says.
func startSilence(addr *net.TCPAddr) (*silence, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &silence{fd: fd}
	sa := &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
	// Without it, connections of an earlier run in TIME_WAIT would hold the port.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	for range 4 {
		if err != nil {
			break
		}
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", addr.String(), 100*time.Millisecond); err == nil {
			s.fills = append(s.fills, c)
		}
	}
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return s, nil // full: it is silent now
	case err == nil:
		err = errors.New("the kernel takes every connection")
	}
	return nil, errors.Join(err, s.Close())
}

func (s *silence) Close() error {
	for _, c := range s.fills {
		c.Close()
	}
	return unix.Close(s.fd)
}
