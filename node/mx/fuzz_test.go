package mx_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"hikyaku/node/mx"
)

// FuzzAnswer feeds packets to the response handler: no crash, nothing beyond
// the bounds, no name with a byte that could do harm in a log or a reply, and
// nothing accepted that is not the answer to our question.
func FuzzAnswer(f *testing.F) {
	for _, records := range [][]string{
		{"one.test. 300 IN MX 10 mx.test."},
		{"one.test. 300 IN MX 0 ."},
		{"one.test. 300 IN CNAME two.test.", "two.test. 300 IN MX 10 a.test.", "two.test. 5 IN MX 10 b.test."},
		{"one.test. 300 IN CNAME one.test."},
		{"one.test. 300 IN A 192.0.2.1", "one.test. 300 IN AAAA 2001:db8::1"},
		{`one.test. 300 IN MX 10 a\000b.test.`},
		{`one.test. 300 IN TXT "a" "\200\"b\\"`, `one.test. 300 IN TXT ""`},
		{`one.test. 300 IN PTR a.test.`, `one.test. 300 IN PTR a\000b.test.`},
		{},
	} {
		m := new(wire.Msg).SetQuestion("one.test.", wire.TypeMX)
		m.Id, m.Response = 7, true
		for _, text := range records {
			rr, err := wire.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		for _, rcode := range []int{0, 1, 2, 3, 5} {
			m.Rcode = rcode
			packet, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packet, wire.TypeMX)
			f.Add(packet, wire.TypeA)
			f.Add(packet, wire.TypeTXT)
			f.Add(packet, wire.TypePTR)
			f.Add(packet[:len(packet)/2], wire.TypeMX)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte, qtype uint16) {
		if !slices.Contains([]uint16{wire.TypeMX, wire.TypeA, wire.TypeAAAA, wire.TypeTXT, wire.TypePTR}, qtype) {
			return
		}
		hosts, addrs, names, texts, err := mx.ParseAnswer(packet, 7, "one.test", qtype)
		if err != nil {
			return
		}
		if binary.BigEndian.Uint16(packet) != 7 || packet[2]&0x80 == 0 {
			t.Error("accepted what is not the answer to the query")
		}
		if hosts > mx.MaxMX || addrs > mx.MaxAddrs || (hosts > 0) != (qtype == wire.TypeMX && hosts > 0) {
			t.Errorf("%d hosts, %d addresses", hosts, addrs)
		}
		size := 0
		for _, text := range texts {
			size += len(text)
		}
		if len(texts) > mx.MaxTexts || size > 64<<10 {
			t.Errorf("%d texts of %d bytes", len(texts), size)
		}
		if qtype == wire.TypePTR {
			names = texts
		}
		for _, n := range names {
			if len(n) > 253 || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
				t.Errorf("host name %q", n)
			}
		}
	})
}
