package ingest

import (
	"time"

	"hikyaku/spool/message"
)

// A client that sends by BDAT need not wait for the answer to one message
// before it sends the next (RFC 3030 4.2), and what it sent is in our input
// buffer. So the wait for the disk is put off until the replies must leave,
// which is before the next read: all messages of one read share a sync, where
// each had one of its own. With DATA, whose 354 a client waits for, there is
// one message a read and nothing changes.

// promise is the reply to a message that is on its way to the disk. Its place
// in the output is kept free.
type promise struct {
	at               int // in the output
	receipt          Receipt
	id               message.ID
	size, recipients int
	repaired         bool
	errors           int // refusals in a row before it
	came             time.Time
}

// maxPromises bounds the messages of one session between client and disk. As
// all of them came in one read, the input buffer bounds their bytes.
const maxPromises = 64

// keepPromises waits for the messages on their way, in order, and puts the
// answers where they belong. It is called before replies leave, and when the
// session ends, however that comes: whoever was offered a message is asked what
// became of it.
func (s *session) keepPromises() {
	if len(s.promises) == 0 {
		return
	}
	w := s.wire
	out, from := w.spare[:0], 0
	for i := range s.promises {
		p := &s.promises[i]
		out = append(out, w.out[from:p.at]...)
		from = p.at
		var err error
		if p.receipt != nil {
			err = p.receipt.Wait(s.srv.ctx)
		}
		start := len(out)
		if err != nil {
			s.errors += p.errors
			out = s.appendRefused(out, err)
		} else {
			out = s.appendAccepted(out, p)
		}
		s.traceReplies(out[start:])
	}
	out = append(out, w.out[from:]...)
	w.spare, w.out = w.out, out
	clear(s.promises)
	s.promises = s.promises[:0]
}

// appendAccepted says that a message is ours now.
func (s *session) appendAccepted(b []byte, p *promise) []byte {
	c := &s.l.counters
	c.accepted(time.Since(p.came))
	c.messages.Add(1)
	c.recipients.Add(uint64(p.recipients))
	c.bytes.Add(uint64(p.size))
	if p.repaired {
		c.repaired.Add(1)
	}
	b = append(b, "250 2.0.0 Ok: queued as "...)
	return append(p.id.AppendText(b), '\r', '\n')
}
