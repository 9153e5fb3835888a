package smtp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"

	"hikyaku/spool/message"
)

// Capabilities is what a server offered in its answer to EHLO. The zero value
// is a server that only speaks HELO.
type Capabilities struct {
	Pipelining   bool // RFC 2920
	EightBitMIME bool // RFC 6152
	SMTPUTF8     bool // RFC 6531
	DSN          bool // RFC 3461
	Chunking     bool // RFC 3030
	BinaryMIME   bool // RFC 3030
	StartTLS     bool // RFC 3207
	Size         bool // RFC 1870
	AuthPlain    bool // RFC 4616
	AuthLogin    bool
	MaxSize      int64 // bytes, 0 when the server names no bound
	RcptMax      int   // RFC 9422: recipients of a transaction, 0 unknown
	MailMax      int   // RFC 9422: transactions of a connection, 0 unknown
}

// ParseCapabilities reads the answer to EHLO: the first line is a greeting,
// each further line a keyword with its parameters (RFC 5321 4.1.1.1). Unknown
// keywords and unreadable parameters are passed over.
func ParseCapabilities(r *RemoteReply) Capabilities {
	var c Capabilities
	_, text, more := bytes.Cut(r.Text(), []byte{'\n'})
	for more {
		var line []byte
		line, text, more = bytes.Cut(text, []byte{'\n'})
		c.add(line)
	}
	return c
}

func (c *Capabilities) add(line []byte) {
	word, params, _ := bytes.Cut(bytes.TrimSpace(line), []byte{' '})
	if len(word) > 5 && bytes.EqualFold(word[:5], []byte("AUTH=")) {
		// The form of drafts before RFC 2554, still seen beside the proper one.
		c.addAuth(word[5:])
		c.addAuth(params)
		return
	}
	switch string(bytes.ToUpper(word)) {
	case "PIPELINING":
		c.Pipelining = true
	case "8BITMIME":
		c.EightBitMIME = true
	case "SMTPUTF8":
		c.SMTPUTF8 = true
	case "DSN":
		c.DSN = true
	case "CHUNKING":
		c.Chunking = true
	case "BINARYMIME":
		c.BinaryMIME = true
	case "STARTTLS":
		c.StartTLS = true
	case "SIZE":
		c.Size = true
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(params)), 10, 64); err == nil && n > 0 {
			c.MaxSize = n
		}
	case "AUTH":
		c.addAuth(params)
	case "LIMITS":
		c.addLimits(params)
	}
}

func (c *Capabilities) addAuth(params []byte) {
	for _, m := range bytes.Fields(params) {
		switch {
		case bytes.EqualFold(m, []byte("PLAIN")):
			c.AuthPlain = true
		case bytes.EqualFold(m, []byte("LOGIN")):
			c.AuthLogin = true
		}
	}
}

func (c *Capabilities) addLimits(params []byte) {
	for _, p := range bytes.Fields(params) {
		name, value, _ := bytes.Cut(p, []byte{'='})
		n, err := strconv.ParseUint(string(value), 10, 20)
		if err != nil || n == 0 {
			continue
		}
		switch {
		case bytes.EqualFold(name, []byte("RCPTMAX")):
			c.RcptMax = int(n)
		case bytes.EqualFold(name, []byte("MAILMAX")):
			c.MailMax = int(n)
		}
	}
}

// MailParams are the parameters of MAIL. The caller sets only what the server
// offered.
type MailParams struct {
	Size     int // SIZE=, left out when negative
	Body     message.Body
	SendBody bool // send BODY= for Body
	SMTPUTF8 bool
	Return   message.Return
	EnvID    string // decoded; sent as xtext
}

// RcptParams are how RCPT is written; its parameters are for servers that offer DSN.
type RcptParams struct {
	Notify message.Notify
	ORcpt  string // "type;xtext", as it came in

	// QuoteOdd sends a local part with odd dots (OddLocal) in quotes.
	QuoteOdd bool
}

// AppendMail appends "MAIL FROM:<sender> …\r\n". The empty sender is the null
// reverse-path. A sender that is not a clean path is an *AddressError and
// nothing is appended: no caller can smuggle a parameter or a command.
func AppendMail(dst []byte, sender string, p MailParams) ([]byte, error) {
	out := append(dst, "MAIL FROM:<"...)
	if sender != "" {
		var err error
		if out, err = appendAddress(out, sender, p.SMTPUTF8); err != nil {
			return dst, err
		}
	}
	out = append(out, '>')
	if p.Size >= 0 {
		out = strconv.AppendInt(append(out, " SIZE="...), int64(p.Size), 10)
	}
	if p.SendBody {
		switch p.Body {
		case message.Body8BitMIME:
			out = append(out, " BODY=8BITMIME"...)
		case message.BodyBinaryMIME:
			out = append(out, " BODY=BINARYMIME"...)
		default:
			out = append(out, " BODY=7BIT"...)
		}
	}
	if p.SMTPUTF8 {
		out = append(out, " SMTPUTF8"...)
	}
	switch p.Return {
	case message.ReturnFull:
		out = append(out, " RET=FULL"...)
	case message.ReturnHeaders:
		out = append(out, " RET=HDRS"...)
	}
	if p.EnvID != "" {
		out = appendXtext(append(out, " ENVID="...), p.EnvID)
	}
	return append(out, '\r', '\n'), nil
}

// AppendRcpt appends "RCPT TO:<address> …\r\n". Without utf8 the address must
// be ASCII but for a domain, which is sent in A-label form. An ORCPT that is
// not clean is left out: it only serves notices.
func AppendRcpt(dst []byte, address string, utf8 bool, p RcptParams) ([]byte, error) {
	address, err := wireAddress(address, utf8)
	if err != nil {
		return dst, err
	}
	if p.QuoteOdd { // only now: in quotes, what is no address would become one
		address = QuoteOdd(address)
	}
	out := append(append(append(dst, "RCPT TO:<"...), address...), '>')
	if p.Notify != 0 {
		out = appendNotify(out, p.Notify)
	}
	if p.ORcpt != "" && cleanORcpt(p.ORcpt) {
		out = append(append(out, " ORCPT="...), p.ORcpt...)
	}
	return append(out, '\r', '\n'), nil
}

// appendNotify writes NOTIFY=; NEVER stands alone (RFC 3461 4.1).
func appendNotify(out []byte, n message.Notify) []byte {
	out = append(out, " NOTIFY="...)
	if n&message.NotifyNever != 0 {
		return append(out, "NEVER"...)
	}
	for _, w := range [...]struct {
		bit  message.Notify
		word string
	}{{message.NotifySuccess, "SUCCESS,"}, {message.NotifyFailure, "FAILURE,"}, {message.NotifyDelay, "DELAY,"}} {
		if n&w.bit != 0 {
			out = append(out, w.word...)
		}
	}
	return out[:len(out)-1]
}

// cleanORcpt checks "addr-type ; xtext" (RFC 3461 4.2) of at most 500 bytes.
func cleanORcpt(s string) bool {
	semi := -1
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || (c == '=' && semi >= 0) {
			return false
		}
		if c == ';' && semi < 0 {
			semi = i
		}
	}
	return semi > 0 && len(s) <= 500
}

// appendXtext encodes s as xtext (RFC 3461 4): printable ASCII as it is, but
// '+', '=' and everything else as +HH.
func appendXtext(out []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '+' || c == '=' {
			out = append(out, '+', hex[c>>4], hex[c&15])
			continue
		}
		out = append(out, c)
	}
	return out
}

// AppendBDAT appends "BDAT size LAST\r\n" (RFC 3030 2): the whole content is
// one chunk.
func AppendBDAT(dst []byte, size int) []byte {
	dst = strconv.AppendInt(append(dst, "BDAT "...), int64(size), 10)
	return append(dst, " LAST\r\n"...)
}

// AppendHello appends "EHLO name\r\n" or, for servers without extensions,
// "HELO name\r\n". The name is a host name or an address literal; anything
// else is an error.
func AppendHello(dst []byte, verb, name string) ([]byte, error) {
	if !cleanHost(name) {
		return dst, errors.New("the EHLO name must be a host name or an address literal")
	}
	dst = append(append(append(dst, verb...), ' '), name...)
	return append(dst, '\r', '\n'), nil
}

// AppendAuthPlain appends "AUTH PLAIN …\r\n" with its initial response
// (RFC 4616, RFC 4954 4).
func AppendAuthPlain(dst []byte, username, password string) []byte {
	dst = append(dst, "AUTH PLAIN "...)
	dst = base64.StdEncoding.AppendEncode(dst, []byte("\x00"+username+"\x00"+password))
	return append(dst, '\r', '\n')
}

// AppendAuthAnswer appends the base64 of one answer to a 334 challenge.
func AppendAuthAnswer(dst []byte, answer string) []byte {
	return append(base64.StdEncoding.AppendEncode(dst, []byte(answer)), '\r', '\n')
}
