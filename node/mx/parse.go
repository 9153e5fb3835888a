package mx

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// status is what a look-up came to.
type status uint8

const (
	found  status = iota
	noData        // the name exists, without records of the type
	noName        // NXDOMAIN
	failed        // nothing that can be relied on: try again later
)

// records is the answer to one question. It is shared: never written to after
// it was put into the cache.
type records struct {
	status    status
	canonical string // the name at the end of the CNAME chain
	mx        []mxRecord
	addrs     []netip.Addr
	texts     []string // of TXT and PTR, see records.go
	until     time.Time
	why       string // of failed: "SERVFAIL", "no answer", …

	ttl  uint32 // smallest of what was used, seconds
	soa  bool   // a negative answer came with its SOA, so ttl means something
	next string // the chain goes on here, but the server did not follow it
}

type mxRecord struct {
	pref uint16
	host string // lower case, no final dot; "" is the root (RFC 7505)
}

// What a packet can be other than an answer.
var (
	errForeign   = errors.New("not the answer to this question")  // read on
	errTruncated = errors.New("truncated")                        // ask over TCP
	errNoEDNS    = errors.New("server does not understand EDNS")  // ask without
	errMalformed = errors.New("malformed answer")                 // ask another server
	errServFail  = errors.New("SERVFAIL")                         // likewise
	errRefused   = errors.New("REFUSED")                          // likewise
	errRcode     = errors.New("unexpected response code")         // likewise
	errLame      = errors.New("server does not recurse")          // likewise
	errChain     = errors.New("CNAME chain too long or circular") // give up
)

// maxChain bounds the CNAMEs followed for one question, in all answers.
const maxChain = 8

// parse reads a packet as the answer to question k with the given ID. It
// trusts the answer section only, and in it only the records along the chain
// that begins at the question; the additional section is never looked at, so a
// server cannot slip in an address for a name it was not asked about.
func parse(packet []byte, id uint16, k key) (*records, error) {
	const headerLen = 12
	if len(packet) < headerLen || binary.BigEndian.Uint16(packet) != id {
		return nil, errForeign
	}
	if packet[2]&0x80 == 0 || packet[2]&0x78 != 0 { // not a response, or not to a query
		return nil, errForeign
	}
	truncated := packet[2]&0x02 != 0
	var m dns.Msg
	if err := m.Unpack(packet); err != nil {
		if truncated {
			return nil, errTruncated // RFC 2181 9: what was cut is not to be used
		}
		return nil, errMalformed
	}
	if !answers(&m, k) {
		return nil, errForeign
	}
	if truncated {
		return nil, errTruncated
	}
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		return collect(&m, k)
	case dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers:
		return nil, errNoEDNS
	case dns.RcodeServerFailure:
		return nil, errServFail
	case dns.RcodeRefused:
		return nil, errRefused
	}
	return nil, errRcode
}

// answers compares the question section (RFC 5452 9.1). Servers that cannot
// read a query may answer FORMERR without one.
func answers(m *dns.Msg, k key) bool {
	if len(m.Question) == 0 {
		return m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented
	}
	q := m.Question[0]
	return len(m.Question) == 1 && q.Qtype == k.qtype && q.Qclass == dns.ClassINET && plain(q.Name) == k.name
}

// plain is a name in our form: lower case, no final dot.
func plain(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// collect follows the chain through the answer section.
func collect(m *dns.Msg, k key) (*records, error) {
	r := &records{canonical: k.name, ttl: ^uint32(0)}
	for range maxChain + 1 {
		target := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || plain(h.Name) != r.canonical {
				continue
			}
			if h.Rrtype == k.qtype {
				r.add(rr)
				r.ttl = min(r.ttl, h.Ttl)
			} else if c, ok := rr.(*dns.CNAME); ok && target == "" {
				target = plain(c.Target)
				r.ttl = min(r.ttl, h.Ttl)
			}
		}
		if len(r.mx)+len(r.addrs)+len(r.texts) > 0 {
			r.finish()
			return r, nil
		}
		if target == "" {
			return r.negative(m, k)
		}
		r.canonical = target
	}
	return nil, errChain
}

// add takes a record of the type asked for, unless its data is useless.
func (r *records) add(rr dns.RR) {
	switch v := rr.(type) {
	case *dns.MX:
		if host := plain(v.Mx); host == "" || hostName(host) {
			r.mx = append(r.mx, mxRecord{v.Preference, host})
		}
	case *dns.A:
		if a, ok := netip.AddrFromSlice(v.A.To4()); ok {
			r.addrs = append(r.addrs, a)
		}
	case *dns.AAAA:
		if a, ok := netip.AddrFromSlice(v.AAAA); ok {
			r.addrs = append(r.addrs, a.Unmap())
		}
	case *dns.TXT:
		r.addText(v)
	case *dns.PTR:
		if host := plain(v.Ptr); hostName(host) && len(r.texts) < MaxTexts {
			r.texts = append(r.texts, host)
		}
	}
}

// finish sorts what was found, drops doubles and cuts it to its bounds.
func (r *records) finish() {
	slices.SortFunc(r.mx, func(a, b mxRecord) int {
		if a.pref != b.pref {
			return int(a.pref) - int(b.pref)
		}
		return strings.Compare(a.host, b.host)
	})
	seen := make(map[string]bool, min(len(r.mx), MaxMX))
	kept := r.mx[:0]
	for _, m := range r.mx {
		if len(kept) == MaxMX {
			break
		}
		if !seen[m.host] { // a host named twice counts where it is preferred
			seen[m.host] = true
			kept = append(kept, m)
		}
	}
	r.mx = slices.Clip(kept)
	slices.SortFunc(r.addrs, netip.Addr.Compare)
	r.addrs = slices.Compact(r.addrs)
	if len(r.addrs) > MaxAddrs {
		r.addrs = slices.Clone(r.addrs[:MaxAddrs])
	}
}

// negative judges an answer without records of the type at the end of the
// chain (RFC 2308 2).
func (r *records) negative(m *dns.Msg, k key) (*records, error) {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			r.soa = true
			r.ttl = min(r.ttl, soa.Hdr.Ttl, soa.Minttl) // RFC 2308 5
		}
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		r.status = noName
	case useless(m, r.canonical, k.qtype):
		// MX records that name no possible host: there is an answer, and it
		// must not become an implicit MX.
		r.status = found
	case r.soa:
		r.status = noData
	case r.canonical != k.name:
		r.next = r.canonical // the server stopped in mid-chain
	case !m.RecursionAvailable && !m.Authoritative:
		return nil, errLame
	default:
		r.status = noData
	}
	return r, nil
}

func useless(m *dns.Msg, name string, qtype uint16) bool {
	return slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		h := rr.Header()
		return h.Rrtype == qtype && h.Class == dns.ClassINET && plain(h.Name) == name
	})
}

// hostName takes names that a host can have: letters, digits, hyphens and, as
// they occur, underscores, in labels of 1 to 63 bytes, 253 in all. Text that
// is an IPv4 address, the most common mistake in MX records, is no name.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	if label == 0 {
		return false
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") != "" // no top-level domain is a number
}
