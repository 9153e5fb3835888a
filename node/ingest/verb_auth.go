package ingest

import (
	"bytes"
	"encoding/base64"
	"time"
	"unicode/utf8"
)

// Bounds on logins.
const (
	maxLoginName = 255 // RFC 4616 2
	maxPassword  = 512
)

// authenticate is AUTH PLAIN (RFC 4616) and LOGIN, with and without an initial
// response (RFC 4954 4).
func (s *session) authenticate(arg []byte) {
	switch {
	case s.phase == phaseStart || !s.extended:
		s.refuse(errSequence, 503, "5.5.1", "Send EHLO first")
		return
	case s.phase > phaseReady:
		s.refuse(errSequence, 503, "5.5.1", "AUTH is not allowed in a mail transaction")
		return
	case s.user != "":
		s.refuse(errSequence, 503, "5.5.1", "Already authenticated")
		return
	case !s.mayAuth() && s.srv.auth != nil && s.l.TLS == TLSStartTLS && s.tls == nil:
		s.refuse(errRelay, 538, "5.7.11", "Encryption required for authentication")
		return
	case !s.mayAuth():
		s.refuse(errSyntax, 502, "5.5.1", "AUTH is not offered")
		return
	case s.srv.failures.blocked(s.client, time.Now(), s.l.MaxAuthFailuresPerClient):
		s.refuse(errLimit, 454, "4.7.0", "Too many failed logins from your address, try again later")
		return
	}
	mechanism, initial, given := bytes.Cut(arg, []byte(" "))
	initial = bytes.Trim(initial, " ")
	switch {
	case bytes.EqualFold(mechanism, []byte("PLAIN")):
		s.authPlain(initial, given)
	case bytes.EqualFold(mechanism, []byte("LOGIN")):
		s.authLogin(initial, given)
	case len(mechanism) == 0:
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: AUTH mechanism")
	default:
		s.refuse(errSyntax, 504, "5.5.4", "Authentication mechanism is not offered")
	}
}

func (s *session) authPlain(initial []byte, given bool) {
	response, ok := s.authResponse(initial, given, "")
	if !ok {
		return
	}
	authzid, rest, ok := bytes.Cut(response, []byte{0})
	user, password, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 || bytes.IndexByte(password, 0) >= 0 {
		s.refuse(errSyntax, 501, "5.5.2", "Malformed PLAIN response")
		return
	}
	if len(authzid) > 0 && !bytes.Equal(authzid, user) { // nobody acts for others here
		s.authFailed()
		return
	}
	s.login(user, password)
}

func (s *session) authLogin(initial []byte, given bool) {
	user, ok := s.authResponse(initial, given, "VXNlcm5hbWU6") // "Username:"
	if !ok {
		return
	}
	password, ok := s.authResponse(nil, false, "UGFzc3dvcmQ6") // "Password:"
	if !ok {
		return
	}
	s.login(user, password)
}

// authResponse is the decoded initial response, or the answer to a prompt.
// False: the exchange is over and the client has been told.
func (s *session) authResponse(initial []byte, given bool, prompt string) ([]byte, bool) {
	line := initial
	if !given {
		s.reply(334, "", prompt)
		var err error
		if line, err = s.wire.line(time.Now().Add(s.l.Timeouts.Command.D())); err != nil {
			s.lost(err)
			return nil, false
		}
		s.trace(false, []byte("***"))
		if len(line)+2 > maxInputLine {
			s.refuse(errSyntax, 500, "5.5.6", "Authentication exchange line is too long")
			return nil, false
		}
		if string(line) == "*" {
			s.refuse(errSyntax, 501, "5.7.0", "Authentication cancelled")
			return nil, false
		}
	} else if string(line) == "=" { // RFC 4954 4: an empty initial response
		return nil, true
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(out, line)
	if err != nil || bytes.IndexByte(line, '\r') >= 0 { // the decoder skips a CR
		s.refuse(errSyntax, 501, "5.5.2", "Cannot decode base64")
		return nil, false
	}
	return out[:n], true
}

// login asks who that is. All ways to fail look alike from outside.
func (s *session) login(user, password []byte) {
	if len(user) == 0 || len(user) > maxLoginName || len(password) > maxPassword || !cleanName(user) {
		s.authFailed()
		return
	}
	tenant, name, ok := s.srv.auth.Password(s.srv.ctx, string(user), string(password))
	if !ok || tenant == "" {
		s.authFailed()
		return
	}
	if name == "" {
		name = string(user)
	}
	s.tenant, s.user = tenant, name
	s.badAuth = 0
	s.l.counters.authOK.Add(1)
	s.reply(235, "2.7.0", "Authentication successful")
}

func cleanName(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(b)
}

// authFailed tells the client after a while, so that guessing is slow, and
// ends the connection after a few times.
func (s *session) authFailed() {
	now := time.Now()
	s.srv.failures.add(s.client, now)
	s.l.counters.authFailed.Add(1)
	s.srv.log.Info("SMTP login failed", "client", s.clientIP, "session", s.id)
	if d := s.l.AuthFailureDelay.D(); d > 0 {
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
		case <-s.srv.ctx.Done():
			timer.Stop()
		}
	}
	s.badAuth++
	if s.badAuth >= s.l.MaxAuthFailures {
		s.refuse(errRelay, 535, "5.7.8", "Authentication credentials invalid")
		s.fatal(errLimit, 421, "4.7.0", "Too many failed logins, closing connection")
		return
	}
	s.refuse(errRelay, 535, "5.7.8", "Authentication credentials invalid")
}
