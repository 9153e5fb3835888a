package ingest

import (
	"strconv"
	"time"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// body is content on its way in. Its buffer is borrowed from the server's
// buffers from beginBody to release.
type body struct {
	p         *[]byte
	content   smtp.Content
	starved   bool // no memory for more; what comes is thrown away
	total     int64
	started   time.Time
	paceFrom  time.Time // MinDataRate is measured from here
	paceBytes int64     // total at paceFrom
}

func (b *body) release(pool *buffers) {
	if b.p != nil {
		pool.put(b.p)
	}
	*b = body{}
}

// refused reports whether the content is lost already.
func (b *body) refused() bool { return b.starved || b.content.Defect != smtp.NoDefect }

// beginBody borrows a buffer, of the size that MAIL announced if it did. False
// means that there is no memory to lend.
func (s *session) beginBody(dots bool) bool {
	p := s.srv.buffers.get(int(min(s.tx.args.Size, 1<<20)))
	if p == nil {
		return false
	}
	now := time.Now()
	s.body = body{p: p, started: now, paceFrom: now}
	s.body.content.Reset(smtp.ContentRules{
		Dots: dots, Repair: s.l.LineEndings == LinesNormalize,
		MaxLine: s.l.MaxLine, MaxSize: s.l.MaxMessageSize,
	})
	return true
}

// contentDeadline is how long the next read of content may take: until the
// wait for data, the time for the whole message, or the time that the bytes
// so far have earned at MinDataRate is over.
func (s *session) contentDeadline() time.Time {
	b := &s.body
	d := time.Now().Add(s.l.Timeouts.Data.D())
	if whole := b.started.Add(s.l.Timeouts.Message.D()); whole.Before(d) {
		d = whole
	}
	earned := time.Duration(b.total-b.paceBytes) * time.Second / time.Duration(s.l.MinDataRate)
	if pace := b.paceFrom.Add(rateGrace + earned); pace.Before(d) {
		d = pace
	}
	return d
}

// takeContent scans up to most bytes of waiting input into the body.
func (s *session) takeContent(most int) smtp.Verdict {
	b, w := &s.body, s.wire
	src := w.in[w.r:min(w.w, w.r+most)]
	s.makeRoom(b.content.Growth(len(src)))
	out, n, verdict := b.content.Scan(*b.p, src)
	*b.p = out
	w.r += n
	b.total += int64(n)
	return verdict
}

// makeRoom makes sure that n bytes can be appended to the body, or gives the
// message up. Content that is refused already is not appended to.
func (s *session) makeRoom(n int) {
	b := &s.body
	need := min(len(*b.p)+n, s.l.MaxMessageSize)
	if need <= cap(*b.p) || b.refused() {
		return
	}
	var ok bool
	if b.p, ok = s.srv.buffers.grow(b.p, need); !ok {
		b.starved = true
		b.content.Abandon()
	}
}

// finish judges complete content, stores it and answers. The transaction is
// over, whatever the answer.
func (s *session) finish() {
	came := time.Now()
	if s.srv.tracer.Load() != nil {
		s.trace(false, strconv.AppendInt([]byte("(content, bytes) "), s.body.total, 10))
	}
	defer s.resetTransaction()
	if !s.contentSuits() {
		return
	}
	sub := s.submission(came)
	if !s.obeyHeaders(sub, came) {
		return
	}
	p := promise{at: len(s.wire.out), id: sub.Message.ID, size: len(sub.Message.Raw), recipients: len(sub.Recipients),
		repaired: s.body.content.Repairs > 0, came: came}
	var err error
	if p.receipt, err = s.srv.acceptor.Offer(s.srv.ctx, sub); err != nil {
		s.refuseAccept(err)
		return
	}
	// The commands behind it in the buffer are counted as if it is accepted, which
	// is what becomes of nearly all; keepPromises corrects the rest.
	p.errors, s.errors = s.errors, 0
	s.promises = append(s.promises, p)
	if len(s.promises) == maxPromises || s.srv.tracer.Load() != nil {
		s.keepPromises()
	}
}

// contentSuits refuses content for its bytes or its header section.
func (s *session) contentSuits() bool {
	b := &s.body
	switch {
	case b.starved:
		s.decline(errUnavailable, 452, "4.3.1", "Insufficient memory, try again later")
		return false
	case b.content.Defect == smtp.TooLarge:
		s.decline(errContent, 552, "5.3.4", "Message size exceeds the limit")
		return false
	case b.content.Defect != smtp.NoDefect:
		s.decline(errContent, 550, "5.6.0", "Content refused: "+b.content.Defect.String()+" at line "+strconv.Itoa(b.content.DefectLine))
		return false
	}
	if fault := s.header.scan(*b.p, s.l); fault != nil {
		s.decline(fault.class, fault.code, fault.enhanced, fault.text)
		return false
	}
	return s.fromSuits()
}

// submission builds what the acceptance path takes, but for what X-Hikyaku
// headers say.
func (s *session) submission(now time.Time) *Submission {
	raw := *s.body.p
	a := &s.tx.args
	m := &message.Message{
		ID:         s.srv.acceptor.NewID(now),
		Sender:     s.tx.sender,
		Return:     a.Return,
		EnvID:      string(a.EnvID()),
		Tenant:     s.tenant,
		Priority:   message.Normal,
		Accepted:   now.UTC().Truncate(time.Microsecond),
		From:       s.from(),
		Via:        "smtp",
		HeaderFrom: s.header.fromDomain,
	}
	sub := &Submission{Message: m, Recipients: s.tx.recipients}
	m.UTF8 = a.UTF8 && s.needsUTF8(raw)
	if a.PriorityGiven {
		m.Priority, sub.PriorityGiven = priorityClass(a.Priority), true
	}
	switch {
	case a.HoldFor > 0:
		sub.SendAt = now.Add(a.HoldFor)
	case !a.HoldUntil.IsZero():
		sub.SendAt = a.HoldUntil
	}
	m.Raw = s.assemble(m, raw)
	if smtp.Has8Bit(m.Raw) { // BODY= is a promise; what counts is what is there
		m.Body = message.Body8BitMIME
	}
	return sub
}

// from says who handed the message in, as the events show it.
func (s *session) from() string {
	if s.user != "" {
		return "user " + s.user + " " + s.clientIP
	}
	return s.clientIP
}

// priorityClass maps MT-PRIORITY (RFC 6710) onto the classes.
func priorityClass(p int8) message.Priority {
	switch {
	case p >= 3:
		return message.High
	case p <= -3:
		return message.Low
	}
	return message.Normal
}

// needsUTF8 says whether a message announced with SMTPUTF8 really needs it on
// the next hop: only if an address or the header section is not ASCII.
func (s *session) needsUTF8(raw []byte) bool {
	if hasHigh(s.tx.sender) || smtp.Has8Bit(raw[:s.header.bodyAt]) {
		return true
	}
	for i := range s.tx.recipients {
		if hasHigh(s.tx.recipients[i].Address) {
			return true
		}
	}
	return false
}

func hasHigh(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return true
		}
	}
	return false
}
