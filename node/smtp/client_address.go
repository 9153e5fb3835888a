package smtp

import "golang.org/x/net/idna"

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
// offers: then the address needs no SMTPUTF8. The grammar is the server's own
// (path.go), so what was taken in can go out.
func wireAddress(address string, smtputf8 bool) (string, *AddressError) {
	if len(address) > MaxWireAddress {
		return "", &AddressError{Reason: "the address is too long"}
	}
	var scratch [MaxWireAddress]byte
	b := scratch[:copy(scratch[:], address)]
	at, wideLocal, ok := scanLocal(b)
	if !ok || at >= len(b) || b[at] != '@' {
		return "", &AddressError{Reason: "the local-part is not well formed"}
	}
	n, wideDomain, ok := scanDomain(b[at+1:])
	if !ok || at+1+n != len(b) || n > MaxDomain {
		return "", &AddressError{Reason: "the domain is not well formed"}
	}
	if (wideLocal || wideDomain) && !validText(b) {
		return "", &AddressError{Reason: "the address is not UTF-8 text"}
	}
	if wideLocal && !smtputf8 {
		return "", &AddressError{Reason: "the local-part needs SMTPUTF8, which the server does not offer", UTF8: true}
	}
	if !wideDomain {
		return address, nil
	}
	ascii, err := idna.Lookup.ToASCII(address[at+1:])
	if err != nil || !cleanHost(ascii) {
		return "", &AddressError{Reason: "the domain is not a valid internationalised name"}
	}
	return address[:at+1] + ascii, nil
}

// cleanHost checks a host name or address literal, all of it.
func cleanHost(name string) bool {
	n, wide, ok := scanDomain([]byte(name))
	return ok && !wide && n == len(name) && n <= MaxDomain
}
