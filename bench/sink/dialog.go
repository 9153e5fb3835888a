package sink

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
)

// An ending is a way in which a connection ends as it was meant to. It is an
// error so that it can travel as one.
type ending string

const (
	quits  ending = "the client said QUIT"
	closes ending = "the session closed the connection"
	drops  ending = "the session dropped the connection"
	resets ending = "the session reset the connection"
)

func (e ending) Error() string { return string(e) }

// errBadChunk ends a connection: behind a BDAT without a size nobody knows
// where the next command begins.
var errBadChunk = errors.New("BDAT without a readable size")

// dialog is one connection: what was said and what is in progress.
type dialog struct {
	wire
	sink    *Sink
	session Session
	names   arena

	refused  bool // by Connect: only QUIT is left
	greeted  bool // EHLO or HELO was accepted
	extended bool // it was EHLO

	mail    bool // MAIL was accepted
	utf8    bool // with SMTPUTF8
	failed  bool // a BDAT was refused: RSET must follow (RFC 3030 2)
	chunks  int  // BDATs accepted
	keep    bool // content is kept
	content []byte
	got     Received // To, EHLO and so on, as known so far
}

// serve carries out one connection and ends it. The caller closes it once
// more.
func serve(s *Sink, c net.Conn) {
	d := &dialog{wire: newWire(c, s.o.Idle, s.done), sink: s}
	d.got.Local, d.got.Remote = c.LocalAddr(), c.RemoteAddr()
	d.session = s.o.NewSession(Peer{Local: d.got.Local, Remote: d.got.Remote})
	err := d.converse()
	pending := d.r < d.w
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.say("421 4.4.2 silent for too long")
		pending = true
	}
	// The session hears of the end before the client can: one that counts
	// connections must not see the client's next before this one's end.
	var ours ending
	if errors.As(err, &ours) {
		d.session.Closed(nil)
	} else {
		d.session.Closed(err)
	}
	flushed := d.flush()
	switch {
	case ours == resets:
		d.reset()
	case flushed == nil && (pending || ours == closes || ours == drops):
		d.finish()
	}
	d.conn.Close()
	d.free()
}

// converse speaks until one side ends the connection.
func (d *dialog) converse() error {
	ok, err := d.answer(d.session.Connect(), d.sink.offers.greeting)
	if err != nil {
		return err
	}
	d.refused = !ok
	for {
		line, err := d.line(d.sink.o.MaxLine)
		switch {
		case err == nil:
			err = d.command(line)
		case errors.Is(err, errLineTooLong):
			d.say("500 5.5.2 command line too long")
		case errors.Is(err, errBareLF):
			d.say("500 5.5.2 command not ended by CRLF")
		}
		if err == nil && len(d.out) >= maxReplies {
			err = d.flush()
		}
		if err != nil {
			return err
		}
	}
}

// command carries out one line, which is gone after the next read.
func (d *dialog) command(line []byte) error {
	if !clean(line) {
		d.say("500 5.5.2 control character in command")
		return nil
	}
	word, arg := cutCommand(line)
	var buf [16]byte
	name := upper(&buf, word)
	if d.refused && string(name) != "QUIT" {
		d.say("503 5.5.1 only QUIT is left")
		return nil
	}
	switch string(name) {
	case "EHLO", "HELO":
		return d.hello(arg, name[0] == 'E')
	case "STARTTLS":
		return d.startTLS(arg)
	case "MAIL":
		return d.from(arg)
	case "RCPT":
		return d.recipient(arg)
	case "DATA":
		return d.data(arg)
	case "BDAT":
		return d.bdat(arg)
	case "RSET":
		d.begin()
		d.say("250 2.0.0 ok")
	case "NOOP":
		d.say("250 2.0.0 ok")
	case "VRFY":
		d.say("252 2.5.2 cannot tell, send it and see") // RFC 5321 3.5.3
	case "QUIT":
		d.say("221 2.0.0 bye")
		return quits
	default:
		d.say("500 5.5.1 unknown command")
	}
	return nil
}

// say appends a reply to what the next flush writes. A reply that cannot be
// written is noticed by the next fill.
func (d *dialog) say(reply string) (class byte) {
	d.out, class = appendReply(d.out, reply)
	return class
}

// pause does what comes before a verdict's reply: the delay, and ends without
// a reply.
func (d *dialog) pause(v Verdict) error {
	if v.Delay > 0 {
		if err := d.wait(v.Delay); err != nil {
			return err
		}
	}
	switch {
	case v.Reset:
		return resets
	case v.Drop:
		return drops
	}
	return nil
}

// answer carries out a verdict; ok says that its reply is a success (2yz or
// 3yz).
func (d *dialog) answer(v Verdict, standard string) (ok bool, err error) {
	if err := d.pause(v); err != nil {
		return false, err
	}
	if v.Reply == "" {
		v.Reply = standard
	}
	class := d.say(v.Reply)
	if v.Close {
		err = closes
	}
	return class <= '3', err
}

// hello is EHLO and HELO; both also reset the transaction (RFC 5321 4.1.4).
func (d *dialog) hello(name []byte, extended bool) error {
	if len(name) == 0 {
		d.say("501 5.5.4 a name is missing")
		return nil
	}
	d.begin()
	d.got.EHLO = d.names.keep(name)
	standard := d.sink.offers.hello
	switch {
	case extended && d.got.TLS:
		standard = d.sink.offers.secured
	case extended:
		standard = d.sink.offers.plain
	}
	ok, err := d.answer(d.session.Hello(d.got.EHLO, d.got.TLS), standard)
	d.greeted, d.extended = ok, ok && extended
	return err
}

// startTLS changes to TLS. What arrived behind the command was not protected:
// it goes unread (RFC 3207 4.2, CVE-2011-0411), and so does all that was said.
func (d *dialog) startTLS(arg []byte) error {
	switch {
	case len(arg) > 0:
		d.say("501 5.5.4 no parameters")
		return nil
	case d.sink.o.TLS == nil:
		d.say("502 5.5.1 STARTTLS is not offered")
		return nil
	case d.got.TLS:
		d.say("503 5.5.1 TLS is on already")
		return nil
	}
	d.say("220 2.0.0 go on")
	if err := d.flush(); err != nil {
		return err
	}
	d.r, d.w = 0, 0
	d.arm()
	c := tls.Server(d.raw, d.sink.o.TLS)
	if err := c.Handshake(); err != nil {
		return err
	}
	d.conn = c
	d.got.TLS, d.got.EHLO, d.greeted, d.extended = true, "", false, false
	d.begin()
	return nil
}

// begin forgets the transaction.
func (d *dialog) begin() {
	d.mail, d.utf8, d.failed, d.chunks = false, false, false, 0
	d.got.From, d.got.Params, d.got.To, d.got.Data = "", "", d.got.To[:0], nil
	if cap(d.content) > maxKept {
		d.content = nil
	}
	d.content = d.content[:0]
}

// from is MAIL.
func (d *dialog) from(arg []byte) error {
	address, rest, ok := cutPath(arg, "FROM:")
	var p params
	var refusal string
	switch {
	case !d.greeted:
		refusal = "503 5.5.1 EHLO first"
	case d.mail:
		refusal = "503 5.5.1 nested MAIL" // RFC 5321 4.1.4
	case !ok || len(address) > 0 && !mailbox(address):
		refusal = "501 5.1.7 Syntax: MAIL FROM:<address>"
	case !d.extended && len(rest) > 0:
		refusal = "555 5.5.4 no parameters without EHLO"
	default:
		refusal = p.parse(verbMail, rest, d.sink.offers.words)
	}
	switch {
	case refusal != "":
	case !p.utf8 && !ascii(address):
		refusal = "553 5.6.7 address needs SMTPUTF8" // RFC 6531 3.5
	case p.size > int64(d.sink.most):
		refusal = "552 5.3.4 message too big" // RFC 1870 6.1
	}
	if refusal != "" {
		d.say(refusal)
		return nil
	}
	d.begin()
	d.got.From, d.got.Params = d.names.keep(address), d.names.keep(rest)
	ok, err := d.answer(d.session.Mail(d.got.From, d.got.Params), "250 2.1.0 ok")
	d.mail, d.utf8 = ok, p.utf8
	return err
}

// recipient is RCPT.
func (d *dialog) recipient(arg []byte) error {
	address, rest, ok := cutPath(arg, "TO:")
	var p params
	var refusal string
	switch {
	case !d.mail:
		refusal = "503 5.5.1 MAIL first"
	case d.failed || d.chunks > 0:
		refusal = "503 5.5.1 not after BDAT" // RFC 3030 2
	case !ok || !mailbox(address) && !isPostmaster(address):
		refusal = "501 5.1.3 Syntax: RCPT TO:<address>"
	case !d.extended && len(rest) > 0:
		refusal = "555 5.5.4 no parameters without EHLO"
	case !d.utf8 && !ascii(address):
		refusal = "553 5.6.7 address needs SMTPUTF8"
	case len(d.got.To) >= d.sink.o.MaxRecipients:
		refusal = "452 4.5.3 too many recipients" // RFC 5321 4.5.3.1.10
	default:
		refusal = p.parse(verbRcpt, rest, d.sink.offers.words)
	}
	if refusal != "" {
		d.say(refusal)
		return nil
	}
	to := d.names.keep(address)
	ok, err := d.answer(d.session.Recipient(to), "250 2.1.5 ok")
	if ok {
		d.got.To = append(d.got.To, to)
	}
	return err
}

// isPostmaster is the one recipient without a domain (RFC 5321 4.5.1).
func isPostmaster(address []byte) bool {
	var buf [16]byte
	return string(upper(&buf, address)) == "POSTMASTER"
}
