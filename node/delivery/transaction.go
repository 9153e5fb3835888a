package delivery

import (
	"time"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// transaction is one MAIL … end of data on the wire: a job, or a batch of its
// recipients. The session owns it from take to end.
type transaction struct {
	r        *Result
	rcpts    []int // of the job's recipients, in the order of their RCPT; -1 when put off to the next transaction
	accepted []int
	taken    int  // RCPT answered with 2xx, whatever was said to MAIL
	reset    bool // RSET goes in front
	chunked  bool // content by BDAT
	whole    bool // content went with the envelope, before any answer
	stepwise bool // no PIPELINING: each command waits for the answer to the one before
	heard    bool // the peer has answered something
	mailOK   bool
	ready    bool  // the peer waits for content, for at least one recipient
	withheld bool  // MAIL was not sent: the source is not ours any more
	hollow   bool  // the peer waits for content although it took no recipient
	end      int64 // offset just behind the end of the content; 0 before it is queued
}

func (s *Session) newTransaction(r *Result, n int) *transaction {
	var tx *transaction
	if last := len(s.spare) - 1; last >= 0 {
		tx, s.spare = s.spare[last], s.spare[:last]
	} else {
		tx = new(transaction)
	}
	*tx = transaction{r: r, rcpts: append(tx.rcpts[:0], r.todo[:n]...), accepted: tx.accepted[:0]}
	r.todo = r.todo[:copy(r.todo, r.todo[n:])]
	r.open++
	return tx
}

// end gives the transaction up. Its job is done with its last one.
func (s *Session) end(tx *transaction) {
	r := tx.r
	r.open--
	switch {
	case len(r.todo) > 0:
		if !r.waiting {
			s.wait(r)
		}
	case r.open == 0:
		s.done(r)
	}
	tx.r = nil
	s.spare = append(s.spare, tx)
}

// appendMail and appendRcpt cannot fail: prepare has checked the addresses by
// the same rules.
func (s *Session) appendMail(tx *transaction) {
	b := s.wire.buffer()
	if s.wire.mail == 0 {
		s.wire.mail = len(b) + 1
	}
	sender := tx.r.Job.Sender
	if of := tx.r.Job.SenderOf; of != nil {
		sender = of(tx.rcpts[0])
	}
	b, err := smtp.AppendMail(b, sender, tx.r.mail)
	if err != nil {
		panic("BUG: a sender that was checked: " + err.Error())
	}
	s.wire.putBuffer(b)
}

func (s *Session) appendRcpt(tx *transaction, i int) {
	to := &tx.r.Job.Delivery.Recipients[i]
	p := smtp.RcptParams{QuoteOdd: !s.target.OddAsGiven}
	if s.caps.DSN {
		p.Notify, p.ORcpt = to.Notify, to.ORcpt
	}
	b, err := smtp.AppendRcpt(s.wire.buffer(), to.Address, tx.r.mail.SMTPUTF8, p)
	if err != nil {
		panic("BUG: a recipient that was checked: " + err.Error())
	}
	s.wire.putBuffer(b)
	s.recipients++
}

func (s *Session) appendLine(line string) {
	s.wire.putBuffer(append(s.wire.buffer(), line...))
}

// putContent queues the content and its end.
func (s *Session) putContent(tx *transaction) {
	w, r := s.wire, tx.r
	if tx.chunked {
		w.putBuffer(smtp.AppendBDAT(w.buffer(), r.facts.Size))
		for _, p := range r.pieces {
			w.put(p)
		}
		s.client.count.chunked.Add(1)
	} else {
		if r.facts.Dots {
			for p := range smtp.Stuffed(r.pieces) {
				w.put(p)
			}
		} else {
			for _, p := range r.pieces {
				w.put(p)
			}
		}
		if !r.facts.Ended {
			w.put(crlf)
		}
		w.put(finalDot)
	}
	tx.end = w.offset()
	w.noteContent(r.facts.Size)
}

var (
	crlf     = []byte("\r\n")
	finalDot = []byte(".\r\n")
)

// hearReset reads the answer to RSET. A peer that refuses RSET cannot be
// trusted to have forgotten the transaction before.
func (s *Session) hearReset(tx *transaction) bool {
	if !s.hear(message.PhaseReset, s.times.Reset) {
		return false
	}
	tx.heard = true
	if !s.wire.is(2) && !tx.whole {
		s.lose(s.wire.reply.Keep(message.PhaseReset))
		return false
	}
	return true
}

// hearMail takes the answer to MAIL.
func (s *Session) hearMail(tx *transaction) bool {
	if !s.hear(message.PhaseMail, s.times.Mail) {
		return false
	}
	tx.heard = true
	switch {
	case s.wire.is(2):
		tx.mailOK = true
	case s.wire.is(3):
		s.confused(message.PhaseMail, "the host answers MAIL with a 3xx reply")
		return false
	default:
		reply := s.wire.reply.Keep(message.PhaseMail)
		for _, i := range tx.rcpts {
			tx.r.settle(i, reply)
		}
	}
	return true
}

// hearRcpt takes the answer to the n-th RCPT.
func (s *Session) hearRcpt(tx *transaction, n int) bool {
	if !s.hear(message.PhaseRcpt, s.times.Rcpt) {
		return false
	}
	i := tx.rcpts[n]
	switch {
	case s.wire.is(3):
		s.confused(message.PhaseRcpt, "the host answers RCPT with a 3xx reply")
		return false
	case s.wire.is(2):
		tx.taken++
		if tx.mailOK {
			tx.accepted = append(tx.accepted, i)
		}
	case !tx.mailOK:
		// Settled with the answer to MAIL.
	case len(tx.accepted) > 0 && tooMany(&s.wire.reply):
		s.mostRcpt = len(tx.accepted)
		tx.rcpts[n] = -1
		tx.r.todo = append(tx.r.todo, i)
		if !tx.r.waiting {
			s.wait(tx.r)
		}
	default:
		tx.r.settle(i, s.wire.reply.Keep(message.PhaseRcpt))
	}
	return true
}

// tooMany reports whether a reply to RCPT only says that the transaction has
// enough recipients (RFC 5321 4.5.3.1.10): 452, in old servers 552.
func tooMany(r *smtp.RemoteReply) bool {
	if r.Enhanced.Class == 0 {
		return r.Code == 452
	}
	return (r.Code == 452 || r.Code == 552) && r.Enhanced.Subject == 5 && r.Enhanced.Detail == 3
}

// hearData takes the answer to DATA.
func (s *Session) hearData(tx *transaction) bool {
	if !s.hear(message.PhaseData, s.times.Data) {
		return false
	}
	switch {
	case s.wire.reply.Code == 354:
		tx.ready = len(tx.accepted) > 0
		tx.hollow = tx.taken == 0
		if !tx.ready && !tx.hollow {
			// MAIL refused, RCPT and DATA taken. A dot would send an empty
			// message to somebody; only closing is safe.
			s.confused(message.PhaseData, "the host wants content for a sender that it refused")
			return false
		}
	case s.wire.is(2), s.wire.is(3):
		s.confused(message.PhaseData, "the host answers DATA with neither 354 nor a refusal")
		return false
	default:
		s.settleAccepted(tx, message.PhaseData)
	}
	return true
}

// settleAccepted gives all accepted recipients the reply just heard.
func (s *Session) settleAccepted(tx *transaction, phase message.Phase) {
	if len(tx.accepted) == 0 {
		return
	}
	reply := s.wire.reply.Keep(phase)
	for _, i := range tx.accepted {
		tx.r.settle(i, reply)
	}
}

// hearDot takes the answer to the end of the content.
func (s *Session) hearDot(tx *transaction) bool {
	if !s.hear(message.PhaseDot, s.times.Dot) {
		return false
	}
	switch {
	case s.wire.is(3):
		s.confused(message.PhaseDot, "the host answers the content with a 3xx reply")
		return false
	case s.wire.is(2) && !s.wire.gone(tx.end):
		// INVARIANT: nothing is delivered that had not left us whole.
		s.confused(message.PhaseDot, "the host accepts content that it has not got")
		return false
	}
	s.settleAccepted(tx, message.PhaseDot)
	return true
}

// settleLost gives the recipients still open an outcome when the connection is
// lost, or leaves them without one where nothing was tried: see Result.Replies.
func (s *Session) settleLost(tx *transaction) {
	// A 421 heard before the first answer to this transaction was about an
	// earlier one, and the peer hung up as it had said.
	farewell := !tx.heard && s.last421.Code != 0 && s.lost.Fault == message.FaultNone
	sent := tx.end > 0 && s.wire.gone(tx.end) && !farewell
	if !sent && (farewell || s.nothingTried(tx)) {
		return
	}
	reply := s.lost
	if sent {
		reply.Phase = message.PhaseDot
	}
	open := false
	for _, i := range tx.rcpts {
		if i >= 0 && tx.r.Replies[i].Reply.Code == 0 {
			open = true
			tx.r.settle(i, reply)
		}
	}
	if sent && open {
		tx.r.AmbiguousDot = true
	}
}

// nothingTried reports whether the connection ended before this transaction
// began for the peer: we stopped ourselves, an earlier transaction took the
// connection down, or the peer closed a connection that had carried mail. The
// next connection will tell more. Giving back without a penalty cannot go on
// for ever: another transaction had an outcome on the same connection.
func (s *Session) nothingTried(tx *transaction) bool {
	if s.wire.stopped.Load() || tx != s.head {
		return true
	}
	return s.ended > 0 && !tx.heard && (s.lost.Fault == message.FaultClosed || s.lost.Fault == message.FaultReset)
}

// lap returns the time since start and moves start to now.
func lap(start *time.Time) time.Duration {
	now := time.Now()
	d := now.Sub(*start)
	*start = now
	return d
}
