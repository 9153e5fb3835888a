package mx_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
	"hikyaku/node/mx"
	"hikyaku/spool/message"
)

const zone = `
$TTL 300
test.             SOA ns.test. hostmaster.test. 1 3600 600 86400 60
one.test.         MX 10 mx1.one.test.
mx1.one.test.     A 192.0.2.1
two.test.         MX 20 backup.two.test.
                  MX 10 b.two.test.
                  MX 10 A.two.test.
a.two.test.       A 192.0.2.11
                  A 192.0.2.10
                  AAAA 2001:db8::10
b.two.test.       A 192.0.2.12
backup.two.test.  AAAA 2001:db8::13
implicit.test.    A 192.0.2.20
                  AAAA 2001:db8::20
null.test.        MX 0 .
null10.test.      MX 10 .
nullplus.test.    MX 0 .
                  MX 10 mx1.one.test.
onlynulls.test.   MX 0 .
                  MX 5 .
nothing.test.     TXT "no mail"
alias.test.       CNAME two.test.
aliasimpl.test.   CNAME implicit.test.
aliasnone.test.   CNAME gone.test.
mxalias.test.     MX 10 mx.alias2.test.
mx.alias2.test.   CNAME mx1.one.test.
loop1.test.       CNAME loop2.test.
loop2.test.       CNAME loop1.test.
halfgone.test.    MX 10 gone.test.
                  MX 20 mx1.one.test.
allgone.test.     MX 10 gone.test.
                  MX 20 gone2.test.
ipmx.test.        MX 10 192.0.2.1.
ipmxplus.test.    MX 10 192.0.2.1.
                  MX 20 mx1.one.test.
oddmx.test.       MX 10 a\032b.test.
dup.test.         MX 30 mx1.one.test.
                  MX 10 mx1.one.test.
                  MX 20 b.two.test.
v6only.test.      MX 10 backup.two.test.
v4only.test.      MX 10 b.two.test.
self.test.        MX 10 b.two.test.
                  MX 20 node.self.test.
                  MX 20 a.two.test.
                  MX 30 mx1.one.test.
selfonly.test.    MX 10 NODE.self.test.
node.self.test.   A 192.0.2.99
mapped.test.      MX 10 mx.mapped.test.
mx.mapped.test.   AAAA ::ffff:192.0.2.77
`

var t0 = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func start(t testing.TB, text string) *dns.Server {
	t.Helper()
	s, err := dns.Start(text, "127.0.0.1:0")
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

func resolver(t testing.TB, c mx.Config, servers ...*dns.Server) *mx.Resolver {
	t.Helper()
	for _, s := range servers {
		c.Servers = append(c.Servers, s.Addr())
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second // reached by no test: those of timeouts set their own
	}
	r, err := mx.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// show is an answer or a reply on one line.
func show(a *mx.Answer, reply *message.Reply) string {
	if reply != nil {
		if a != nil {
			return "BOTH"
		}
		if reply.Phase != message.PhaseResolve || reply.Fault != message.FaultDNS {
			return "wrong phase or fault: " + reply.String()
		}
		return reply.String()
	}
	var b strings.Builder
	for i, h := range a.Hosts {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d %s", h.Preference, h.Name)
		if h.Port != 0 {
			fmt.Fprintf(&b, ":%d", h.Port)
		}
		for _, addr := range h.Addrs {
			fmt.Fprintf(&b, " %s", addr)
		}
	}
	fmt.Fprintf(&b, " | %s", a.Site)
	if a.Implicit {
		b.WriteString(" | implicit")
	}
	return b.String()
}

func TestResolve(t *testing.T) {
	s := start(t, zone)
	r := resolver(t, mx.Config{Own: []string{"Node.Self.Test."}}, s)
	for _, c := range []struct{ destination, addresses, want string }{
		{"one.test", "", "10 mx1.one.test 192.0.2.1 | mx1.one.test"},
		{"ONE.test.", "any", "10 mx1.one.test 192.0.2.1 | mx1.one.test"},
		{"two.test", "", "10 a.two.test 2001:db8::10 192.0.2.10 192.0.2.11; 10 b.two.test 192.0.2.12; 20 backup.two.test 2001:db8::13 | a.two.test+b.two.test,backup.two.test"},
		{"two.test", "prefer-ipv4", "10 a.two.test 192.0.2.10 192.0.2.11 2001:db8::10; 10 b.two.test 192.0.2.12; 20 backup.two.test 2001:db8::13 | a.two.test+b.two.test,backup.two.test"},
		{"two.test", "ipv4", "10 a.two.test 192.0.2.10 192.0.2.11; 10 b.two.test 192.0.2.12 | a.two.test+b.two.test,backup.two.test"},
		{"two.test", "ipv6", "10 a.two.test 2001:db8::10; 20 backup.two.test 2001:db8::13 | a.two.test+b.two.test,backup.two.test"},
		{"implicit.test", "", "0 implicit.test 2001:db8::20 192.0.2.20 | implicit.test | implicit"},
		{"null.test", "", "556 5.1.10 domain null.test does not accept mail (null MX)"},
		{"null10.test", "", "556 5.1.10 domain null10.test does not accept mail (null MX)"},
		{"nullplus.test", "", "10 mx1.one.test 192.0.2.1 | mx1.one.test"},
		{"nothing.test", "", "550 5.4.4 domain nothing.test has neither MX nor IP address"},
		{"gone.test", "", "550 5.1.2 domain gone.test does not exist (NXDOMAIN)"},
		{"alias.test", "ipv4", "10 a.two.test 192.0.2.10 192.0.2.11; 10 b.two.test 192.0.2.12 | a.two.test+b.two.test,backup.two.test"},
		{"aliasimpl.test", "ipv4", "0 implicit.test 192.0.2.20 | implicit.test | implicit"},
		{"aliasnone.test", "", "550 5.1.2 domain aliasnone.test does not exist (NXDOMAIN)"},
		{"mxalias.test", "", "10 mx.alias2.test 192.0.2.1 | mx.alias2.test"},
		{"loop1.test", "", "451 4.4.3 look-up of MX for loop1.test failed: CNAME chain too long or circular"},
		{"halfgone.test", "", "20 mx1.one.test 192.0.2.1 | gone.test,mx1.one.test"},
		{"allgone.test", "", "550 5.4.4 no MX host of this domain has an IP address: gone.test and 1 more"},
		{"ipmx.test", "", "550 5.4.4 the MX records of ipmx.test name no host"},
		{"ipmxplus.test", "", "20 mx1.one.test 192.0.2.1 | mx1.one.test"},
		{"oddmx.test", "", "550 5.4.4 the MX records of oddmx.test name no host"},
		{"dup.test", "", "10 mx1.one.test 192.0.2.1; 20 b.two.test 192.0.2.12 | mx1.one.test,b.two.test"},
		{"v6only.test", "ipv4", "550 5.4.4 no MX host of this domain has an IPv4 address: backup.two.test"},
		{"v4only.test", "ipv6", "550 5.4.4 no MX host of this domain has an IPv6 address: b.two.test"},
		{"self.test", "", "10 b.two.test 192.0.2.12 | b.two.test"},
		{"selfonly.test", "", "554 5.4.6 mail for selfonly.test loops back to this host"},
		{"node.self.test", "", "554 5.4.6 mail for node.self.test loops back to this host"},
		{"mapped.test", "", "10 mx.mapped.test 192.0.2.77 | mx.mapped.test"},
		{"[192.0.2.1]", "", "0 192.0.2.1 192.0.2.1 | [192.0.2.1]"},
		{"[ipv6:2001:DB8::1]", "", "0 2001:db8::1 2001:db8::1 | [IPv6:2001:db8::1]"},
		{"[192.0.2.1]", "ipv6", "550 5.4.4 the destination is not an IPv6 address"},
		{"[IPv6:2001:db8::1]", "ipv4", "550 5.4.4 the destination is not an IPv4 address"},
		{"[IPv6:192.0.2.1]", "", "550 5.1.2 the destination is not a valid address literal"},
		{"[2001:db8::1]", "", "550 5.1.2 the destination is not a valid address literal"},
		{"[ipv6:fe80::1%eth0]", "", "550 5.1.2 the destination is not a valid address literal"},
		{"[192.0.2.1", "", "550 5.1.2 the destination is not a valid address literal"},
		{"[]", "", "550 5.1.2 the destination is not a valid address literal"},
		{"[", "", "550 5.1.2 the destination is not a valid address literal"},
		{"", "", "550 5.1.2 the destination is not a valid domain name"},
		{"a..test", "", "550 5.1.2 the destination is not a valid domain name"},
		{"a b.test", "", "550 5.1.2 the destination is not a valid domain name"},
		{"\x00\r\n.test", "", "550 5.1.2 the destination is not a valid domain name"},
		{strings.Repeat("a", 64) + ".test", "", "550 5.1.2 the destination is not a valid domain name"},
		{strings.Repeat("a.", 130) + "test", "", "550 5.1.2 the destination is not a valid domain name"},
		{"192.0.2.1", "", "550 5.1.2 the destination is not a valid domain name"},
	} {
		if got := show(r.Resolve(t.Context(), c.destination, mx.Options{Addresses: c.addresses, Now: t0})); got != c.want {
			t.Errorf("%q %s:\n got %s\nwant %s", c.destination, c.addresses, got, c.want)
		}
	}
}

func TestHosts(t *testing.T) {
	s := start(t, zone)
	r := resolver(t, mx.Config{}, s)
	for _, c := range []struct {
		hosts []string
		want  string
	}{
		{[]string{"mx1.one.test:2525", "b.two.test"}, "0 mx1.one.test:2525 192.0.2.1; 1 b.two.test:25 192.0.2.12 | mx1.one.test:2525,b.two.test:25"},
		{[]string{"127.0.0.1:2526"}, "0 127.0.0.1:2526 127.0.0.1 | 127.0.0.1:2526"},
		{[]string{"[2001:db8::1]:26", "[2001:db8::2]", "2001:db8::3", "192.0.2.9"}, "0 2001:db8::1:26 2001:db8::1; 1 2001:db8::2:25 2001:db8::2; 2 2001:db8::3:25 2001:db8::3; 3 192.0.2.9:25 192.0.2.9 | [2001:db8::1]:26,[2001:db8::2]:25,[2001:db8::3]:25,192.0.2.9:25"},
		{[]string{"mx.alias2.test:25"}, "0 mx.alias2.test:25 192.0.2.1 | mx.alias2.test:25"},
		{[]string{"one.test:25"}, "451 4.4.3 the route's host one.test has no IP address"}, // never by MX
		{[]string{"gone.test:25"}, "451 4.4.3 the route's host gone.test has no IP address"},
		{[]string{"gone.test:25", "b.two.test:25"}, "1 b.two.test:25 192.0.2.12 | gone.test:25,b.two.test:25"},
		{[]string{"b.two.test:0"}, "451 4.4.3 the route has a host that is not name:port or address:port"},
		{[]string{"b.two.test:99999"}, "451 4.4.3 the route has a host that is not name:port or address:port"},
		{[]string{"bad name:25"}, "451 4.4.3 the route has a host that is not name:port or address:port"},
		{nil, "451 4.4.3 the route names no host"},
	} {
		if got := show(r.Hosts(t.Context(), c.hosts, mx.Options{Now: t0})); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.hosts, got, c.want)
		}
	}
	if s.Asked("one.test", "MX") != 0 {
		t.Error("a route's host was looked up by MX")
	}
}

// Whatever goes wrong with the look-up of MX, mail waits: it never goes to the
// address of the domain itself, which all these domains have.
func TestTemporaryFailureNeverFallsBack(t *testing.T) {
	servers := []*dns.Server{start(t, zone), start(t, zone)}
	for _, c := range []struct {
		name  string
		fault dns.Fault
		why   string
	}{
		{"SERVFAIL", dns.Fault{Rcode: wire.RcodeServerFailure}, "SERVFAIL"},
		{"REFUSED", dns.Fault{Rcode: wire.RcodeRefused}, "REFUSED"},
		{"odd code", dns.Fault{Rcode: wire.RcodeYXDomain}, "unexpected response code"},
		{"FORMERR to everything", dns.Fault{Rcode: wire.RcodeFormatError}, "server does not understand EDNS"},
		{"silence", dns.Fault{Drop: true}, "no answer in time"},
		{"lame", dns.Fault{Lame: true}, "server does not recurse"},
		{"too short to be an answer", dns.Fault{Raw: []byte("x")}, "no answer in time"},
		{"header only, not a response", dns.Fault{Raw: make([]byte, 12)}, "no answer in time"},
		{"broken records", dns.Fault{Raw: []byte("..\x80\x00\x00\x01\x00\xff\x00\x00\x00\x00junk")}, "malformed answer"},
		{"another ID", dns.Fault{WrongID: true}, "no answer in time"},
		{"another question", dns.Fault{WrongQuestion: true}, "no answer in time"},
		{"truncated, and no TCP", dns.Fault{Truncate: true, DropTCP: true}, "no answer in time"},
		{"too slow", dns.Fault{Delay: time.Minute}, "no answer in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range servers {
				s.SetFault("implicit.test", "MX", &c.fault)
			}
			timeout := 5 * time.Second // where an answer comes, slow machines may take their time
			if c.why == "no answer in time" {
				timeout = 30 * time.Millisecond
			}
			r := resolver(t, mx.Config{Timeout: timeout, Attempts: 3}, servers...)
			want := "451 4.4.3 look-up of MX for implicit.test failed: " + c.why
			if got := show(r.Resolve(t.Context(), "implicit.test", mx.Options{Now: t0})); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

// The same faults on addresses: the host is left out for a while, or the whole
// answer is temporary when nothing else is there.
func TestAddressFailure(t *testing.T) {
	s := start(t, zone)
	s.SetFault("a.two.test", "", &dns.Fault{Rcode: wire.RcodeServerFailure})
	s.SetFault("mx1.one.test", "A", &dns.Fault{Rcode: wire.RcodeServerFailure})
	s.SetFault("implicit.test", "AAAA", &dns.Fault{Rcode: wire.RcodeServerFailure})
	s.SetFault("nothing.test", "A", &dns.Fault{Rcode: wire.RcodeServerFailure})
	r := resolver(t, mx.Config{}, s)
	for _, c := range []struct{ destination, want string }{
		{"two.test", "10 b.two.test 192.0.2.12; 20 backup.two.test 2001:db8::13 | a.two.test+b.two.test,backup.two.test"},
		{"one.test", "451 4.4.3 look-up of the address of mx1.one.test failed: SERVFAIL"},
		{"implicit.test", "0 implicit.test 192.0.2.20 | implicit.test | implicit"},
		{"nothing.test", "451 4.4.3 look-up of the address of nothing.test failed: SERVFAIL"},
	} {
		a, reply := r.Resolve(t.Context(), c.destination, mx.Options{Now: t0})
		if got := show(a, reply); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.destination, got, c.want)
		}
		if a != nil && a.Until.After(t0.Add(time.Minute)) {
			t.Errorf("%s: a partial answer is good until %v", c.destination, a.Until.Sub(t0))
		}
	}
}

// What can be worked around is.
func TestRecovers(t *testing.T) {
	good := start(t, zone)
	for _, c := range []struct {
		name  string
		fault dns.Fault
	}{
		{"second server answers", dns.Fault{Rcode: wire.RcodeServerFailure, Times: 1}},
		{"one packet lost", dns.Fault{Drop: true, Times: 1}},
		{"forged ID, then the answer", dns.Fault{WrongID: true, Then: true}},
		{"forged question, then the answer", dns.Fault{WrongQuestion: true, Then: true}},
		{"truncated over UDP", dns.Fault{Truncate: true}},
		{"server without EDNS", dns.Fault{NoEDNS: true}},
		{"one malformed", dns.Fault{Raw: []byte("..\x80\x00\x00\x01\x00\xff\x00\x00\x00\x00junk"), Times: 1}},
		{"more over UDP than was asked for", dns.Fault{Edit: func(m *wire.Msg) {
			for i := range 300 {
				m.Answer = append(m.Answer, &wire.A{Hdr: wire.RR_Header{Name: "other.test.", Rrtype: wire.TypeA, Class: wire.ClassINET}, A: net.IP{192, 0, 2, byte(i)}})
			}
		}}},
		{"one lame", dns.Fault{Lame: true, Times: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			good.SetFault("one.test", "MX", &c.fault)
			timeout := 5 * time.Second
			if c.fault.Drop {
				timeout = 500 * time.Millisecond
			}
			r := resolver(t, mx.Config{Timeout: timeout}, good)
			if got := show(r.Resolve(t.Context(), "one.test", mx.Options{Now: t0})); got != "10 mx1.one.test 192.0.2.1 | mx1.one.test" {
				t.Errorf("got %s", got)
			}
		})
	}
	t.Run("dead server", func(t *testing.T) {
		good.SetFault("one.test", "MX", nil)
		r := resolver(t, mx.Config{Servers: []string{"127.0.0.1:1"}}, good)
		for i := range 4 {
			if got := show(r.Resolve(t.Context(), "one.test", mx.Options{Now: t0.Add(time.Duration(i) * time.Hour)})); got != "10 mx1.one.test 192.0.2.1 | mx1.one.test" {
				t.Errorf("got %s", got)
			}
		}
	})
}

// A resolver that stops in mid-chain is asked for the rest.
func TestUnfinishedChain(t *testing.T) {
	s := start(t, zone)
	onlyFirst := func(m *wire.Msg) { m.Answer, m.Ns = m.Answer[:1], nil }
	s.SetFault("alias.test", "MX", &dns.Fault{Edit: onlyFirst})
	s.SetFault("loop1.test", "MX", &dns.Fault{Edit: onlyFirst})
	s.SetFault("loop2.test", "MX", &dns.Fault{Edit: onlyFirst})
	r := resolver(t, mx.Config{}, s)
	if got := show(r.Resolve(t.Context(), "alias.test", mx.Options{Addresses: "ipv4", Now: t0})); !strings.HasPrefix(got, "10 a.two.test") {
		t.Errorf("got %s", got)
	}
	if got := show(r.Resolve(t.Context(), "loop1.test", mx.Options{Now: t0})); got != "451 4.4.3 look-up of MX for loop1.test failed: CNAME chain too long or circular" {
		t.Errorf("got %s", got)
	}
	if n := s.Asked("loop1.test", "MX") + s.Asked("loop2.test", "MX"); n > 20 {
		t.Errorf("the loop was asked %d times", n)
	}
}

// Records for other names than the one asked about are not believed.
func TestOutOfBailiwick(t *testing.T) {
	s := start(t, zone)
	s.SetFault("one.test", "MX", &dns.Fault{Edit: func(m *wire.Msg) {
		evil, err := wire.NewRR("mx1.one.test. 300 IN A 203.0.113.66")
		evil2, err2 := wire.NewRR("two.test. 300 IN MX 1 evil.test.")
		evil3, err3 := wire.NewRR("one.test. 300 CH MX 1 evil.test.")
		if err != nil || err2 != nil || err3 != nil {
			panic("BUG: test records")
		}
		m.Answer = append([]wire.RR{evil, evil2, evil3}, m.Answer...)
		m.Extra = append(m.Extra, evil)
	}})
	r := resolver(t, mx.Config{}, s)
	if got := show(r.Resolve(t.Context(), "one.test", mx.Options{Now: t0})); got != "10 mx1.one.test 192.0.2.1 | mx1.one.test" {
		t.Errorf("got %s", got)
	}
	if got := show(r.Resolve(t.Context(), "two.test", mx.Options{Now: t0})); strings.Contains(got, "evil") {
		t.Errorf("got %s", got)
	}
}

// Hostile sizes: everything is cut to its bound, and the site's name too.
func TestHostileSizes(t *testing.T) {
	var z strings.Builder
	z.WriteString("test. SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n")
	long := strings.Repeat("x", 60)
	for i := range 300 {
		fmt.Fprintf(&z, "big.test. MX %d h%d.%s.test.\n", i/3, i, long)
		fmt.Fprintf(&z, "h0.%s.test. A 198.51.%d.%d\n", long, i/200, i%200)
		fmt.Fprintf(&z, "h%d.%s.test. A 192.0.2.1\n", i, long)
	}
	s := start(t, z.String())
	r := resolver(t, mx.Config{}, s)
	a, reply := r.Resolve(t.Context(), "big.test", mx.Options{Now: t0})
	if reply != nil {
		t.Fatal(reply)
	}
	if len(a.Hosts) != mx.MaxHosts || len(a.Names) != mx.MaxMX || len(a.Hosts[0].Addrs) != mx.MaxAddrs || len(a.Site) != mx.MaxSite {
		t.Errorf("%d hosts, %d names, %d addresses, site of %d bytes", len(a.Hosts), len(a.Names), len(a.Hosts[0].Addrs), len(a.Site))
	}
	if !slices.IsSortedFunc(a.Hosts, func(x, y mx.Host) int { return int(x.Preference) - int(y.Preference) }) {
		t.Error("hosts are not in order of preference")
	}
	b, _ := r.Resolve(t.Context(), "big.test", mx.Options{Now: t0.Add(2 * time.Hour)})
	if b.Site != a.Site {
		t.Errorf("the site is not stable: %s, %s", a.Site, b.Site)
	}
	if s.TCPQueries() == 0 {
		t.Error("so large an answer came over UDP")
	}
}

func TestShuffled(t *testing.T) {
	addr := netip.MustParseAddr
	a := &mx.Answer{Hosts: []mx.Host{
		{Name: "a", Preference: 10, Addrs: []netip.Addr{addr("2001:db8::1"), addr("2001:db8::2"), addr("192.0.2.1"), addr("192.0.2.2")}},
		{Name: "b", Preference: 10, Addrs: []netip.Addr{addr("192.0.2.3")}},
		{Name: "c", Preference: 10, Addrs: []netip.Addr{addr("192.0.2.4")}},
		{Name: "d", Preference: 20, Addrs: []netip.Addr{addr("192.0.2.5")}},
	}}
	rnd := rand.New(rand.NewPCG(1, 2))
	first, v6 := map[string]int{}, map[string]int{}
	for range 3000 {
		s := a.Shuffled(rnd)
		if len(s.Hosts) != 4 || s.Hosts[3].Name != "d" {
			t.Fatalf("the less preferred host is not last: %v", s.Hosts)
		}
		first[s.Hosts[0].Name]++
		h := s.Hosts[slices.IndexFunc(s.Hosts, func(h mx.Host) bool { return h.Name == "a" })]
		if !h.Addrs[1].Is6() || !h.Addrs[2].Is4() {
			t.Fatalf("the families are mixed: %v", h.Addrs)
		}
		v6[h.Addrs[0].String()]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if first[name] < 900 || first[name] > 1100 {
			t.Errorf("%s comes first %d times of 3000", name, first[name])
		}
	}
	if v6["2001:db8::1"] < 1350 || v6["2001:db8::1"] > 1650 {
		t.Errorf("first address: %v", v6)
	}
	if a.Hosts[0].Name != "a" || a.Hosts[0].Addrs[0] != addr("2001:db8::1") {
		t.Error("the shared answer was changed")
	}
	if len(a.Shuffled(nil).Hosts) != 4 {
		t.Error("without a source of its own")
	}
}

func TestNewRefusesBadServers(t *testing.T) {
	for _, s := range []string{"localhost", "dns.test:53", "192.0.2.1:x", ""} {
		if _, err := mx.New(mx.Config{Servers: []string{s}}); err == nil || !strings.Contains(err.Error(), "name server") {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:53", "[::1]"} {
		r, err := mx.New(mx.Config{Servers: []string{s}})
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		r.Close()
	}
}

// BenchmarkResolve: from the cache, and with every question asked.
func BenchmarkResolve(b *testing.B) {
	s := start(b, zone)
	r := resolver(b, mx.Config{}, s)
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, reply := r.Resolve(b.Context(), "two.test", mx.Options{Now: t0}); reply != nil {
				b.Fatal(reply)
			}
		}
	})
	b.Run("asked", func(b *testing.B) {
		now := t0
		b.ReportAllocs()
		for b.Loop() {
			now = now.Add(2 * time.Hour)
			if _, reply := r.Resolve(b.Context(), "null.test", mx.Options{Now: now}); reply == nil {
				b.Fatal("no reply")
			}
		}
	})
}
