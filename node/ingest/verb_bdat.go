package ingest

import (
	"time"

	"hikyaku/node/smtp"
)

// maxChunks bounds the BDAT commands of one message.
const maxChunks = 10000

// bdat takes one chunk of content (RFC 3030 2). The chunk follows the command
// whether it is welcome or not, so it is always read, or the connection ends.
//
// INVARIANT: a refused BDAT ends the transaction: what chunks were taken
// before it are gone, and the ones that a pipelining client has already sent
// are read, thrown away and answered with 503.
func (s *session) bdat(arg []byte) {
	size, last, bad := smtp.ParseBdat(arg)
	switch {
	case bad != nil:
		s.fatal(errSmuggling, bad.Code, bad.Enhanced.String(), bad.Text)
		return
	case size > int64(s.l.MaxMessageSize):
		s.fatal(errContent, 552, "5.3.4", "Chunk size exceeds the limit, closing connection")
		return
	}
	switch {
	case s.phase < phaseMail:
		s.refuseChunk(size, errSequence, 503, "5.5.1", "Send MAIL first")
		return
	case len(s.tx.recipients) == 0:
		s.refuseChunk(size, errSequence, 554, "5.5.1", "No valid recipients")
		return
	case s.phase == phaseRcpt && !s.beginBody(false):
		s.refuseChunk(size, errUnavailable, 452, "4.3.1", "Insufficient memory, try again later")
		return
	}
	s.phase = phaseChunk
	if s.tx.chunks++; s.tx.chunks > maxChunks {
		s.fatal(errLimit, 421, "4.7.0", "Too many chunks, closing connection")
		return
	}
	s.body.paceFrom, s.body.paceBytes = time.Now(), s.body.total
	end := s.body.total + size
	for s.body.total < end {
		if !s.wire.pending() {
			if err := s.wire.fill(s.contentDeadline()); err != nil {
				s.lost(err)
				return
			}
		}
		s.takeContent(int(min(end-s.body.total, int64(len(s.wire.in)))))
	}
	switch {
	case last:
		s.makeRoom(s.body.content.Growth(0) + 2)
		*s.body.p = s.body.content.Finish(*s.body.p)
		s.finish()
	case s.body.refused():
		s.finish() // says why, and ends the transaction
	default:
		s.reply(250, "2.0.0", "Ok")
	}
}

// refuseChunk throws a chunk away, then says why, and ends the transaction.
func (s *session) refuseChunk(size int64, class errorClass, code uint16, enhanced, text string) {
	s.resetTransaction()
	if s.discarded += size; s.discarded > s.floodLimit() {
		s.fatal(errLimit, 421, "4.7.0", "Too much unwanted data, closing connection")
		return
	}
	s.body.started = time.Now()
	s.body.paceFrom, s.body.paceBytes, s.body.total = s.body.started, 0, 0
	for s.body.total < size {
		if !s.wire.pending() {
			if err := s.wire.fill(s.contentDeadline()); err != nil {
				s.lost(err)
				return
			}
		}
		n := min(size-s.body.total, int64(s.wire.w-s.wire.r))
		s.wire.r += int(n)
		s.body.total += n
	}
	s.refuse(class, code, enhanced, text)
}
