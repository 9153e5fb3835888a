package ingest

// startTLS turns the connection into a TLS one (RFC 3207).
//
// INVARIANT: nothing that came in clear text has an effect after the
// handshake: input that waits is thrown away before the reply leaves, and the
// session begins anew, without EHLO, login or transaction (RFC 3207 4.2).
func (s *session) startTLS(arg []byte) {
	switch {
	case len(arg) > 0:
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: STARTTLS")
		return
	case s.l.TLS != TLSStartTLS:
		s.refuse(errSyntax, 502, "5.5.1", "STARTTLS is not offered")
		return
	case s.tls != nil:
		s.refuse(errSequence, 503, "5.5.1", "TLS is already active")
		return
	case s.phase == phaseStart:
		s.refuse(errSequence, 503, "5.5.1", "Send EHLO first")
		return
	}
	if n := s.wire.discard(); n > 0 {
		s.l.counters.errors[errSmuggling].Add(1)
		s.srv.log.Warn("input after STARTTLS thrown away", "client", s.clientIP, "session", s.id, "bytes", n)
	}
	s.reply(220, "2.0.0", "Ready to start TLS")
	if err := s.wire.flush(); err != nil || !s.handshake() {
		s.closing = true
		return
	}
	s.restart()
}

// restart puts the session where a new connection is.
func (s *session) restart() {
	s.resetTransaction()
	s.phase = phaseStart
	s.hello, s.extended = "", false
	s.user = ""
	s.networkTenant()
}
