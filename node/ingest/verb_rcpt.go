package ingest

import (
	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// rcpt adds a recipient (RFC 5321 4.1.1.3).
func (s *session) rcpt(arg []byte) {
	switch {
	case s.phase < phaseMail:
		s.refuse(errSequence, 503, "5.5.1", "Send MAIL first")
		return
	case s.phase == phaseChunk: // RFC 3030 2: between chunks there is only BDAT
		s.refuse(errSequence, 503, "5.5.1", "RCPT is not allowed between BDAT chunks")
		return
	case len(s.tx.recipients) >= s.l.MaxRecipients:
		s.declineRcpt(errLimit, 452, "4.5.3", "Too many recipients") // RFC 5321 4.5.3.1.10
		return
	}
	path, rest, bad := smtp.ParseForwardPath(arg)
	var args smtp.RcptArgs
	if bad == nil && len(rest) > 0 && !s.extended {
		s.declineRcpt(errSyntax, 555, "5.5.4", "Parameters need EHLO")
		return
	}
	if bad == nil {
		bad = args.Parse(rest)
	}
	if bad != nil {
		s.declineRcpt(errSyntax, bad.Code, bad.Enhanced.String(), bad.Text)
		return
	}
	if path.NonASCII && !s.tx.args.UTF8 {
		s.declineRcpt(errSyntax, 553, "5.6.7", "Address needs the SMTPUTF8 parameter")
		return
	}
	address := s.l.Postmaster
	if path.At >= 0 {
		address = string(path.Address)
		if _, err := Destination(address); err != nil {
			s.declineRcpt(errSyntax, 501, "5.1.3", "Bad recipient domain")
			return
		}
		if oddLocal(s.srv.acceptor.Policy(), address) {
			s.declineRcpt(errSyntax, 501, "5.1.3", "Bad recipient address syntax: "+oddLocalText)
			return
		}
	}
	if s.srv.gate != nil {
		if r := s.srv.gate.Recipient(s.client, address); r != nil {
			s.declineRcpt(errRelay, uint16(r.Code), r.Enhanced.String(), r.Text)
			return
		}
	}
	s.tx.recipients = append(s.tx.recipients, message.Recipient{
		Address: address, Notify: args.Notify, ORcpt: string(args.ORcpt),
	})
	s.phase = phaseRcpt
	s.reply(250, "2.1.5", "Ok")
}

// declineRcpt refuses a recipient. A transaction may have as many refused
// recipients as it may have accepted ones; more is not a list with faults but
// a fault.
func (s *session) declineRcpt(class errorClass, code uint16, enhanced, text string) {
	s.tx.refused++
	s.decline(class, code, enhanced, text)
	if s.tx.refused > s.l.MaxRecipients {
		s.fatal(errLimit, 421, "4.7.0", "Too many refused recipients, closing connection")
	}
}
