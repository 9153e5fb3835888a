package feedback

import (
	"net"
	"sync"
)

// MaxConnections bounds the connections of the one-click listener. What is said on
// one fits in a packet or two.
const MaxConnections = 1000

// Bounded is a listener that has at most so many connections open. Those beyond
// wait in the system's queue.
func Bounded(l net.Listener, most int) net.Listener {
	return &boundedListener{Listener: l, places: make(chan struct{}, most), done: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	places chan struct{}
	done   chan struct{} // closed with the listener
	once   sync.Once
}

// Accept waits for a place first.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

// Close ends a wait for a place too.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
