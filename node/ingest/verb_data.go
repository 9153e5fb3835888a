package ingest

import (
	"hikyaku/node/smtp"
)

// data takes content up to CRLF.CRLF (RFC 5321 4.1.1.4).
func (s *session) data(arg []byte) {
	switch {
	case s.wire.pending():
		// DATA is the last command of a group (RFC 2920 3.1). What follows it
		// here would be content if DATA is taken and commands if it is not,
		// which is for the sender's victim to find out.
		s.fatal(errSmuggling, 503, "5.5.0", "Input behind DATA before its reply, closing connection")
		return
	case len(arg) > 0:
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: DATA")
		return
	case s.phase < phaseMail:
		s.refuse(errSequence, 503, "5.5.1", "Send MAIL first")
		return
	case s.phase == phaseChunk: // RFC 3030 2
		s.refuse(errSequence, 503, "5.5.1", "DATA and BDAT cannot be mixed")
		return
	case len(s.tx.recipients) == 0:
		s.refuse(errSequence, 554, "5.5.1", "No valid recipients") // RFC 5321 3.3
		return
	case !s.beginBody(true):
		s.resetTransaction()
		s.decline(errUnavailable, 452, "4.3.1", "Insufficient memory, try again later")
		return
	}
	s.reply(354, "", "End data with <CR><LF>.<CR><LF>")
	for {
		if !s.wire.pending() {
			if err := s.wire.fill(s.contentDeadline()); err != nil {
				s.lost(err)
				return
			}
		}
		switch s.takeContent(len(s.wire.in)) {
		case smtp.End:
			s.finish()
			return
		case smtp.LookAlike:
			s.fatal(errSmuggling, 521, "5.6.0", "Ambiguous end of data, closing connection")
			return
		}
		if s.body.total > s.floodLimit() {
			s.fatal(errLimit, 421, "4.7.0", "Far too much data, closing connection")
			return
		}
	}
}

// floodLimit bounds how much content is read and thrown away to get to the end
// of a message that is refused already.
func (s *session) floodLimit() int64 { return 2*int64(s.l.MaxMessageSize) + 1<<20 }
