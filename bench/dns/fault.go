package dns

import (
	"time"

	wire "github.com/miekg/dns"
)

// Fault is what goes wrong with the answers for a name. Zero fields do
// nothing; several can be combined.
type Fault struct {
	Delay time.Duration // before the answer; a query for it holds a goroutine that long
	Rcode int           // answer with this response code (wire numbers: 2 SERVFAIL, 5 REFUSED) and no records
	Drop  bool          // no answer at all
	// Truncate sets TC and leaves the records out over UDP; TCP is whole.
	Truncate bool
	// DropTCP gives no answer over TCP only.
	DropTCP bool
	// WrongID and WrongQuestion answer with an ID or a question that was not
	// asked; Then sends the right answer after the wrong one (UDP only).
	WrongID, WrongQuestion, Then bool
	// Lame answers with a referral: no records, no SOA, no recursion.
	Lame bool
	// NoEDNS answers queries that carry an OPT record with FORMERR, as old
	// servers do.
	NoEDNS bool
	// Raw is sent instead of a message; its first two bytes are replaced by
	// the query's ID if it has as many.
	Raw []byte
	// Edit changes the answer last.
	Edit func(*wire.Msg)
	// Times is how often the fault strikes; 0 is always.
	Times int
}

// apply turns a good answer into the packets to send, in order.
func (f *Fault) apply(query, m *wire.Msg, tcp bool) [][]byte {
	switch {
	case f.Drop, f.DropTCP && tcp:
		return nil
	case f.Raw != nil:
		raw := append([]byte(nil), f.Raw...)
		if len(raw) >= 2 {
			raw[0], raw[1] = byte(query.Id>>8), byte(query.Id)
		}
		return [][]byte{raw}
	case f.NoEDNS && query.IsEdns0() != nil:
		m.Rcode, m.Answer, m.Ns, m.Extra = wire.RcodeFormatError, nil, nil, nil
	case f.Rcode != 0:
		m.Rcode, m.Answer, m.Ns = f.Rcode, nil, nil
	case f.Lame:
		m.Rcode, m.Answer, m.RecursionAvailable = wire.RcodeSuccess, nil, false
		m.Ns = []wire.RR{&wire.NS{Hdr: wire.RR_Header{Name: "test.", Rrtype: wire.TypeNS, Class: wire.ClassINET, Ttl: 60}, Ns: "ns.test."}}
	}
	if f.Edit != nil {
		f.Edit(m)
	}
	if f.Truncate && !tcp {
		m.Truncated, m.Answer = true, nil
	}
	var packets [][]byte
	if f.WrongID || f.WrongQuestion {
		bad := m.Copy()
		if f.WrongID {
			bad.Id++
		}
		if f.WrongQuestion {
			bad.Question[0].Name = "other.test."
		}
		packets = append(packets, pack(bad))
		if !f.Then {
			return packets
		}
	}
	return append(packets, pack(m))
}

// pack encodes m; a message that has no wire form is not sent.
func pack(m *wire.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}
