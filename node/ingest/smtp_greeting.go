package ingest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"

	"hikyaku/controlplane/policy"
)

// begin is everything before the first command: PROXY header, limits, TLS from
// the first byte, early talkers, banner. False ends the connection.
func (s *session) begin() bool {
	s.peer = addrOf(s.raw.RemoteAddr())
	client := s.peer
	if policy.AnyContains(s.l.ProxyNetworks, s.peer) {
		var ok bool
		if client, ok = s.proxyHeader(); !ok {
			s.l.counters.refused.Add(1)
			return false
		}
	}
	s.setClient(client)
	if !s.l.clients.enter(client, s.l.MaxConnectionsPerClient) {
		s.l.counters.refused.Add(1)
		if s.l.TLS != TLSImplicit {
			s.fatal(errLimit, 421, "4.7.0", "Too many connections from your address")
		}
		return false
	}
	s.counted = client
	if s.l.TLS == TLSImplicit && !s.handshake() {
		return false
	}
	if s.talksEarly() {
		s.l.counters.refused.Add(1)
		s.fatal(errSmuggling, 554, "5.5.0", "You spoke before the greeting, closing connection")
		return false
	}
	if s.srv.draining.Load() {
		s.fatal(errUnavailable, 421, "4.3.2", "Service shutting down, try again later")
		return false
	}
	s.banner()
	return true
}

func (s *session) banner() {
	s.reply(220, "", s.l.Hostname+" "+s.l.Banner)
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// proxyHeader reads the PROXY header that a named peer must send. What was
// read beyond it goes into the input buffer.
func (s *session) proxyHeader() (netip.Addr, bool) {
	if err := s.raw.SetReadDeadline(time.Now().Add(s.l.Timeouts.Handshake.D())); err != nil {
		return netip.Addr{}, false
	}
	br := bufio.NewReaderSize(s.raw, 4096)
	h, err := proxyproto.Read(br)
	if err != nil {
		s.srv.log.Warn("PROXY header", "peer", s.peer, "error", err)
		return netip.Addr{}, false
	}
	rest, _ := br.Peek(br.Buffered())
	s.wire.w = copy(s.wire.in, rest)
	if h.Command.IsLocal() { // the balancer's own health check
		return s.peer, true
	}
	addr := addrOf(h.SourceAddr)
	return addr, addr.IsValid()
}

// handshake turns the connection into a TLS one. Input that came before it is
// the caller's business.
func (s *session) handshake() bool {
	conn := s.wire.conn
	if s.wire.pending() { // behind a PROXY header
		rest := append([]byte(nil), s.wire.in[s.wire.r:s.wire.w]...)
		s.wire.discard()
		conn = &prefixed{Conn: conn, prefix: rest}
	}
	tc := tls.Server(conn, s.l.tls)
	deadline := time.Now().Add(s.l.Timeouts.Handshake.D())
	_ = tc.SetDeadline(deadline)
	if err := tc.HandshakeContext(s.srv.ctx); err != nil {
		s.l.counters.tlsFailed.Add(1)
		s.srv.log.Debug("TLS handshake", "client", s.clientIP, "error", err)
		// Never back to clear text on this connection.
		_ = s.wire.fail(err)
		return false
	}
	_ = tc.SetDeadline(time.Time{})
	st := tc.ConnectionState()
	s.tls = &st
	s.wire.use(tc, true)
	s.l.counters.tls.Add(1)
	return true
}

// prefixed is a connection of which some bytes were read already.
type prefixed struct {
	net.Conn
	prefix []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.prefix) > 0 {
		n := copy(b, p.prefix)
		p.prefix = p.prefix[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// talksEarly looks for input before the banner: a client that does not wait
// for us does not speak SMTP, or replays what someone else composed (RFC 5321
// 3.1: the client should wait).
func (s *session) talksEarly() bool {
	if s.wire.pending() {
		return true
	}
	if d := s.l.GreetDelay.D(); d > 0 {
		err := s.wire.fill(time.Now().Add(d))
		return err == nil || !errors.Is(err, os.ErrDeadlineExceeded)
	}
	if s.tls != nil {
		return false // what waits at the socket is records, not commands
	}
	return peeked(s.raw)
}

// peeked reports whether input waits at the socket, without waiting for it.
func peeked(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	found := false
	_ = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		found = err == nil && n > 0
		return true
	})
	return found
}
