package fault

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Weather is what a Proxy does to the bytes on their way. The zero value passes
// them on.
type Weather struct {
	// Up and Down delay what goes to the server and to the client.
	Up, Down time.Duration
	// Cut lets nothing through: connections stay, new ones are taken and hang,
	// as behind a cable that was pulled.
	Cut bool
	// Refuse closes what is open and takes nothing new.
	Refuse bool
}

// Proxy is a stretch of network between a client and a server.
type Proxy struct {
	target  string
	l       net.Listener
	weather atomic.Pointer[Weather]
	served  sync.WaitGroup
	mu      struct {
		sync.Mutex
		closed  bool
		conns   map[net.Conn]bool
		changed chan struct{} // closed and replaced with each change of weather
	}
}

// NewProxy listens on a free loopback port and passes connections on to target.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{target: target, l: l}
	p.weather.Store(&Weather{})
	p.mu.conns, p.mu.changed = map[net.Conn]bool{}, make(chan struct{})
	p.served.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Set changes the weather for all connections.
func (p *Proxy) Set(w Weather) {
	p.weather.Store(&w)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
	if w.Refuse {
		for c := range p.mu.conns {
			_ = c.Close()
		}
	}
}

// Close ends everything and waits for it.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.mu.closed = true
	close(p.mu.changed)
	p.mu.changed = make(chan struct{})
	for c := range p.mu.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	err := p.l.Close()
	p.served.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		if p.weather.Load().Refuse || !p.keep(c) {
			_ = c.Close()
			continue
		}
		p.served.Go(func() { p.carry(c) })
	}
}

// keep notes a connection, to be closed at the end; false if it is the end.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return false
	}
	p.mu.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.mu.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

// clear waits while the network is cut; false at the end.
func (p *Proxy) clear() bool {
	for {
		p.mu.Lock()
		closed, changed := p.mu.closed, p.mu.changed
		p.mu.Unlock()
		if closed {
			return false
		}
		if !p.weather.Load().Cut {
			return true
		}
		<-changed
	}
}

func (p *Proxy) carry(client net.Conn) {
	defer p.drop(client)
	if !p.clear() {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil || !p.keep(server) {
		if err == nil {
			_ = server.Close()
		}
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	both.Go(func() { p.pump(server, client, func(w *Weather) time.Duration { return w.Up }) })
	both.Go(func() { p.pump(client, server, func(w *Weather) time.Duration { return w.Down }) })
	both.Wait()
}

// chunk is some bytes and when they may arrive.
type chunk struct {
	bytes []byte
	due   time.Time
}

// errGone ends a direction whose proxy is closed.
var errGone = errors.New("the proxy is closed")

// pump carries one direction: a reader stamps what it reads, a writer waits
// until it is due, so that delay costs no bandwidth and order is kept.
func (p *Proxy) pump(to, from net.Conn, delay func(*Weather) time.Duration) {
	queue := make(chan chunk, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		var failed error
		for c := range queue { // to the end, so that the reader never hangs
			if failed == nil {
				failed = p.deliver(to, c)
			}
		}
		// The other side is told that no more comes; it may say more itself.
		if t, ok := to.(*net.TCPConn); ok && failed == nil {
			_ = t.CloseWrite()
		} else {
			_ = to.Close()
			_ = from.Close()
		}
	})
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if n > 0 {
			queue <- chunk{b[:n], time.Now().Add(delay(p.weather.Load()))}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = to.Close()
			}
			break
		}
	}
	close(queue)
	writer.Wait()
}

func (p *Proxy) deliver(to net.Conn, c chunk) error {
	if wait := time.Until(c.due); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		for waiting := true; waiting; {
			p.mu.Lock()
			closed, changed := p.mu.closed, p.mu.changed
			p.mu.Unlock()
			if closed {
				return errGone
			}
			select {
			case <-t.C:
				waiting = false
			case <-changed:
			}
		}
	}
	if !p.clear() {
		return errGone
	}
	_, err := to.Write(c.bytes)
	return err
}
