package load

import (
	"bytes"
	"context"
	"strconv"
)

// appendEnvelope appends MAIL and the RCPTs of a message; RSET first where the
// last transaction may be open still, or its sender would be this one's.
func (c *smtpClient) appendEnvelope(t *task) {
	b := c.out
	if t.reset, c.open = c.open, false; t.reset {
		b = append(b, "RSET\r\n"...)
	}
	b = append(b, "MAIL FROM:<"...)
	b = append(append(b, t.msg.Sender...), ">\r\n"...)
	for k := range t.state {
		b = c.s.mix.AppendRecipient(append(b, "RCPT TO:<"...), t.number(k))
		b = append(b, ">\r\n"...)
	}
	c.out = b
}

// appendContent appends content as it goes behind DATA: dots at the start of
// lines doubled, and the line that ends it (RFC 5321 4.5.2).
func (c *smtpClient) appendContent(t *task) {
	c.makeContent(t)
	c.out = appendStuffed(c.out, c.content)
	c.out = append(c.out, ".\r\n"...)
}

func (c *smtpClient) makeContent(t *task) {
	c.content = c.s.mix.AppendControl(c.content[:0], &t.msg)
	c.content = c.s.mix.AppendContentOf(c.content, &t.msg)
}

// appendStuffed looks for dots, not for line ends: there are fewer.
func appendStuffed(dst, content []byte) []byte {
	from := 0
	for at := 0; ; {
		i := bytes.IndexByte(content[at:], '.')
		if i < 0 {
			return append(dst, content[from:]...)
		}
		if at += i; at == 0 || content[at-1] == '\n' {
			dst = append(append(dst, content[from:at]...), '.')
			from = at
		}
		at++
	}
}

// judge says what a code means for a recipient.
func judge(code int) verdict {
	switch {
	case code < 400:
		return yes
	case code < 500:
		return later
	}
	return no
}

// goodbye turns 421 into the end of the connection (RFC 5321 3.8), after the
// reply was booked.
func goodbye(code int) error {
	if code == 421 {
		return errGoodbye
	}
	return nil
}

// readEnvelope reads the replies to MAIL and RCPT. Recipients that are still to
// be sent to stay unsent; taken is how many. When MAIL was refused, what
// the server says to RCPT is about the missing MAIL.
func (c *smtpClient) readEnvelope(t *task) (taken int, err error) {
	mail, err := c.answerMail(t)
	if err != nil {
		return 0, err
	}
	if v := judge(mail.code); v != yes {
		t.all(unsent, v)
		if err := goodbye(mail.code); err != nil {
			return 0, err
		}
		for range t.state {
			if _, err := c.in.read(); err != nil {
				return 0, &phaseError{"rcpt", err}
			}
		}
		return 0, nil
	}
	for k := range t.state {
		r, err := c.answer("rcpt")
		if err != nil {
			return 0, err
		}
		if v := judge(r.code); v != yes {
			t.state[k] = v
			if err := goodbye(r.code); err != nil {
				t.all(unsent, v)
				return 0, err
			}
			continue
		}
		taken++
	}
	return taken, nil
}

// answerMail reads the reply to MAIL, and the one to RSET in front of it.
func (c *smtpClient) answerMail(t *task) (reply, error) {
	if t.reset {
		if r, err := c.answer("mail"); err != nil || goodbye(r.code) != nil {
			return r, err
		}
	}
	return c.answer("mail")
}

// readEnd reads the reply to the content and books the message, which is the
// first in flight. A recipient's own refusal stands.
func (c *smtpClient) readEnd(from verdict) error {
	t := &c.flights[0]
	r, err := c.answer("content")
	if err != nil {
		return err
	}
	t.all(from, judge(r.code))
	c.landed()
	return goodbye(r.code)
}

// landed takes the first message out of flight.
func (c *smtpClient) landed() {
	t := c.flights[0]
	c.flights = append(c.flights[:0], c.flights[1:]...)
	c.sent++
	c.finish(&t, t.msg.Size)
}

// take puts one more message in flight.
func (c *smtpClient) take(ctx context.Context, wait bool) bool {
	if c.full() {
		return false
	}
	t, ok := c.next(ctx, wait)
	if ok {
		c.flights = append(c.flights, t)
	}
	return ok
}

// plain sends each command after the answer to the one before.
func (c *smtpClient) plain(ctx context.Context) error {
	for len(c.flights) > 0 || c.take(ctx, true) {
		t := &c.flights[0]
		t.began = c.s.now()
		if err := c.plainMessage(t); err != nil {
			return err
		}
	}
	return nil
}

func (c *smtpClient) plainMessage(t *task) error {
	c.out = append(append(append(c.out, "MAIL FROM:<"...), t.msg.Sender...), ">\r\n"...)
	r, err := c.say("mail")
	if err != nil {
		return err
	}
	if v := judge(r.code); v != yes {
		t.all(unsent, v)
		c.landed()
		return goodbye(r.code)
	}
	taken := 0
	for k := range t.state {
		c.out = append(c.s.mix.AppendRecipient(append(c.out, "RCPT TO:<"...), t.number(k)), ">\r\n"...)
		if r, err = c.say("rcpt"); err != nil {
			return err
		}
		if v := judge(r.code); v != yes {
			t.state[k] = v
			if err := goodbye(r.code); err != nil {
				t.all(unsent, v)
				return err
			}
		} else {
			taken++
		}
	}
	if taken == 0 {
		c.landed()
		c.out = append(c.out, "RSET\r\n"...)
		_, err := c.say("rcpt")
		return err
	}
	c.out = append(c.out, "DATA\r\n"...)
	if r, err = c.say("data"); err != nil {
		return err
	}
	if r.code != 354 {
		t.all(unsent, max(judge(r.code), later))
		c.landed()
		return goodbye(r.code)
	}
	c.appendContent(t)
	t.all(unsent, unknown)
	if err := c.write("content"); err != nil {
		return err
	}
	return c.readEnd(unknown)
}

// say sends one command and reads its reply.
func (c *smtpClient) say(phase string) (reply, error) {
	if err := c.write(phase); err != nil {
		return reply{}, err
	}
	return c.answer(phase)
}

// pipelining sends the envelope in one write, and the content together with the
// next envelope in the next (RFC 2920 3.1: DATA ends a group, and content may
// begin one). One message is in flight, and the envelope of another.
func (c *smtpClient) pipelining(ctx context.Context) error {
	if err := c.sendEnvelope(); err != nil {
		return err
	}
	for len(c.flights) > 0 {
		t := &c.flights[0]
		taken, err := c.readEnvelope(t)
		if err != nil {
			return err
		}
		r, err := c.in.read()
		if err != nil {
			return &phaseError{"data", err}
		}
		next := false
		switch {
		case r.code == 354 && taken == 0:
			// RFC 2920 3.1: a server may say 354 although no recipient is left; the
			// client then ends the content at once.
			c.out = append(c.out, ".\r\n"...)
			if _, err := c.say("content"); err != nil {
				return err
			}
			c.landed()
		case r.code == 354:
			if next, err = c.sendContent(ctx); err != nil {
				return err
			}
		default:
			if taken > 0 {
				c.s.refusal("data", r.code, r.text)
				t.all(unsent, max(judge(r.code), later))
			}
			c.open = true
			c.landed()
			if err := goodbye(r.code); err != nil {
				return err
			}
		}
		if !next && c.take(ctx, true) {
			if err := c.sendEnvelope(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendEnvelope writes the envelope of the last message in flight, and DATA.
func (c *smtpClient) sendEnvelope() error {
	t := &c.flights[len(c.flights)-1]
	t.began = c.s.now()
	c.appendEnvelope(t)
	c.out = append(c.out, "DATA\r\n"...)
	return c.write("mail")
}

// sendContent writes the content of the first message in flight, with the
// envelope of the next if there is one now, and reads the answer to it.
func (c *smtpClient) sendContent(ctx context.Context) (next bool, err error) {
	c.appendContent(&c.flights[0])
	c.flights[0].all(unsent, unknown)
	if next = c.take(ctx, false); next {
		t := &c.flights[1]
		t.began = c.s.now()
		c.appendEnvelope(t)
		c.out = append(c.out, "DATA\r\n"...)
	}
	if err := c.write("content"); err != nil {
		return next, err
	}
	return next, c.readEnd(unknown)
}

// chunking keeps up to Window whole messages in flight: BDAT says its size, so
// nothing has to be waited for (RFC 3030 2). It is refilled when half of them
// are answered, which halves the writes.
func (c *smtpClient) chunking(ctx context.Context) error {
	window := c.s.o.Window
	written := 0 // of the messages in flight
	for {
		for len(c.flights) < window && c.s.inWindow(len(c.flights)) && len(c.out) < maxGroup {
			if len(c.flights) == written && !c.take(ctx, written == 0 && len(c.out) == 0) {
				break
			}
			c.appendChunk(&c.flights[written])
			written++
		}
		if len(c.flights) > written { // the first of the session, at a full window of one
			c.appendChunk(&c.flights[written])
			written++
		}
		if len(c.out) > 0 {
			if err := c.write("content"); err != nil {
				return err
			}
		}
		if len(c.flights) == 0 {
			return nil
		}
		for {
			if err := c.readChunk(); err != nil {
				return err
			}
			written--
			if written <= window/2 && !(written > 0 && c.in.buffered()) {
				break
			}
		}
	}
}

// maxGroup is when a group of messages is large enough to be sent.
const maxGroup = 256 << 10

// inWindow bounds the replies that are under way: while we write, nobody reads
// them, and a server that cannot send stops reading (RFC 2920 3.1).
func (s *Source) inWindow(messages int) bool {
	return messages == 0 || (messages+1)*(s.mix.Largest()+2) <= maxReplies
}

const maxReplies = 1000

// appendChunk appends a whole message.
func (c *smtpClient) appendChunk(t *task) {
	t.began = c.s.now()
	c.appendEnvelope(t)
	c.makeContent(t)
	c.out = strconv.AppendInt(append(c.out, "BDAT "...), int64(len(c.content)), 10)
	c.out = append(append(c.out, " LAST\r\n"...), c.content...)
	t.all(unsent, unknown)
	// Whether a recipient is left when this message's end comes is not known when
	// the next one is written; without RSET, that would be taken for a part of this.
	c.open = c.s.o.Window > 1
}

// readChunk reads the replies to the first message in flight. Its content is on
// its way whatever they are: a refused BDAT takes it with it.
func (c *smtpClient) readChunk() error {
	t := &c.flights[0]
	mail, err := c.answerMail(t)
	if err != nil {
		return err
	}
	if v := judge(mail.code); v != yes {
		t.all(unknown, v)
	}
	if err := goodbye(mail.code); err != nil {
		return err
	}
	for k := range t.state {
		r, err := c.in.read()
		if err != nil {
			return &phaseError{"rcpt", err}
		}
		if v := judge(r.code); v != yes && t.state[k] == unknown {
			c.s.refusal("rcpt", r.code, r.text)
			t.state[k] = v
		}
		if err := goodbye(r.code); err != nil {
			return err
		}
	}
	if !t.has(unknown) { // the reply to BDAT is about the missing recipients
		if _, err := c.in.read(); err != nil {
			return &phaseError{"content", err}
		}
		c.open = true
		c.landed()
		return nil
	}
	return c.readEnd(unknown)
}

func (t *task) has(v verdict) bool {
	for _, s := range t.state {
		if s == v {
			return true
		}
	}
	return false
}
