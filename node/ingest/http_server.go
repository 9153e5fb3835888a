package ingest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// HTTPOptions build an HTTPServer.
type HTTPOptions struct {
	Listener HTTPListener
	Backend  HTTPBackend
	Logger   *slog.Logger     // nil: slog.Default
	Hostname string           // the node's name, for a listener without one; "" asks the system
	Now      func() time.Time // nil: time.Now
}

// HTTPServer is the HTTP side of ingest. It owns its listener and all of its
// connections.
type HTTPServer struct {
	l        HTTPListener
	backend  HTTPBackend
	log      *slog.Logger
	now      func() time.Time
	tls      *tls.Config
	http     *fasthttp.Server
	ln       net.Listener
	openapi  []byte
	docs     []byte
	counters httpCounters
	clients  clients
	failures authFailures
	keys     keyLocks
	turns    turns
	lent     atomic.Int64 // body memory
	draining atomic.Bool

	ctx    context.Context // ends when requests must stop
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewHTTPServer checks the settings and reads the certificate. Start begins.
func NewHTTPServer(o HTTPOptions) (*HTTPServer, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Hostname == "" {
		o.Hostname = hostname()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &HTTPServer{l: o.Listener.withDefaults(o.Hostname), backend: o.Backend, log: o.Logger, now: o.Now, turns: newTurns(o.Backend.Rest)}
	if err := s.l.Validate(); err != nil {
		return nil, fmt.Errorf("http listener %s: %w", s.l.Listen, err)
	}
	if s.l.CertFile != "" {
		cert, err := newCertificate(s.l.CertFile, s.l.KeyFile, o.Logger)
		if err != nil {
			return nil, fmt.Errorf("http listener %s: %w", s.l.Listen, err)
		}
		s.tls = cert.tlsConfig()
		s.tls.NextProtos = []string{"http/1.1"}
	}
	var err error
	if s.openapi, s.docs, err = describeAPI(); err != nil {
		return nil, fmt.Errorf("describe the HTTP API: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = s.newFasthttp()
	return s, nil
}

// newFasthttp sets fasthttp up to take what RFC 9112 says and no more. The
// body is streamed so that who may not send is refused before it is read.
func (s *HTTPServer) newFasthttp() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:      s.serve,
		ErrorHandler: s.badRequest,
		HeaderReceived: func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
			return fasthttp.RequestConfig{ReadTimeout: s.l.Timeouts.Body.D(), MaxRequestBodySize: s.l.MaxBodyBytes}
		},
		Name:                         "hikyaku",
		Concurrency:                  s.l.MaxConnections + 16, // our own listener turns away before
		ReadBufferSize:               s.l.MaxHeaderBytes,
		ReadTimeout:                  s.l.Timeouts.Header.D(),
		WriteTimeout:                 s.l.Timeouts.Write.D(),
		IdleTimeout:                  s.l.Timeouts.Idle.D(),
		MaxRequestsPerConn:           s.l.MaxRequestsPerConnection,
		MaxRequestBodySize:           s.l.MaxBodyBytes,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		SecureErrorLogMessage:        true,
		NoDefaultContentType:         true,
		CloseOnShutdown:              true,
		Logger:                       quietLogger{s.log},
	}
}

// quietLogger keeps fasthttp's remarks about peers out of the log unless asked for.
type quietLogger struct{ log *slog.Logger }

// Printf is fasthttp.Logger.
func (q quietLogger) Printf(format string, args ...any) {
	if q.log.Enabled(context.Background(), slog.LevelDebug) {
		q.log.Debug("http connection", "remark", fmt.Sprintf(format, args...))
	}
}

// Start binds the listener and begins to accept.
func (s *HTTPServer) Start() error {
	ln, err := net.Listen("tcp", s.l.Listen)
	if err != nil {
		return fmt.Errorf("http listener: %w", err)
	}
	s.ln = ln
	var limited net.Listener = &limitedListener{Listener: ln, s: s}
	if s.tls != nil {
		limited = tls.NewListener(limited, s.tls)
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		if err := s.http.Serve(limited); err != nil && s.ctx.Err() == nil {
			s.log.Error("http listener ended", "listen", s.l.Listen, "error", err)
		}
	}()
	return nil
}

// Addr is the address bound.
func (s *HTTPServer) Addr() net.Addr { return s.ln.Addr() }

// Shutdown stops accepting and waits for the requests under way, until ctx
// ends; then they are cut off.
func (s *HTTPServer) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	defer s.cancel()
	if s.ln == nil {
		return nil
	}
	err := s.http.ShutdownWithContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = fmt.Errorf("requests under way were cut off: %w", err)
	}
	s.cancel()
	_ = s.ln.Close()
	s.wg.Wait()
	return err
}

// limitedListener turns connections away that are over the bounds.
type limitedListener struct {
	net.Listener
	s *HTTPServer
}

// Accept returns the next connection within the bounds.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &l.s.counters
		c.connections.Add(1)
		addr := remoteAddr(conn.RemoteAddr())
		if c.open.Add(1) <= int64(l.s.l.MaxConnections) && l.s.clients.enter(addr, l.s.l.MaxConnectionsPerClient) {
			return &countedConn{Conn: conn, s: l.s, addr: addr}, nil
		}
		c.open.Add(-1)
		c.refused.Add(1)
		if l.s.tls == nil { // a few bytes on a fresh socket do not block
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		}
		_ = conn.Close()
	}
}

func remoteAddr(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	s    *HTTPServer
	addr netip.Addr
	once sync.Once
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.s.counters.open.Add(-1)
		c.s.clients.leave(c.addr)
	})
	return c.Conn.Close()
}

// badRequest answers what fasthttp could not read as a request.
func (s *HTTPServer) badRequest(ctx *fasthttp.RequestCtx, err error) {
	e := refuse(fasthttp.StatusBadRequest, codeBadRequest, "this is not an HTTP request that can be read without doubt")
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		e = refuse(fasthttp.StatusRequestHeaderFieldsTooLarge, codeTooLarge, "the request's header is too large")
	case errors.As(err, &timeout) && timeout.Timeout():
		e = refuse(fasthttp.StatusRequestTimeout, codeTimeout, "the request did not come in time")
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		e = s.tooLarge()
	}
	e.close = true
	s.writeError(ctx, e)
	s.counters.answers[e.status/100].Add(1)
}

// serve is fasthttp's handler. fasthttp recovers no panics: a bug of ours in
// one request would end the process and with it all others.
func (s *HTTPServer) serve(ctx *fasthttp.RequestCtx) {
	defer func() {
		if p := recover(); p != nil {
			s.counters.panics.Add(1)
			s.log.Error("BUG: panic in an HTTP request", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			e := asHTTPError(nil)
			e.close = true
			s.writeError(ctx, e)
		}
		s.counters.answers[min(max(ctx.Response.StatusCode()/100, 1), 5)].Add(1)
	}()
	if e := wellFramed(ctx); e != nil {
		s.writeError(ctx, e)
		return
	}
	if err := s.route(ctx); err != nil {
		e := asHTTPError(err)
		if e.status >= 500 && e.code == codeInternal {
			s.log.Error("http request failed", "path", string(ctx.Path()), "error", err)
		}
		s.writeError(ctx, e)
	}
}

// once are the header fields that decide where a request ends, who asks and
// what for. Two of them are one too many for two parsers to agree on.
var once = [...]string{"host", "content-length", "transfer-encoding", "authorization", "content-type", "content-encoding", "idempotency-key"}

// wellFramed refuses what fasthttp lets pass although two parsers may read it
// differently: folded header lines (RFC 9112 5.2), line ends without CR, both
// ways of framing at once (RFC 9112 6.1), other versions. It looks at the header
// as it came, since fasthttp has dropped what it did not need.
func wellFramed(ctx *fasthttp.RequestCtx) *httpError {
	bad := func(why string) *httpError {
		e := refuse(fasthttp.StatusBadRequest, codeBadRequest, why)
		e.close = true
		return e
	}
	switch string(ctx.Request.Header.Protocol()) {
	case "HTTP/1.1", "HTTP/1.0":
	default:
		e := bad("this server speaks HTTP/1.1")
		e.status = fasthttp.StatusHTTPVersionNotSupported
		return e
	}
	var seen [len(once)]int
	for raw := ctx.Request.Header.RawHeaders(); len(raw) > 0; {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		raw = rest
		if len(line) == 0 || line[len(line)-1] != '\r' {
			return bad("a header line ends without CR")
		}
		if line[0] == ' ' || line[0] == '\t' {
			return bad("folded header lines are not taken")
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		for i, known := range once {
			if len(name) != len(known) || !strings.EqualFold(string(name), known) {
				continue
			}
			if seen[i]++; seen[i] > 1 {
				return bad("header " + known + " given twice")
			}
		}
	}
	if seen[1] > 0 && seen[2] > 0 {
		return bad("Content-Length and Transfer-Encoding given together")
	}
	if te := string(ctx.Request.Header.Peek("Transfer-Encoding")); te != "" && !strings.EqualFold(te, "chunked") {
		return bad("transfer encoding is not known")
	}
	if seen[0] == 0 && ctx.Request.Header.IsHTTP11() {
		return bad("header Host is missing") // RFC 9112 3.2
	}
	return nil
}
