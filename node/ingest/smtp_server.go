package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Authenticator says who a client is. Policy lives behind it.
type Authenticator interface {
	// Password checks a login in constant time. name is the login name, for
	// events.
	Password(ctx context.Context, user, password string) (tenant, name string, ok bool)
	// Network is the tenant whose networks hold the address.
	Network(addr netip.Addr) (tenant string, ok bool)
}

// Tracer sees the dialogue of sessions it asks for, live. Secrets are masked
// and content is only counted.
type Tracer interface {
	// Match is asked once for each line, so it must be quick.
	Match(client netip.Addr, tenant string) bool
	// Line gets one line without its CRLF, valid during the call. sent is true
	// for our replies.
	Line(session uint64, client netip.Addr, sent bool, line []byte)
}

// SMTPOptions build an SMTPServer.
type SMTPOptions struct {
	Listeners     []SMTPListener
	Acceptor      Offerer
	Authenticator Authenticator
	Logger        *slog.Logger // nil: slog.Default
	Hostname      string       // the node's name, for listeners without one; "" asks the system
	// MaxContentBytes bounds the memory lent to content that is coming in,
	// over all connections. Default 1 GiB; beyond it 452 4.3.1.
	MaxContentBytes int64
}

// SMTPServer is the SMTP side of ingest. It owns its listeners, one goroutine
// for each, and one goroutine for each connection.
type SMTPServer struct {
	acceptor  Offerer
	gate      Gate // the acceptor, if it is one; else nil
	auth      Authenticator
	log       *slog.Logger
	listeners []*smtpListener
	buffers   buffers
	failures  authFailures
	tracer    atomic.Pointer[Tracer]
	sessions  atomic.Uint64 // numbers sessions, for traces
	draining  atomic.Bool

	ctx    context.Context // ends when sessions must stop at once
	cancel context.CancelFunc
	wg     sync.WaitGroup // listeners' and sessions' goroutines
	mu     struct {
		sync.Mutex
		open   map[*session]struct{}
		closed bool
	}
}

// smtpListener is one listener with what its sessions share.
type smtpListener struct {
	SMTPListener
	cert     *certificate
	tls      *tls.Config
	clients  clients
	counters smtpCounters
	ln       net.Listener
}

// NewSMTPServer checks the settings and reads the certificates. Start begins.
func NewSMTPServer(o SMTPOptions) (*SMTPServer, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Hostname == "" {
		o.Hostname = hostname()
	}
	orDefault(&o.MaxContentBytes, 1<<30)
	s := &SMTPServer{acceptor: o.Acceptor, auth: o.Authenticator, log: o.Logger}
	s.gate, _ = o.Acceptor.(Gate)
	s.buffers.limit = o.MaxContentBytes
	s.mu.open = make(map[*session]struct{})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for i := range o.Listeners {
		l := &smtpListener{SMTPListener: o.Listeners[i].withDefaults(o.Hostname)}
		if err := l.Validate(); err != nil {
			return nil, fmt.Errorf("smtp listener %s: %w", l.Listen, err)
		}
		if l.CertFile != "" && l.TLS != TLSNone {
			var err error
			if l.cert, err = newCertificate(l.CertFile, l.KeyFile, o.Logger); err != nil {
				return nil, fmt.Errorf("smtp listener %s: %w", l.Listen, err)
			}
			l.tls = l.cert.tlsConfig()
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

func hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

// Start binds all listeners and begins to accept. On an error nothing stays
// bound.
func (s *SMTPServer) Start() error {
	for _, l := range s.listeners {
		var err error
		if l.ln, err = net.Listen("tcp", l.Listen); err != nil {
			for _, bound := range s.listeners {
				if bound.ln != nil {
					_ = bound.ln.Close()
				}
			}
			return fmt.Errorf("smtp listener: %w", err)
		}
	}
	for _, l := range s.listeners {
		s.wg.Add(1)
		go s.serve(l)
	}
	return nil
}

// Addrs are the addresses bound, in the order of the listeners.
func (s *SMTPServer) Addrs() []net.Addr {
	var as []net.Addr
	for _, l := range s.listeners {
		as = append(as, l.ln.Addr())
	}
	return as
}

// serve is a listener's goroutine.
func (s *SMTPServer) serve(l *smtpListener) {
	defer s.wg.Done()
	pause := 5 * time.Millisecond
	for {
		conn, err := l.ln.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			s.admit(l, conn)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors, most likely: wait, do not spin
			s.log.Warn("accept SMTP connection", "listen", l.Listen, "error", err)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-s.ctx.Done():
				timer.Stop()
				return
			}
			pause = min(2*pause, time.Second)
		}
	}
}

// admit starts a connection's goroutine, or turns it away.
func (s *SMTPServer) admit(l *smtpListener, conn net.Conn) {
	l.counters.connections.Add(1)
	var ss *session
	s.mu.Lock()
	refuse := s.mu.closed || l.counters.open.Load() >= int64(l.MaxConnections)
	if !refuse {
		ss = newSession(s, l, conn)
		s.mu.open[ss] = struct{}{}
		l.counters.open.Add(1)
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if refuse {
		l.counters.refused.Add(1)
		if l.TLS != TLSImplicit { // a few bytes on a fresh socket do not block
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte("421 4.3.2 Too many connections, try again later\r\n"))
		}
		_ = conn.Close()
		return
	}
	go func() {
		defer s.wg.Done()
		defer s.leave(ss)
		ss.run()
	}()
}

func (s *SMTPServer) leave(ss *session) {
	s.mu.Lock()
	delete(s.mu.open, ss)
	s.mu.Unlock()
	ss.l.counters.open.Add(-1)
}

// Shutdown stops listening, lets transactions that have begun come to their
// end, sends idle clients away with 421, and waits. When ctx ends first, the
// rest is cut off; what was not answered was not accepted.
func (s *SMTPServer) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	for _, l := range s.listeners {
		if l.ln != nil {
			_ = l.ln.Close()
		}
	}
	s.mu.Lock()
	s.mu.closed = true
	for ss := range s.mu.open {
		ss.wake()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for ss := range s.mu.open {
		_ = ss.raw.Close()
	}
	s.mu.Unlock()
	<-done
	return fmt.Errorf("drain SMTP connections: %w", ctx.Err())
}

// ReloadCertificates reads all certificates again now. Those that cannot be
// read stay as they were and are named in the error.
func (s *SMTPServer) ReloadCertificates() error {
	var errs []error
	for _, l := range s.listeners {
		if l.cert != nil {
			errs = append(errs, l.cert.reload(time.Now()))
		}
	}
	return errors.Join(errs...)
}

// SetTracer starts or, with nil, ends the live trace.
func (s *SMTPServer) SetTracer(t Tracer) {
	if t == nil {
		s.tracer.Store(nil)
		return
	}
	s.tracer.Store(&t)
}

// Metrics is a snapshot for each listener, in their order.
func (s *SMTPServer) Metrics() []SMTPMetrics {
	var ms []SMTPMetrics
	for _, l := range s.listeners {
		m := l.counters.snapshot()
		m.Listen = l.Listen
		m.ContentBytesLent, m.ContentBytesLimit = s.buffers.lent.Load(), s.buffers.limit
		ms = append(ms, m)
	}
	return ms
}
