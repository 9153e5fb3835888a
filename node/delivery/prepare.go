package delivery

import (
	"errors"
	"time"

	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// Enhanced codes of what is decided before anything is sent (RFC 3463, RFC 6531
// 3.5, RFC 6152, RFC 1870).
var (
	enhBadRecipient = message.Enhanced{Class: 5, Subject: 1, Detail: 3}
	enhBadSender    = message.Enhanced{Class: 5, Subject: 1, Detail: 7}
	enhNoUTF8       = message.Enhanced{Class: 5, Subject: 6, Detail: 7}
	enhNoUTF8Header = message.Enhanced{Class: 5, Subject: 6, Detail: 9}
	enhNeedsConvert = message.Enhanced{Class: 5, Subject: 6, Detail: 3}
	enhBadContent   = message.Enhanced{Class: 5, Subject: 6, Detail: 0}
	enhTooLarge     = message.Enhanced{Class: 5, Subject: 3, Detail: 4}
	enhNoContent    = message.Enhanced{Class: 4, Subject: 3, Detail: 0}
	enhExpired      = message.Enhanced{Class: 4, Subject: 4, Detail: 7}
)

// prepare makes the content, checks it and the envelope against what the peer
// offers, and lists the recipients to offer. What cannot be sent here gets its
// outcome at once, without a word on the wire.
func (s *Session) prepare(job *Job) *Result {
	r := newResult(job)
	local := func(code uint16, e message.Enhanced, phase message.Phase, text string) *Result {
		r.settleAll(message.Fail(code, e, phase, message.FaultLocal, text))
		return r
	}
	start := time.Now()
	if !job.Deadline.IsZero() && !start.Before(job.Deadline) {
		return local(451, enhExpired, message.PhasePolicy, "the attempt's time is over before it began")
	}
	pieces, err := job.Content.Prepare(s.ctx)
	r.Stages.Sign = time.Since(start)
	if err != nil {
		if s.wire.stopped.Load() {
			return r
		}
		r.settleAll(contentReply(err))
		return r
	}
	r.pieces, r.facts = pieces, smtp.ScanContent(pieces)
	if !s.addresses(r) {
		return r
	}
	switch {
	case s.caps.MaxSize > 0 && int64(r.facts.Size) > s.caps.MaxSize:
		return local(552, enhTooLarge, message.PhaseMail, "the message is larger than the host takes")
	case job.Body == message.BodyBinaryMIME && r.facts.Unsafe != "":
		if !s.caps.Chunking || !s.caps.BinaryMIME {
			return local(554, enhNeedsConvert, message.PhaseMail, "the host does not take binary content (BINARYMIME)")
		}
		r.mail.SendBody, r.mail.Body = true, message.BodyBinaryMIME
	case r.facts.Unsafe != "":
		return local(554, enhBadContent, message.PhasePolicy, "the content has "+r.facts.Unsafe)
	case r.facts.EightBit && !s.caps.EightBitMIME:
		return local(554, enhNeedsConvert, message.PhaseMail, "the host does not take 8-bit content (8BITMIME)")
	case r.facts.EightBit:
		r.mail.SendBody, r.mail.Body = true, message.Body8BitMIME
	}
	if job.UTF8 && !s.caps.SMTPUTF8 && !smtp.HeaderIsASCII(pieces) {
		return local(554, enhNoUTF8Header, message.PhaseMail, "the header is UTF-8, which the host does not take (SMTPUTF8)")
	}
	r.mail.Size = -1
	if s.caps.Size {
		r.mail.Size = r.facts.Size
	}
	if s.caps.DSN {
		r.mail.Return, r.mail.EnvID = job.Return, job.EnvID
		r.DSNRelayed = true
	}
	return r
}

// addresses checks the envelope and fills in todo. SMTPUTF8 is asked for when
// the message came with it or an address cannot do without.
func (s *Session) addresses(r *Result) bool {
	job := r.Job
	needUTF8 := job.UTF8
	if job.SenderOf != nil {
		for i := range job.offered() {
			if err := smtp.CheckAddress(job.SenderOf(i), false); err != nil {
				r.settleAll(addressReply(err, enhBadSender, message.PhaseMail))
				return false
			}
		}
	} else if job.Sender != "" {
		if err := smtp.CheckAddress(job.Sender, s.caps.SMTPUTF8); err != nil {
			r.settleAll(addressReply(err, enhBadSender, message.PhaseMail))
			return false
		}
		needUTF8 = needUTF8 || smtp.CheckAddress(job.Sender, false) != nil
	}
	for i, to := range job.offered() {
		address := to.Address
		if err := smtp.CheckAddress(address, false); err != nil {
			if err = smtp.CheckAddress(address, s.caps.SMTPUTF8); err != nil {
				r.settle(i, addressReply(err, enhBadRecipient, message.PhaseRcpt))
				continue
			}
			needUTF8 = true
		}
		r.todo = append(r.todo, i)
	}
	r.mail.SMTPUTF8 = needUTF8 && s.caps.SMTPUTF8
	return len(r.todo) > 0
}

func addressReply(err *smtp.AddressError, syntax message.Enhanced, phase message.Phase) message.Reply {
	if err.UTF8 {
		return message.Fail(553, enhNoUTF8, phase, message.FaultLocal, err.Reason)
	}
	return message.Fail(553, syntax, phase, message.FaultLocal, err.Reason)
}

func contentReply(err error) message.Reply {
	var c *ContentError
	if errors.As(err, &c) {
		return c.Reply
	}
	return message.Fail(451, enhNoContent, message.PhasePolicy, message.FaultLocal, "the content could not be made ready")
}
