package ingest

import (
	"hikyaku/node/smtp"
)

// rset ends a transaction (RFC 5321 4.1.1.5).
func (s *session) rset(arg []byte) {
	if len(arg) > 0 {
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: RSET")
		return
	}
	s.resetTransaction()
	s.reply(250, "2.0.0", "Ok")
}

// quit says goodbye (RFC 5321 4.1.1.10).
func (s *session) quit(arg []byte) {
	if len(arg) > 0 {
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: QUIT")
		return
	}
	s.reply(221, "2.0.0", "Bye")
	s.closing = true
}

// vrfy tells nothing, politely (RFC 5321 3.5.3).
func (s *session) vrfy(arg []byte) {
	if len(arg) == 0 {
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: VRFY address")
		return
	}
	s.reply(252, "2.1.5", "Cannot verify, but will try delivery")
}

// help names the commands (RFC 5321 4.1.1.8).
func (s *session) help() {
	from := len(s.wire.out)
	s.wire.out = append(s.wire.out, "214-2.0.0 Commands:\r\n214-2.0.0"...)
	for v := smtp.VerbHELO; v < smtp.VerbForeign; v++ {
		if v == smtp.VerbEXPN || v == smtp.VerbXCLIENT {
			continue
		}
		s.wire.out = append(append(s.wire.out, ' '), v.String()...)
	}
	s.wire.out = append(s.wire.out, '\r', '\n')
	s.wire.reply(214, "2.0.0", "See RFC 5321")
	s.replied(from)
}
