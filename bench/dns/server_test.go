package dns_test

import (
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
)

const zone = `
example.test. IN MX 10 mx.example.test.
mx.example.test. IN A 127.0.0.2
www.example.test. IN CNAME example.test.
loop.test. IN CNAME loop.test.
deep.empty.test. IN A 127.0.0.3
*.wild.test. IN MX 5 mx.example.test.
own.wild.test. IN A 127.0.0.4
`

func start(t *testing.T) *dns.Server {
	t.Helper()
	s, err := dns.Start(zone, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func ask(t *testing.T, s *dns.Server, net, name, kind string) (*wire.Msg, error) {
	t.Helper()
	m := new(wire.Msg).SetQuestion(name, wire.StringToType[kind])
	c := &wire.Client{Net: net, Timeout: time.Second}
	r, _, err := c.Exchange(m, s.Addr())
	return r, err
}

func TestAnswers(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		name, kind string
		rcode      int
		want       string // types of the answers
	}{
		{"example.test.", "MX", 0, "MX"},
		{"EXAMPLE.test.", "MX", 0, "MX"},
		{"example.test.", "A", 0, ""},
		{"www.example.test.", "MX", 0, "CNAME MX"},
		{"www.example.test.", "CNAME", 0, "CNAME"},
		{"empty.test.", "A", 0, ""}, // exists, without records
		{"none.test.", "A", wire.RcodeNameError, ""},
		{"a.b.wild.test.", "MX", 0, "MX"},
		{"a.b.wild.test.", "A", 0, ""},
		{"own.wild.test.", "MX", 0, ""}, // its own records hide the wildcard
		{"x.own.wild.test.", "MX", wire.RcodeNameError, ""},
		{"loop.test.", "A", 0, strings.Repeat("CNAME ", 12)},
	} {
		for _, network := range []string{"udp", "tcp"} {
			r, err := ask(t, s, network, c.name, c.kind)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rr := range r.Answer {
				got = append(got, wire.TypeToString[rr.Header().Rrtype])
			}
			if r.Rcode != c.rcode || strings.Join(got, " ") != strings.TrimSpace(c.want) {
				t.Errorf("%s %s over %s: rcode %d, %v", c.name, c.kind, network, r.Rcode, got)
			}
			if len(r.Answer) == 0 && len(r.Ns) != 1 {
				t.Errorf("%s %s: negative answer without SOA", c.name, c.kind)
			}
		}
	}
	if got := s.Asked("own.wild.test", "MX"); got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
}

func TestFaults(t *testing.T) {
	s := start(t)
	s.SetFault("example.test", "MX", &dns.Fault{Rcode: wire.RcodeServerFailure, Times: 1})
	if r, err := ask(t, s, "udp", "example.test.", "MX"); err != nil || r.Rcode != wire.RcodeServerFailure {
		t.Errorf("first: %v, %v", r, err)
	}
	if r, err := ask(t, s, "udp", "example.test.", "MX"); err != nil || len(r.Answer) != 1 {
		t.Errorf("the fault struck twice: %v, %v", r, err)
	}
	s.SetFault("example.test", "", &dns.Fault{Truncate: true})
	if r, err := ask(t, s, "udp", "example.test.", "MX"); err != nil || !r.Truncated || len(r.Answer) != 0 {
		t.Errorf("not truncated: %v, %v", r, err)
	}
	if r, err := ask(t, s, "tcp", "example.test.", "MX"); err != nil || r.Truncated || len(r.Answer) != 1 {
		t.Errorf("over TCP: %v, %v", r, err)
	}
	s.SetFault("example.test", "", nil)
	if err := s.SetZone("example.test. IN MX 1 other.test."); err != nil {
		t.Fatal(err)
	}
	if r, err := ask(t, s, "udp", "example.test.", "MX"); err != nil || r.Answer[0].(*wire.MX).Mx != "other.test." {
		t.Errorf("after SetZone: %v, %v", r, err)
	}
	if err := s.SetZone("example.test. IN MX nonsense"); err == nil {
		t.Error("a broken zone was taken")
	}
	if s.TCPQueries() != 1 {
		t.Errorf("%d TCP queries, want 1", s.TCPQueries())
	}
}
