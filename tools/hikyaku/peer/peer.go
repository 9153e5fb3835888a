package peer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"hikyaku/controlplane/keyspace"
)

// Options say who we are and whom we believe. Without certificate files only
// loopback is spoken to.
type Options struct {
	CertFile, KeyFile, CAFile string
	Key                       keyspace.Key
	// Recheck is how often the files are looked at. Default 10 s.
	Recheck time.Duration
	Logger  *slog.Logger
}

func (o *Options) mutual() bool { return o.CertFile != "" }

// Peers is one end of all connections between processes of the cluster.
type Peers struct {
	o     Options
	token string
	files *files // nil without certificates
}

// New reads the certificates. Errors name the file.
func New(o Options) (*Peers, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Recheck <= 0 {
		o.Recheck = 10 * time.Second
	}
	if o.Key.IsZero() {
		return nil, errors.New("peers: there is no cluster key")
	}
	p := &Peers{o: o, token: o.Key.PeerToken()}
	if o.mutual() {
		p.files = &files{o: o}
		if _, err := p.files.current(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Scheme is that of the peers' URLs.
func (p *Peers) Scheme() string {
	if p.o.mutual() {
		return "https"
	}
	return "http"
}

// Client asks other processes. It has no deadline of its own: requests carry
// one. The token tells clusters apart that share an authority.
func (p *Peers) Client() *http.Client {
	t := &http.Transport{
		MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
		DialContext: dialer.DialContext,
	}
	if p.files != nil {
		t.DialTLSContext = p.files.dial
	}
	return &http.Client{
		Transport:     bearer{t, p.token},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

const dialTimeout = 5 * time.Second

var dialer = net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Second}

type bearer struct {
	next  http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// Server serves a handler to peers.
type Server struct {
	// Addr is where it listens.
	Addr net.Addr
	srv  *http.Server
	done chan struct{}
}

// maxHeader bounds a request's headers; their bodies are the handlers' to bound.
const maxHeader = 16 << 10

// Listen opens the peer address, to be served later: others are told of the
// port before there is anything to serve.
func (p *Peers) Listen(listen string) (net.Listener, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("peer listener: %w", err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); !p.o.mutual() && (!ok || !a.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("peer listener %s: without certificates only loopback is served", listen), l.Close())
	}
	return l, nil
}

// Serve serves the listener until Close.
func (p *Peers) Serve(l net.Listener, h http.Handler) *Server {
	s := &Server{Addr: l.Addr(), done: make(chan struct{}), srv: &http.Server{
		Handler: p.guard(h), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(p.o.Logger.Handler(), slog.LevelDebug),
	}}
	serve := s.srv.Serve
	if p.files != nil {
		s.srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: protocols, GetConfigForClient: p.files.server}
		serve = func(l net.Listener) error { return s.srv.ServeTLS(l, "", "") }
	}
	go func() { // ended and waited for by Close
		defer close(s.done)
		if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.o.Logger.Error("peer listener", "error", err)
		}
	}()
	return s
}

// Close ends the listener; what is being answered has a second.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.srv.Shutdown(ctx) != nil {
		_ = s.srv.Close()
	}
	<-s.done
}

// guard lets only peers in. The certificate was checked by TLS.
func (p *Peers) guard(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + p.token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		switch {
		case subtle.ConstantTimeCompare(got[:], want[:]) != 1:
			http.Error(w, "this is for the processes of one cluster: wrong cluster key", http.StatusUnauthorized)
		case p.files == nil && !fromLoopback(r.RemoteAddr):
			http.Error(w, "without certificates only loopback is served", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func fromLoopback(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}
