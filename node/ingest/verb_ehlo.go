package ingest

import (
	"strconv"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
)

// greet is EHLO and HELO (RFC 5321 4.1.1.1). It ends a transaction as RSET
// does. A login stays.
func (s *session) greet(arg []byte, extended bool) {
	name, bad := smtp.ParseHello(arg)
	if bad != nil {
		s.refuseSyntax(bad)
		return
	}
	if s.phase == phaseStart && s.wire.pending() {
		// PIPELINING was not yet offered in this session (RFC 2920 3.1): the
		// rest was composed without waiting for our reply.
		s.fatal(errSmuggling, 554, "5.5.0", "Commands before the reply to EHLO, closing connection")
		return
	}
	s.resetTransaction()
	s.phase = phaseReady
	s.hello, s.extended = string(name), extended
	if !extended {
		s.reply(250, "", s.l.Hostname)
		return
	}
	from := len(s.wire.out)
	s.wire.out = s.appendCapabilities(s.wire.out)
	s.replied(from)
}

// appendCapabilities is the reply to EHLO.
func (s *session) appendCapabilities(b []byte) []byte {
	line := func(keyword string, args ...string) {
		b = append(append(b, "250-"...), keyword...)
		for _, a := range args {
			b = append(append(b, ' '), a...)
		}
		b = append(b, '\r', '\n')
	}
	line(s.l.Hostname)
	line("PIPELINING")
	line("SIZE", strconv.Itoa(s.l.MaxMessageSize))
	if s.tls == nil && s.l.TLS == TLSStartTLS {
		line("STARTTLS")
	}
	if s.mayAuth() && s.user == "" {
		line("AUTH", "PLAIN", "LOGIN")
	}
	line("8BITMIME")
	line("SMTPUTF8")
	line("CHUNKING")
	line("DSN")
	line("MT-PRIORITY")
	// RFC 4865 4: the longest span in seconds, then the latest date.
	span := s.l.MaxFutureRelease.D()
	line("FUTURERELEASE", strconv.Itoa(int(span/time.Second)), time.Now().Add(span).UTC().Format(time.RFC3339))
	line("LIMITS", "RCPTMAX="+strconv.Itoa(s.l.MaxRecipients), "MAILMAX="+strconv.Itoa(s.l.MaxMessagesPerConnection))
	if s.mayXclient() {
		line("XCLIENT", "NAME", "ADDR", "PORT", "PROTO", "HELO")
	}
	return append(b, "250 ENHANCEDSTATUSCODES\r\n"...)
}

// mayAuth says whether a login would be heard here: under TLS, or from a
// network named as safe. Nobody logs in where a Gate decides.
func (s *session) mayAuth() bool {
	return s.srv.auth != nil && s.srv.gate == nil && (s.tls != nil ||
		(!s.l.RequireTLS && policy.AnyContains(s.l.AuthPlaintextNetworks, s.client)))
}

// mayXclient asks about the peer itself, whoever it spoke for before.
func (s *session) mayXclient() bool {
	return s.peer.IsValid() && policy.AnyContains(s.l.XCLIENTNetworks, s.peer)
}
