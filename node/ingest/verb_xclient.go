package ingest

import (
	"bytes"
	"net/netip"

	"hikyaku/node/smtp"
)

// xclient takes a trusted proxy's word for who the client is (Postfix's
// XCLIENT_README). The session then begins anew as that client's.
func (s *session) xclient(arg []byte) {
	switch {
	case !s.mayXclient():
		s.refuse(errRelay, 550, "5.7.0", "Insufficient authorization")
		return
	case s.phase > phaseReady:
		s.refuse(errSequence, 503, "5.5.1", "XCLIENT is not allowed in a mail transaction")
		return
	case len(arg) == 0:
		s.refuse(errSyntax, 501, "5.5.4", "Syntax: XCLIENT attribute=value")
		return
	}
	addr := s.client
	for word := range bytes.FieldsSeq(arg) {
		key, value, ok := bytes.Cut(word, []byte("="))
		var scratch [256]byte
		if ok && len(value) <= len(scratch) {
			value, ok = smtp.AppendUnxtext(scratch[:0], value)
		}
		if !ok || len(value) == 0 {
			s.refuse(errSyntax, 501, "5.5.4", "Bad XCLIENT attribute")
			return
		}
		switch {
		case bytes.EqualFold(key, []byte("ADDR")):
			if addr, ok = xclientAddr(value); !ok {
				s.refuse(errSyntax, 501, "5.5.4", "Bad XCLIENT ADDR")
				return
			}
		case bytes.EqualFold(key, []byte("NAME")), bytes.EqualFold(key, []byte("PORT")),
			bytes.EqualFold(key, []byte("PROTO")), bytes.EqualFold(key, []byte("HELO")):
			// Taken, and not used: nothing here hangs on them.
		default:
			s.refuse(errSyntax, 501, "5.5.4", "Unknown XCLIENT attribute")
			return
		}
	}
	s.setClient(addr)
	s.restart()
	s.banner()
}

// xclientAddr reads "192.0.2.1" or "IPV6:2001:db8::1". An unavailable address
// is a client without rights.
func xclientAddr(v []byte) (netip.Addr, bool) {
	if bytes.EqualFold(v, []byte("[UNAVAILABLE]")) || bytes.EqualFold(v, []byte("[TEMPUNAVAIL]")) {
		return netip.Addr{}, true
	}
	if len(v) > 5 && bytes.EqualFold(v[:5], []byte("IPV6:")) {
		v = v[5:]
	}
	a, err := netip.ParseAddr(string(v))
	return a.Unmap(), err == nil && a.Zone() == ""
}
