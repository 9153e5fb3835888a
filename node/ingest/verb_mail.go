package ingest

import (
	"strings"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
)

// mail begins a transaction (RFC 5321 4.1.1.2). Who may send, and as whom, is
// decided here, before anything is stored.
func (s *session) mail(arg []byte) {
	switch {
	case s.phase == phaseStart:
		s.refuse(errSequence, 503, "5.5.1", "Send EHLO first")
		return
	case s.phase > phaseReady:
		s.refuse(errSequence, 503, "5.5.1", "Nested MAIL command")
		return
	case !s.mayMail():
		return
	}
	path, rest, bad := smtp.ParseReversePath(arg)
	if bad == nil && len(rest) > 0 && !s.extended {
		s.refuse(errSyntax, 555, "5.5.4", "Parameters need EHLO")
		return
	}
	if bad == nil {
		bad = s.tx.args.Parse(rest)
	}
	if bad != nil {
		s.resetTransaction()
		s.refuseSyntax(bad)
		return
	}
	if !s.senderSuits(&path) || !s.argsSuit() {
		s.resetTransaction()
		return
	}
	if err := s.srv.acceptor.Admit(s.tenant); err != nil {
		s.resetTransaction()
		s.refuseAccept(err)
		return
	}
	if string(path.Address) != s.sender {
		s.sender = string(path.Address)
	}
	s.tx.sender = s.sender
	s.mails++
	s.phase = phaseMail
	s.reply(250, "2.1.0", "Ok")
}

// mayMail is about the session: may it send at all, now?
func (s *session) mayMail() bool {
	switch {
	case s.srv.draining.Load():
		s.fatal(errUnavailable, 421, "4.3.2", "Service shutting down, try again later")
	case s.mails >= s.l.MaxMessagesPerConnection:
		s.fatal(errLimit, 421, "4.7.0", "Too many messages on this connection, connect again")
	case time.Since(s.started) > s.l.Timeouts.Connection.D():
		s.fatal(errLimit, 421, "4.7.0", "Connection open too long, connect again")
	case s.l.RequireTLS && s.tls == nil:
		s.refuse(errRelay, 530, "5.7.0", "Must issue a STARTTLS command first") // RFC 3207 4
	case s.l.RequireAuth && s.user == "":
		s.refuse(errRelay, 530, "5.7.0", "Authentication required") // RFC 4954 6
	case s.tenant == "" && (s.mayAuth() || s.l.TLS == TLSStartTLS):
		s.refuse(errRelay, 530, "5.7.0", "Authentication required")
	case s.tenant == "":
		s.refuse(errRelay, 550, "5.7.1", "Relaying denied")
	case s.tenantDisabled():
		s.refuse(errRelay, 550, "5.7.1", "Sending is disabled for this account")
	default:
		return true
	}
	return false
}

func (s *session) tenantDisabled() bool {
	t := s.tenantPolicy()
	return t != nil && t.Disabled
}

// tenantPolicy is the tenant in the policy now in force, nil when it has none.
func (s *session) tenantPolicy() *policy.Tenant {
	if set := s.srv.acceptor.Policy(); set != nil {
		return set.Tenants[s.tenant]
	}
	return nil
}

// senderSuits checks the address against the parameters and the tenant's
// domains. The null reverse-path has no domain and is always allowed.
func (s *session) senderSuits(p *smtp.Path) bool {
	if len(p.Address) == 0 {
		return true
	}
	if p.NonASCII && !s.tx.args.UTF8 {
		s.refuse(errSyntax, 553, "5.6.7", "Address needs the SMTPUTF8 parameter") // RFC 6531 3.5
		return false
	}
	domain, err := s.domain.of(p.Address)
	if err != nil {
		s.refuse(errSyntax, 501, "5.1.7", "Bad sender domain")
		return false
	}
	if t := s.tenantPolicy(); t != nil && !domainAllowed(t.SenderDomains, domain) {
		s.decline(errRelay, 553, "5.7.1", "Sender domain is not allowed for this account")
		return false
	}
	return true
}

// argsSuit checks the values of parameters that have bounds.
func (s *session) argsSuit() bool {
	a := &s.tx.args
	switch {
	case a.Size > int64(s.l.MaxMessageSize):
		s.decline(errContent, 552, "5.3.4", "Message size exceeds the limit") // RFC 1870 6.1
	case a.HoldFor > s.l.MaxFutureRelease.D(),
		!a.HoldUntil.IsZero() && time.Until(a.HoldUntil) > s.l.MaxFutureRelease.D():
		s.refuse(errSyntax, 501, "5.5.4", "Release time is too far in the future") // RFC 4865 5
	default:
		return true
	}
	return false
}

// domainAllowed matches an A-label domain against "example.com",
// "*.example.com" and "*". No patterns allow all.
func domainAllowed(patterns []string, domain string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		switch {
		case p == "*", strings.EqualFold(p, domain):
			return true
		case strings.HasPrefix(p, "*."):
			suffix := p[1:]
			if len(domain) > len(suffix) && strings.EqualFold(domain[len(domain)-len(suffix):], suffix) {
				return true
			}
		}
	}
	return false
}

// domainCache remembers the A-label form of the last domain: most sessions
// send as one.
type domainCache struct{ raw, ascii string }

// of is Destination of an address that passed the grammar.
func (c *domainCache) of(address []byte) (string, error) {
	at := len(address) - 1
	for at >= 0 && address[at] != '@' {
		at--
	}
	raw := address[at+1:]
	if c.ascii != "" && string(raw) == c.raw {
		return c.ascii, nil
	}
	ascii, err := Destination(string(address))
	if err != nil {
		return "", err
	}
	c.raw, c.ascii = string(raw), ascii
	return ascii, nil
}
