package dns

import (
	"fmt"
	"strings"

	wire "github.com/miekg/dns"
)

// zone is an immutable set of records by lower-case owner name.
type zone struct {
	records map[string][]wire.RR
	exists  map[string]bool // owner names and the empty names between them and the root
	soa     *wire.SOA
}

// maxChain bounds how far a CNAME chain is followed; a loop ends here.
const maxChain = 12

// parseZone reads master-file text (RFC 1035 5). The default TTL is 300 s. A
// name "*.example.test." answers for all names below example.test. that have
// no records of their own (RFC 4592). An SOA record in the text is the one
// given with all negative answers, else one with a negative TTL of 60 s.
func parseZone(text string) (*zone, error) {
	z := &zone{records: map[string][]wire.RR{}, exists: map[string]bool{".": true}}
	p := wire.NewZoneParser(strings.NewReader(text), ".", "zone")
	p.SetDefaultTTL(300)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := strings.ToLower(rr.Header().Name)
		z.records[name] = append(z.records[name], rr)
		if soa, ok := rr.(*wire.SOA); ok {
			z.soa = soa
		}
		for n := name; n != "." && !z.exists[n]; n = parent(n) {
			z.exists[n] = true
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("parse zone: %w", err)
	}
	if z.soa == nil {
		z.soa = &wire.SOA{
			Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeSOA, Class: wire.ClassINET, Ttl: 60},
			Ns:  "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: 60,
		}
	}
	return z, nil
}

func parent(name string) string {
	i, end := wire.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[i:]
}

// find returns the records of a name, made from a wildcard if need be.
func (z *zone) find(name string) (rrs []wire.RR, exists bool) {
	if z.exists[name] {
		return z.records[name], true
	}
	for n := parent(name); ; n = parent(n) {
		wild := "*." + n
		if n == "." {
			wild = "*."
		}
		if stars := z.records[wild]; stars != nil {
			for _, rr := range stars {
				c := wire.Copy(rr)
				c.Header().Name = name
				rrs = append(rrs, c)
			}
			return rrs, true
		}
		if z.exists[n] || n == "." {
			return nil, false // RFC 4592: the closest encloser decides
		}
	}
}

// answer fills in the answer to one question.
func (z *zone) answer(m *wire.Msg, q wire.Question) {
	name := strings.ToLower(q.Name)
	for range maxChain {
		rrs, exists := z.find(name)
		if !exists {
			m.Rcode = wire.RcodeNameError
			m.Ns = append(m.Ns, z.soa)
			return
		}
		target := ""
		found := false
		for _, rr := range rrs {
			switch t := rr.Header().Rrtype; {
			case t == q.Qtype || q.Qtype == wire.TypeANY:
				m.Answer = append(m.Answer, rr)
				found = true
			case t == wire.TypeCNAME:
				m.Answer = append(m.Answer, rr)
				target = strings.ToLower(rr.(*wire.CNAME).Target)
			}
		}
		if found {
			return
		}
		if target == "" {
			m.Ns = append(m.Ns, z.soa)
			return
		}
		name = target
	}
}
