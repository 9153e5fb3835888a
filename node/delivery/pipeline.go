package delivery

import (
	"time"

	"hikyaku/spool/message"
)

// mostWhole is the largest content that goes out before its recipients are
// accepted. Beyond it a round trip costs less than content sent in vain.
const mostWhole = 64 << 10

// offer sends as much of a transaction as the peer can take unanswered.
//
// With PIPELINING that is the envelope with DATA as the last command of its
// group (RFC 2920 3.1), or with CHUNKING the whole message. On a connection that
// was idle (not warm) the content waits for the answers, for the peer may have
// hung up: what it never got must not count as ambiguous.
//
// The group is written without reading in between. RFC 2920 3.1 warns of both
// sides blocked in writing: the replies to one group are at most some hundred
// bytes for each recipient, which the buffers of any TCP hold.
func (s *Session) offer(tx *transaction, warm bool) {
	s.begun++
	n := &s.client.count
	n.transactions.Add(1)
	if s.begun > 1 {
		n.reused.Add(1)
	}
	if tx.reset = s.dirty; tx.reset {
		n.resets.Add(1)
	}
	s.dirty = false
	tx.chunked = s.caps.Chunking
	if tx.stepwise = !s.caps.Pipelining; tx.stepwise {
		return
	}
	if tx.reset {
		s.appendLine("RSET\r\n")
	}
	s.appendMail(tx)
	for _, i := range tx.rcpts {
		s.appendRcpt(tx, i)
	}
	switch {
	case !tx.chunked:
		s.appendLine("DATA\r\n")
	case warm && tx.r.facts.Size <= mostWhole:
		tx.whole = true
		s.putContent(tx)
	}
}

// ahead offers the next transaction behind content that is being sent. It is
// flushed with it.
//
// After DATA's dot the transaction is over whatever the answer (RFC 5321
// 4.1.1.4), so MAIL can follow. After BDAT LAST it is so only if it succeeds
// (RFC 3030 2): a MAIL refused as nested would leave its recipients in the
// transaction of another message. So RSET goes in between.
func (s *Session) ahead(tx *transaction) *transaction {
	if tx.stepwise {
		return nil
	}
	next := s.take(true)
	if next == nil {
		return nil
	}
	s.dirty = s.dirty || tx.chunked
	s.offer(next, true)
	s.client.count.pipelined.Add(1)
	return next
}

// exchange carries an offered transaction to its end and may offer the next one
// meanwhile, which it returns.
func (s *Session) exchange(tx *transaction) (next *transaction) {
	w := s.wire
	s.head = tx
	w.limit = s.limitOf(tx)
	start := time.Now()
	if tx.whole {
		if next = s.ahead(tx); next != nil {
			w.flush()
		}
	}
	ok := s.envelope(tx)
	tx.r.Stages.Mail += lap(&start)
	switch {
	case !ok:
	case tx.whole:
		ok = s.hearWhole(tx)
	case tx.ready:
		if w.in.Buffered() > 0 {
			s.confused(message.PhaseData, "the host answers content that it has not got")
			ok = false
			break
		}
		s.putContent(tx)
		next = s.ahead(tx)
		w.flush()
		ok = s.hearDot(tx)
		s.dirty = s.dirty || (next == nil && tx.chunked && ok && !w.is(2))
	case tx.hollow:
		// RFC 2920 3.1: a peer that says 354 without a recipient gets an
		// empty content, and its answer means nothing.
		s.appendLine(".\r\n")
		w.flush()
		ok = s.hear(message.PhaseDot, s.times.Dot)
	default:
		s.dirty = s.dirty || tx.mailOK || tx.taken > 0
	}
	tx.r.Stages.Data += lap(&start)
	switch {
	case ok:
		s.ended++
	case !tx.withheld:
		s.settleLost(tx)
	}
	s.end(tx)
	return next
}

// hearWhole takes the answer to content that went with its envelope. Without a
// recipient it is a complaint that means nothing; the peer has read and
// dropped the content (RFC 3030 2).
func (s *Session) hearWhole(tx *transaction) bool {
	if len(tx.accepted) > 0 {
		return s.hearDot(tx) && s.afterChunk(tx)
	}
	if !s.hear(message.PhaseDot, s.times.Dot) {
		return false
	}
	if s.wire.is(2) && tx.taken > 0 {
		s.confused(message.PhaseDot, "the host took content for a sender that it refused")
		return false
	}
	return s.afterChunk(tx)
}

// afterChunk notes that a failed BDAT leaves the transaction open.
func (s *Session) afterChunk(tx *transaction) bool {
	if !s.wire.is(2) {
		s.dirty = true
	}
	return true
}

// envelope hears the answers to the envelope; false means that the connection
// is lost.
func (s *Session) envelope(tx *transaction) bool {
	if tx.stepwise {
		return s.step(tx)
	}
	if tx.reset && !s.hearReset(tx) {
		return false
	}
	if !s.hearMail(tx) {
		return false
	}
	for n := range tx.rcpts {
		if !s.hearRcpt(tx, n) {
			return false
		}
	}
	switch {
	case tx.whole:
	case tx.chunked:
		tx.ready = len(tx.accepted) > 0
	default:
		return s.hearData(tx)
	}
	return true
}

// step says the envelope command by command, for peers without PIPELINING.
func (s *Session) step(tx *transaction) bool {
	if tx.reset {
		s.appendLine("RSET\r\n")
		s.wire.flush()
		if !s.hearReset(tx) {
			return false
		}
	}
	s.appendMail(tx)
	s.wire.flush()
	if s.wire.withheld {
		tx.withheld = true
		return false
	}
	if !s.hearMail(tx) {
		return false
	}
	for n, i := range tx.rcpts {
		if !tx.mailOK || s.last421.Code != 0 {
			break
		}
		s.appendRcpt(tx, i)
		s.wire.flush()
		if !s.hearRcpt(tx, n) {
			return false
		}
	}
	switch {
	case s.last421.Code != 0:
		s.lose(s.last421)
		return false
	case len(tx.accepted) == 0:
	case tx.chunked:
		tx.ready = true
	default:
		s.appendLine("DATA\r\n")
		s.wire.flush()
		return s.hearData(tx)
	}
	return true
}
