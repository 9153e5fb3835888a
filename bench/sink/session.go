package sink

import (
	"net"
	"strings"
	"time"
)

// A Verdict is what a Session answers in one phase. The zero value is the
// phase's default success, at once.
type Verdict struct {
	// Reply is "code text". Further lines follow a "\n", with or without
	// their code: the sink makes one well-formed reply of them. "" is the
	// default success of the phase.
	Reply string
	// Delay is waited for before anything else of this verdict, with all
	// earlier replies written. A client that hangs up ends it, and so does
	// Sink.Close.
	Delay time.Duration
	Close bool // close after the reply
	Drop  bool // close (FIN) instead of any reply
	Reset bool // reset (RST) instead of any reply; goes before Drop and Close
}

// Peer is who is connected.
type Peer struct{ Local, Remote net.Addr }

// A Session decides about one connection. Connect, Hello, Mail, Recipient,
// Data and Content are asked when the protocol allows their command at that
// point; commands out of order and broken ones are refused without asking.
// A transaction begins with Mail and ends with Content; one that the client
// resets is followed by the next Mail with no call between them. A client that
// leaves without QUIT may be back on a new connection before Closed tells of
// the old one; one that the sink or QUIT ended may not.
//
// Strings may be kept. All calls come from one goroutine.
type Session interface {
	// Connect answers with the greeting. After a refusal without Close the
	// client can only QUIT (RFC 5321 3.1).
	Connect() Verdict
	// Hello answers EHLO and HELO; the default is the list of extensions.
	Hello(name string, tls bool) Verdict
	// Mail answers MAIL. params is what follows the reverse-path, as sent;
	// each names an extension that was offered.
	Mail(from, params string) Verdict
	// Recipient answers RCPT.
	Recipient(to string) Verdict
	// Data answers DATA, or the first BDAT of a transaction before its
	// chunk is taken: a refusal is then said after the chunk.
	Data() Verdict
	// Content answers the end of data.
	Content(*Received) Verdict
	// Closed is the last call: nil after QUIT or after a verdict that ended
	// the connection, io.EOF when the client left without QUIT.
	Closed(err error)
}

// Received is one message as the sink saw it. To and Data are only valid
// during the call, and so is the Received itself.
type Received struct {
	From    string
	Params  string   // of MAIL
	To      []string // accepted recipients
	Data    []byte   // dot-stuffing undone; nil if discarded
	Size    int      // of the content, dot-stuffing undone
	EHLO    string
	TLS     bool
	Chunked bool // came by BDAT
	Local   net.Addr
	Remote  net.Addr
	At      time.Time // when the read that completed it returned
}

// AcceptAll is a Session that says yes to everything. Sessions embed it and
// replace what they decide.
type AcceptAll struct{}

func (AcceptAll) Connect() Verdict            { return Verdict{} }
func (AcceptAll) Hello(string, bool) Verdict  { return Verdict{} }
func (AcceptAll) Mail(string, string) Verdict { return Verdict{} }
func (AcceptAll) Recipient(string) Verdict    { return Verdict{} }
func (AcceptAll) Data() Verdict               { return Verdict{} }
func (AcceptAll) Content(*Received) Verdict   { return Verdict{} }
func (AcceptAll) Closed(error)                {}

// hooks is the Session of a sink without NewSession: Options.Recipient and
// Options.Message.
type hooks struct {
	AcceptAll
	recipient func(from, to string) string
	message   func(*Received) string
	from      string
}

func (h *hooks) Mail(from, _ string) Verdict {
	h.from = from
	return Verdict{}
}

func (h *hooks) Recipient(to string) Verdict {
	if h.recipient == nil {
		return Verdict{}
	}
	return Verdict{Reply: h.recipient(h.from, to)}
}

func (h *hooks) Content(r *Received) Verdict {
	if h.message == nil {
		return Verdict{}
	}
	return Verdict{Reply: h.message(r)}
}

// ByName is an Options.Recipient that answers by the local part: "bounce…" is
// refused for good, "defer…" for now.
func ByName(_, to string) string {
	switch {
	case strings.HasPrefix(to, "bounce"):
		return "550 5.1.1 no such user here"
	case strings.HasPrefix(to, "defer"):
		return "451 4.7.1 try again later"
	}
	return ""
}
