package ingest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/node/smtp"
	"hikyaku/spool/message"
)

// phase is where a session stands. See the diagram in doc.go.
type phase uint8

const (
	phaseStart phase = iota // no EHLO or HELO yet
	phaseReady              // greeted, no transaction
	phaseMail               // MAIL taken
	phaseRcpt               // at least one RCPT taken
	phaseChunk              // at least one BDAT taken, LAST still to come
)

// session is one connection. Its goroutine is the only one that touches it,
// but for wake.
type session struct {
	srv  *SMTPServer
	l    *smtpListener
	raw  net.Conn // under TLS too: for deadlines and closing from outside
	wire *wire
	id   uint64

	peer     netip.Addr // who is connected to us
	client   netip.Addr // who that speaks for: PROXY and XCLIENT change it
	clientIP string     // client as text, for Received and events
	counted  netip.Addr // the address counted in l.clients, if any
	tls      *tls.ConnectionState

	started  time.Time
	phase    phase
	hello    string // EHLO argument
	extended bool   // EHLO, not HELO
	tenant   string // of the login, else of the network; "" may not send
	user     string // login name, "" without login
	mails    int    // MAIL commands taken
	errors   int    // refusals in a row
	badAuth  int
	idle     atomic.Bool // waiting for a command outside a transaction: may be woken
	closing  bool        // after the reply now in the buffer, the connection ends

	tx        transaction
	body      body
	header    header
	domain    domainCache
	authors   authors
	promises  []promise // replies that wait for the disk, in the order of the output
	sender    string    // of the last MAIL: most sessions send as one
	date      dateCache
	added     []byte // scratch: the header fields that we put in front
	discarded int64  // bytes of chunks that nobody wanted
}

// transaction is what MAIL, RCPT and BDAT gather. Its zero value is none.
type transaction struct {
	sender     string
	args       smtp.MailArgs
	recipients []message.Recipient
	refused    int // RCPT commands refused in this transaction
	chunks     int // BDAT commands taken
}

func newSession(srv *SMTPServer, l *smtpListener, conn net.Conn) *session {
	s := &session{srv: srv, l: l, raw: conn, id: srv.sessions.Add(1), started: time.Now()}
	s.wire = newWire(conn, l.Timeouts.Write.D())
	s.wire.settle = s.keepPromises
	return s
}

// wake makes a session that waits for a command look at the server's state.
// Called with the server's lock held; it does not block.
func (s *session) wake() {
	if s.idle.Load() {
		_ = s.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// run is the session's goroutine: greet, then one command after the other.
func (s *session) run() {
	defer s.end()
	if !s.begin() {
		return
	}
	for !s.closing {
		line, err := s.next()
		if err != nil {
			s.lost(err)
			return
		}
		s.trace(false, line)
		s.command(line)
	}
}

// end is the session's last act, whatever ended it.
func (s *session) end() {
	s.resetTransaction()
	_ = s.wire.flush()
	_ = s.wire.conn.Close()
	s.wire.release()
	if s.counted.IsValid() {
		s.l.clients.leave(s.counted)
	}
	s.l.counters.readBytes.Add(uint64(s.wire.read))
	s.l.counters.wroteBytes.Add(uint64(s.wire.wrote))
}

// next waits for a command line. Outside a transaction the wait can be ended
// by a drain: Shutdown first sets draining, then wakes idle sessions; we first
// say that we are idle, then look at draining. Whichever comes first, one of
// the two sees the other.
func (s *session) next() ([]byte, error) {
	deadline := time.Now().Add(s.l.Timeouts.Command.D())
	if s.phase >= phaseMail {
		return s.wire.line(deadline)
	}
	s.idle.Store(true)
	s.wire.drain = &s.srv.draining
	defer func() {
		s.idle.Store(false)
		s.wire.drain = nil
	}()
	if s.srv.draining.Load() {
		return nil, errDraining
	}
	return s.wire.line(deadline)
}

var errDraining = errors.New("the server drains")

// lost says goodbye where someone may still be listening.
func (s *session) lost(err error) {
	s.closing = true
	switch {
	case errors.Is(err, errBareLF):
		// What the bytes after it are, commands or the rest of a line, is a
		// matter of opinion: do not form one.
		s.fatal(errSmuggling, 521, "5.5.2", "Command line must end in CRLF, closing connection")
	case errors.Is(err, errLineLong):
		s.fatal(errSyntax, 500, "5.5.2", "Line too long, closing connection")
	case s.srv.draining.Load():
		s.fatal(errUnavailable, 421, "4.3.2", "Service shutting down, try again later")
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.fatal(errLimit, 421, "4.4.2", "Timeout, closing connection")
	}
}

// command runs one command line.
func (s *session) command(line []byte) {
	cmd, bad := smtp.ParseCommand(line)
	if bad != nil {
		s.refuseSyntax(bad)
		return
	}
	if len(line)+2 > s.lineLimit(cmd.Verb) {
		s.refuse(errSyntax, 500, "5.5.2", "Line too long")
		return
	}
	switch cmd.Verb {
	case smtp.VerbMAIL:
		s.mail(cmd.Arg)
	case smtp.VerbRCPT:
		s.rcpt(cmd.Arg)
	case smtp.VerbDATA:
		s.data(cmd.Arg)
	case smtp.VerbBDAT:
		s.bdat(cmd.Arg)
	case smtp.VerbEHLO:
		s.greet(cmd.Arg, true)
	case smtp.VerbHELO:
		s.greet(cmd.Arg, false)
	case smtp.VerbRSET:
		s.rset(cmd.Arg)
	case smtp.VerbNOOP:
		s.reply(250, "2.0.0", "Ok")
	case smtp.VerbQUIT:
		s.quit(cmd.Arg)
	case smtp.VerbVRFY:
		s.vrfy(cmd.Arg)
	case smtp.VerbEXPN:
		s.refuse(errSyntax, 502, "5.5.1", "EXPN is not offered")
	case smtp.VerbHELP:
		s.help()
	case smtp.VerbSTARTTLS:
		s.startTLS(cmd.Arg)
	case smtp.VerbAUTH:
		s.authenticate(cmd.Arg)
	case smtp.VerbXCLIENT:
		s.xclient(cmd.Arg)
	case smtp.VerbForeign:
		s.fatal(errSmuggling, 521, "5.5.1", "This is an SMTP server, closing connection")
	default:
		s.refuse(errSyntax, 500, "5.5.1", "Command not recognized")
	}
}

// lineLimit is the longest line of a verb with its CRLF. RFC 5321 4.5.3.1.4
// says 512, and that extensions to MAIL and RCPT add to it.
func (s *session) lineLimit(v smtp.Verb) int {
	switch v {
	case smtp.VerbMAIL, smtp.VerbRCPT:
		return s.l.MaxCommandLine
	case smtp.VerbAUTH, smtp.VerbXCLIENT:
		return maxInputLine
	}
	return 512
}

// reply adds a reply to the output. text is ours, never the client's.
func (s *session) reply(code uint16, enhanced, text string) {
	from := len(s.wire.out)
	s.wire.reply(code, enhanced, text)
	s.replied(from)
}

// replied is done for each reply: show it to the tracer, and do not let
// replies pile up before a client that only writes.
func (s *session) replied(from int) {
	s.traceReplies(s.wire.out[from:])
	if len(s.wire.out) > outputFlush {
		_ = s.wire.flush() // an error is kept; the next read reports it
	}
}

// refuse is a reply that counts as an error; too many in a row end the
// connection.
func (s *session) refuse(class errorClass, code uint16, enhanced, text string) {
	s.l.counters.errors[class].Add(1)
	s.reply(code, enhanced, text)
	if s.errors++; s.errors >= s.l.MaxErrors && !s.closing {
		s.reply(421, "4.7.0", "Too many errors, closing connection")
		s.closing = true
	}
}

// fatal is a refusal that ends the connection.
func (s *session) fatal(class errorClass, code uint16, enhanced, text string) {
	s.l.counters.errors[class].Add(1)
	s.reply(code, enhanced, text)
	s.closing = true
}

// decline is a refusal that is no fault in the dialogue: a recipient that does
// not parse, content that does not suit. It does not count towards MaxErrors:
// a mailing with thirty bad addresses in a row must not lose its connection.
func (s *session) decline(class errorClass, code uint16, enhanced, text string) {
	s.l.counters.errors[class].Add(1)
	s.reply(code, enhanced, text)
}

func (s *session) refuseSyntax(e *smtp.SyntaxError) {
	s.refuse(errSyntax, e.Code, e.Enhanced.String(), e.Text)
}

// refuseAccept passes on a refusal of the acceptance path, whose text is
// cleaned because it may be built from what was submitted.
func (s *session) refuseAccept(err error) {
	from := len(s.wire.out)
	s.wire.out = s.appendRefused(s.wire.out, err)
	s.replied(from)
}

func (s *session) appendRefused(b []byte, err error) []byte {
	s.l.counters.errors[errUnavailable].Add(1)
	var r *Refusal
	if errors.As(err, &r) && r.Code >= 400 && r.Code <= 599 {
		return appendReply(b, uint16(r.Code), r.Enhanced.String(), string(appendClean(nil, r.Text)))
	}
	s.srv.log.Error("accept message", "session", s.id, "client", s.clientIP, "error", err)
	return appendReply(b, 451, "4.3.0", "Temporary failure, try again later")
}

// resetTransaction ends a transaction, if there is one, and gives its buffer
// back.
//
// INVARIANT: after it nothing of the transaction is left: every way out of one
// (success, RSET, a refused end of data, a failed BDAT, EHLO, STARTTLS,
// XCLIENT, the end of the session) comes through here.
func (s *session) resetTransaction() {
	s.body.release(&s.srv.buffers)
	s.tx = transaction{}
	if s.phase > phaseReady {
		s.phase = phaseReady
	}
}

// setClient makes addr the client, with the rights of its network.
func (s *session) setClient(addr netip.Addr) {
	s.client = addr.Unmap().WithZone("")
	s.clientIP = s.client.String()
	s.user = ""
	s.networkTenant()
}

// networkTenant gives the session the tenant of its network, if it has one.
func (s *session) networkTenant() {
	s.tenant = ""
	if !s.client.IsValid() {
		return
	}
	if s.srv.auth != nil {
		if t, ok := s.srv.auth.Network(s.client); ok {
			s.tenant = t
			return
		}
	}
	if policy.AnyContains(s.l.RelayNetworks, s.client) {
		s.tenant = policy.DefaultName
	}
}

// traceReplies shows whole replies to the tracer.
func (s *session) traceReplies(b []byte) {
	if s.srv.tracer.Load() == nil {
		return
	}
	for l := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte("\r\n")), []byte("\r\n")) {
		s.trace(true, l)
	}
}

// trace shows a line to the tracer, when there is one that wants it.
func (s *session) trace(sent bool, line []byte) {
	if t := s.srv.tracer.Load(); t != nil && (*t).Match(s.client, s.tenant) {
		if !sent && len(line) >= 4 && bytes.EqualFold(line[:4], []byte("AUTH")) {
			line = []byte("AUTH ***")
		}
		(*t).Line(s.id, s.client, sent, line)
	}
}
