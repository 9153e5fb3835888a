package smtp

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxWireAddress bounds an address that we send. RFC 5321 4.5.3.1.3 promises
// 256 bytes; VERP senders are longer, and servers take them.
const MaxWireAddress = 512

// An AddressError says why an address cannot be sent. UTF8 means that it is
// well formed but needs a server with SMTPUTF8 (RFC 6531).
type AddressError struct {
	Reason string
	UTF8   bool
}

// Error is the reason.
func (e *AddressError) Error() string { return "address: " + e.Reason }

// CheckAddress says whether address may stand between < and > when the server
// has SMTPUTF8 or not. nil means yes; AppendMail and AppendRcpt agree with it.
//
// It is the last door before the wire: whatever let the address in, no CR, LF,
// NUL, space or angle bracket outside a quoted string passes here, so no
// parameter or command can be smuggled in one.
func CheckAddress(address string, smtputf8 bool) *AddressError {
	_, err := wireAddress(address, smtputf8)
	return err
}

func appendAddress(dst []byte, address string, smtputf8 bool) ([]byte, error) {
	a, err := wireAddress(address, smtputf8)
	if err != nil {
		return dst, err
	}
	return append(dst, a...), nil
}

// wireAddress is the form of address that goes on the wire. An ASCII
// local-part with a U-label domain is sent with A-labels, whatever the server
// offers: then the address needs no SMTPUTF8.
func wireAddress(address string, smtputf8 bool) (string, *AddressError) {
	if len(address) > MaxWireAddress {
		return "", &AddressError{Reason: fmt.Sprintf("longer than %d bytes", MaxWireAddress)}
	}
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", &AddressError{Reason: "want local-part@domain"}
	}
	local, domain := address[:at], address[at+1:]
	if !cleanLocal(local) {
		return "", &AddressError{Reason: "the local-part is not well formed"}
	}
	asciiLocal := isASCII(local)
	if !asciiLocal && !smtputf8 {
		return "", &AddressError{Reason: "the local-part needs SMTPUTF8, which the server does not offer", UTF8: true}
	}
	if isASCII(domain) {
		if !cleanDomain(domain) && !cleanLiteral(domain) {
			return "", &AddressError{Reason: "the domain is not well formed"}
		}
		return address, nil
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || !cleanDomain(ascii) {
		return "", &AddressError{Reason: "the domain is not a valid internationalised name"}
	}
	return local + "@" + ascii, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// cleanLocal checks Dot-string or Quoted-string (RFC 5321 4.1.2) with UTF-8 as
// RFC 6531 3.3 adds it.
func cleanLocal(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	if s[0] == '"' {
		return cleanQuoted(s)
	}
	dot := true // a dot may not come next
	for _, c := range s {
		switch {
		case c == '.':
			if dot {
				return false
			}
			dot = true
			continue
		case c >= utf8.RuneSelf:
			if c < 0xa0 { // C1 controls
				return false
			}
		case !isAtext(byte(c)):
			return false
		}
		dot = false
	}
	return !dot
}

func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', isDigit(c):
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// cleanQuoted checks that s is one quoted string from its first byte to its
// last: printable ASCII, with \ in front of " and \.
func cleanQuoted(s string) bool {
	if len(s) < 2 {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c < ' ' || c == 0x7f:
			return false
		case c == 0xc2 && i+1 < len(s) && s[i+1] < 0xa0: // C1 controls
			return false
		case c == '"':
			return i == len(s)-1
		case c == '\\':
			if i++; i >= len(s)-1 || s[i] < ' ' || s[i] >= 0x7f {
				return false
			}
		}
	}
	return false
}

// cleanDomain checks labels of letters, digits, hyphens and underscores
// between single dots. The underscore is not in RFC 5321 but in the world.
func cleanDomain(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	label := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', isDigit(c), c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

// cleanLiteral checks "[192.0.2.1]" and "[IPv6:2001:db8::1]" (RFC 5321 4.1.3).
func cleanLiteral(s string) bool {
	if len(s) < 3 || s[0] != '[' || s[len(s)-1] != ']' {
		return false
	}
	s = s[1 : len(s)-1]
	v6 := len(s) > 5 && strings.EqualFold(s[:5], "IPv6:")
	if v6 {
		s = s[5:]
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6() == v6 && a.Zone() == ""
}
