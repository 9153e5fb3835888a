package smtp

import (
	"net/netip"
	"unicode/utf8"
)

// Bounds on addresses (RFC 5321 4.5.3.1). A path is an address with its angle
// brackets.
const (
	MaxLocal  = 64
	MaxDomain = 255
	MaxPath   = 256
)

// Refusals of addresses: 5.1.7 for the sender, 5.1.3 for a recipient.
var (
	errFrom       = refusal(501, 5, 4, "Syntax: MAIL FROM:<address>")
	errTo         = refusal(501, 5, 4, "Syntax: RCPT TO:<address>")
	errSender     = refusal(501, 1, 7, "Bad sender address syntax")
	errRecipient  = refusal(501, 1, 3, "Bad recipient address syntax")
	errSenderLong = refusal(501, 1, 7, "Sender address too long")
	errRcptLong   = refusal(501, 1, 3, "Recipient address too long")
)

// Path is a parsed reverse-path or forward-path. Its bytes point into the
// command line.
type Path struct {
	// Address is "local@domain" exactly as it stood on the wire, a quoted
	// local part with its quotes: nothing is ever unquoted, so nothing in a
	// local part can become a parameter when the address is sent on. Empty is
	// the null reverse-path; "postmaster" alone has no domain.
	Address []byte
	// At is the place of the "@", -1 where there is none.
	At int
	// NonASCII says that the address can travel only with SMTPUTF8.
	NonASCII bool
}

// Domain is what follows the "@", nil where there is none.
func (p *Path) Domain() []byte {
	if p.At < 0 {
		return nil
	}
	return p.Address[p.At+1:]
}

// ParseReversePath reads the argument of MAIL and returns the parameters that
// follow the path. Spaces after the colon are taken although RFC 5321 3.3
// forbids them: too many programs send them, and they cannot be misread.
func ParseReversePath(arg []byte) (Path, []byte, *SyntaxError) {
	if len(arg) < 5 || !equalFold(arg[:5], "FROM:") {
		return Path{}, nil, errFrom
	}
	arg = trimSpaces(arg[5:])
	if len(arg) >= 2 && arg[0] == '<' && arg[1] == '>' {
		if len(arg) > 2 && arg[2] != ' ' {
			return Path{}, nil, errSender
		}
		return Path{At: -1}, trimSpaces(arg[2:]), nil
	}
	p, rest, fault := parsePath(arg)
	switch fault {
	case tooLong:
		return Path{}, nil, errSenderLong
	case malformed:
		return Path{}, nil, errSender
	}
	return p, rest, nil
}

// ParseForwardPath reads the argument of RCPT and returns the parameters that
// follow the path. <postmaster> without a domain is taken (RFC 5321 4.1.1.3).
func ParseForwardPath(arg []byte) (Path, []byte, *SyntaxError) {
	if len(arg) < 3 || !equalFold(arg[:3], "TO:") {
		return Path{}, nil, errTo
	}
	arg = trimSpaces(arg[3:])
	const postmaster = "<POSTMASTER>"
	if n := len(postmaster); len(arg) >= n && equalFold(arg[:n], postmaster) && (len(arg) == n || arg[n] == ' ') {
		return Path{Address: arg[1 : n-1], At: -1}, trimSpaces(arg[n:]), nil
	}
	p, rest, fault := parsePath(arg)
	switch fault {
	case tooLong:
		return Path{}, nil, errRcptLong
	case malformed:
		return Path{}, nil, errRecipient
	}
	return p, rest, nil
}

// ParseMailbox reads a bare "local@domain" that must fill b: an address from a
// header or an API. The error is of a recipient.
func ParseMailbox(b []byte) (Path, *SyntaxError) {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return Path{}, errRecipient
		}
	}
	p, n, fault := parseMailbox(b)
	switch {
	case fault == tooLong || len(b) > MaxPath-2:
		return Path{}, errRcptLong
	case fault != wellFormed || n != len(b) || (p.NonASCII && !validText(b)):
		return Path{}, errRecipient
	}
	return p, nil
}

// CheckMailbox is ParseMailbox for text; the error says what is wrong.
func CheckMailbox(address string) error {
	if _, err := ParseMailbox([]byte(address)); err != nil {
		return err
	}
	return nil
}

type pathFault uint8

const (
	wellFormed pathFault = iota
	malformed
	tooLong
)

// parsePath reads "<[source-route:]mailbox>" and what must follow it: a space
// or nothing. The source route is checked, then dropped (RFC 5321 4.1.1.3 and
// appendix F.2).
func parsePath(b []byte) (Path, []byte, pathFault) {
	if len(b) == 0 || b[0] != '<' {
		return Path{}, nil, malformed
	}
	i := 1
	if i < len(b) && b[i] == '@' {
		n, ok := scanRoute(b[i:])
		if !ok {
			return Path{}, nil, malformed
		}
		i += n
	}
	p, n, fault := parseMailbox(b[i:])
	if fault != wellFormed {
		return Path{}, nil, fault
	}
	i += n
	if i >= len(b) || b[i] != '>' || (i+1 < len(b) && b[i+1] != ' ') {
		return Path{}, nil, malformed
	}
	if len(p.Address)+2 > MaxPath {
		return Path{}, nil, tooLong
	}
	return p, trimSpaces(b[i+1:]), wellFormed
}

// scanRoute measures "@a,@b:".
func scanRoute(b []byte) (int, bool) {
	i := 0
	for i < len(b) && b[i] == '@' {
		n, _, ok := scanDomain(b[i+1:])
		if !ok || n > MaxDomain {
			return 0, false
		}
		i += 1 + n
		if i >= len(b) {
			return 0, false
		}
		switch b[i] {
		case ':':
			return i + 1, true
		case ',':
			i++
		default:
			return 0, false
		}
	}
	return 0, false
}

// parseMailbox reads local@domain at the start of b and returns its length.
func parseMailbox(b []byte) (Path, int, pathFault) {
	local, wide, ok := scanLocal(b)
	if !ok || local >= len(b) || b[local] != '@' {
		return Path{}, 0, malformed
	}
	n, wideDomain, ok := scanDomain(b[local+1:])
	if !ok {
		return Path{}, 0, malformed
	}
	if local > MaxLocal || n > MaxDomain {
		return Path{}, 0, tooLong
	}
	end := local + 1 + n
	return Path{Address: b[:end:end], At: local, NonASCII: wide || wideDomain}, end, wellFormed
}

// scanLocal measures the local part. Dots may stand anywhere in an unquoted
// one: until 2009 Japanese carriers handed out addresses such as
// abc..def@docomo.ne.jp, .abc@ and abc.@ezweb.ne.jp, which are still in use.
// OddLocal tells them apart; for which domains they are taken, and how they are
// sent on, is policy's to say.
func scanLocal(b []byte) (n int, nonASCII, ok bool) {
	if len(b) > 0 && b[0] == '"' {
		return scanQuoted(b)
	}
	for n < len(b) {
		switch c := b[n]; {
		case c >= utf8.RuneSelf: // RFC 6531 3.3: atext is extended by UTF-8
			nonASCII = true
		case c != '.' && !atext[c]:
			return n, nonASCII, n > 0
		}
		n++
	}
	return n, nonASCII, n > 0
}

// scanQuoted measures a quoted-string (RFC 5321 4.1.2) with its quotes. The
// content may not be empty of quotes' meaning: "" is two bytes and legal.
func scanQuoted(b []byte) (n int, nonASCII, ok bool) {
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1, nonASCII, true
		case c == '\\':
			// quoted-pairSMTP: backslash and a printable ASCII byte or space.
			if i++; i >= len(b) || b[i] < ' ' || b[i] > '~' {
				return 0, false, false
			}
		case c >= utf8.RuneSelf:
			nonASCII = true
		case c < ' ' || c == 0x7f:
			return 0, false, false
		}
	}
	return 0, false, false
}

// scanDomain measures a domain or address literal. Labels are letters, digits
// and hyphens, not at either end; underscores are let through because names
// with them exist; UTF-8 makes a U-label, which IDNA judges later.
func scanDomain(b []byte) (n int, nonASCII, ok bool) {
	if len(b) > 0 && b[0] == '[' {
		n, ok = scanLiteral(b)
		return n, false, ok
	}
	label := 0
	for {
		c := byte(0)
		if n < len(b) {
			c = b[n]
		}
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c == '_':
			label++
		case c >= utf8.RuneSelf:
			nonASCII = true
			label++
		case c == '-':
			if label == 0 {
				return 0, false, false
			}
			label++
		default: // a dot, or whatever ends the domain
			if label == 0 || b[n-1] == '-' || (label > 63 && !nonASCII) {
				return 0, false, false
			}
			if c != '.' {
				return n, nonASCII, true
			}
			label = 0
		}
		n++
	}
}

// scanLiteral measures "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).
// General-address-literals name no protocol that exists, so they are refused.
func scanLiteral(b []byte) (int, bool) {
	end := 1
	for end < len(b) && b[end] != ']' {
		if end++; end > 64 {
			return 0, false
		}
	}
	if end >= len(b) {
		return 0, false
	}
	text := b[1:end]
	six := len(text) > 5 && equalFold(text[:5], "IPV6:")
	if six {
		text = text[5:]
	}
	a, err := netip.ParseAddr(string(text))
	if err != nil || a.Zone() != "" || a.Is6() != six {
		return 0, false
	}
	return end + 1, true
}

// ParseHello reads the argument of HELO and EHLO: a domain or an address
// literal. What stands there ends up in the Received header, so it must be one
// clean token; whether it is true nobody can say.
func ParseHello(arg []byte) ([]byte, *SyntaxError) {
	n, wide, ok := scanDomain(arg)
	if ok && n < len(arg) && arg[n] == '.' && n+1 == len(arg) {
		n++ // a fully qualified name with its root dot
	}
	if !ok || wide || n != len(arg) || n > MaxDomain {
		return nil, errHello
	}
	return arg, nil
}

var errHello = refusal(501, 5, 4, "Syntax: EHLO hostname")

// atext is RFC 5322 3.2.3.
var atext = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-/=?^_`{|}~" {
		t[c] = true
	}
	return t
}()
