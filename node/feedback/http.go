package feedback

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// HTTPOptions build an HTTPServer.
type HTTPOptions struct {
	Listen            string
	CertFile, KeyFile string // none: plain HTTP, behind a proxy that ends TLS
	MaxConnections    int    // default 1000
	Logger            *slog.Logger
}

// Bounds of one connection. Everything that it says fits in one packet or two.
const (
	httpHeaderBytes = 16 << 10
	httpRead        = 10 * time.Second
	httpWrite       = 30 * time.Second
	httpIdle        = 60 * time.Second
	certEvery       = time.Second
)

// HTTPServer serves the one-click endpoint. It owns a goroutine that accepts and,
// in net/http, one for each connection.
type HTTPServer struct {
	o    HTTPOptions
	srv  *http.Server
	ln   net.Listener
	wg   sync.WaitGroup
	cert *certificate
}

// NewHTTPServer checks the settings and reads the certificate. Start begins.
func (r *Receiver) NewHTTPServer(o HTTPOptions) (*HTTPServer, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 1000
	}
	s := &HTTPServer{o: o, srv: &http.Server{Handler: r.OneClick(), MaxHeaderBytes: httpHeaderBytes,
		ReadHeaderTimeout: httpRead, ReadTimeout: httpRead, WriteTimeout: httpWrite, IdleTimeout: httpIdle,
		// What net/http logs are handshakes and broken requests of strangers.
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug)}}
	if o.CertFile != "" {
		s.cert = &certificate{certFile: o.CertFile, keyFile: o.KeyFile, log: o.Logger}
		if err := s.cert.load(time.Now()); err != nil {
			return nil, fmt.Errorf("feedback http listener %s: %w", o.Listen, err)
		}
		s.srv.TLSConfig = &tls.Config{GetCertificate: s.cert.get, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// Start binds the address and begins to accept.
func (s *HTTPServer) Start() error {
	ln, err := net.Listen("tcp", s.o.Listen)
	if err != nil {
		return fmt.Errorf("feedback http listener: %w", err)
	}
	s.ln = &boundedListener{Listener: ln, places: make(chan struct{}, s.o.MaxConnections), done: make(chan struct{})}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		var err error
		if s.cert != nil {
			err = s.srv.ServeTLS(s.ln, "", "")
		} else {
			err = s.srv.Serve(s.ln)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.o.Logger.Error("serve one-click requests", "listen", s.o.Listen, "error", err)
		}
	}()
	return nil
}

// Addr is the address bound.
func (s *HTTPServer) Addr() net.Addr { return s.ln.Addr() }

// Shutdown lets requests under way end and waits. When ctx ends first, the rest
// is cut off.
func (s *HTTPServer) Shutdown(ctx context.Context) error {
	err := s.srv.Shutdown(ctx)
	if err != nil {
		_ = s.srv.Close()
		err = fmt.Errorf("drain one-click requests: %w", err)
	}
	s.wg.Wait()
	return err
}

// boundedListener accepts no more connections than it has places. Those beyond
// wait in the system's queue.
type boundedListener struct {
	net.Listener
	places chan struct{}
	done   chan struct{}
	once   sync.Once
}

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

// certificate is read again when its files change. A pair that cannot be read
// leaves the last good one in place.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	mu                struct {
		sync.Mutex
		good    *tls.Certificate
		checked time.Time
		stamp   [2]time.Time
	}
}

func (c *certificate) stamps() (s [2]time.Time) {
	for i, path := range []string{c.certFile, c.keyFile} {
		if fi, err := os.Stat(path); err == nil {
			s[i] = fi.ModTime()
		}
	}
	return s
}

func (c *certificate) load(now time.Time) error {
	stamp := c.stamps()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.checked, c.mu.stamp = now, stamp
	if err != nil {
		return fmt.Errorf("load certificate %s: %w", c.certFile, err)
	}
	c.mu.good = &pair
	return nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := time.Now()
	c.mu.Lock()
	due, stamp := now.Sub(c.mu.checked) >= certEvery, c.mu.stamp
	if due {
		c.mu.checked = now
	}
	c.mu.Unlock()
	if due && c.stamps() != stamp {
		if err := c.load(now); err != nil {
			c.log.Warn("certificate changed but cannot be used; the old one stays", "error", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.good, nil
}
