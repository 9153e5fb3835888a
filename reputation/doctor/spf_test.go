package doctor_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
	"hikyaku/reputation/doctor"
)

// appendixA is the zone of RFC 7208 appendix A, without its SPF record.
const appendixA = `
example.com.            MX 10 mail-a.example.com.
example.com.            MX 20 mail-b.example.com.
example.com.            A 192.0.2.10
example.com.            A 192.0.2.11
amy.example.com.        A 192.0.2.65
bob.example.com.        A 192.0.2.66
mail-a.example.com.     A 192.0.2.129
mail-b.example.com.     A 192.0.2.130
www.example.com.        CNAME example.com.
example.org.            MX 10 mail-c.example.org.
mail-c.example.org.     A 192.0.2.140
10.2.0.192.in-addr.arpa.   PTR example.com.
11.2.0.192.in-addr.arpa.   PTR example.com.
65.2.0.192.in-addr.arpa.   PTR amy.example.com.
66.2.0.192.in-addr.arpa.   PTR bob.example.com.
129.2.0.192.in-addr.arpa.  PTR mail-a.example.com.
130.2.0.192.in-addr.arpa.  PTR mail-b.example.com.
140.2.0.192.in-addr.arpa.  PTR mail-c.example.org.
4.0.0.10.in-addr.arpa.     PTR bob.example.com.
`

// TestSPFExamples are those of RFC 7208 appendix A.1.
func TestSPFExamples(t *testing.T) {
	all := []string{"192.0.2.10", "192.0.2.11", "192.0.2.65", "192.0.2.66", "192.0.2.129", "192.0.2.130", "192.0.2.131", "192.0.2.140", "192.0.2.143", "192.0.2.144", "10.0.0.4"}
	for record, pass := range map[string]string{
		"v=spf1 +all":                                strings.Join(all, " "),
		"v=spf1 a -all":                              "192.0.2.10 192.0.2.11",
		"v=spf1 a:example.org -all":                  "",
		"v=spf1 mx -all":                             "192.0.2.129 192.0.2.130",
		"v=spf1 mx:example.org -all":                 "192.0.2.140",
		"v=spf1 mx mx:example.org -all":              "192.0.2.129 192.0.2.130 192.0.2.140",
		"v=spf1 mx/30 mx:example.org/30 -all":        "192.0.2.129 192.0.2.130 192.0.2.131 192.0.2.140 192.0.2.143",
		"v=spf1 ptr -all":                            "192.0.2.10 192.0.2.11 192.0.2.65 192.0.2.66 192.0.2.129 192.0.2.130",
		"v=spf1 ip4:192.0.2.128/28 -all":             "192.0.2.129 192.0.2.130 192.0.2.131 192.0.2.140 192.0.2.143",
		"v=spf1 exists:%{ir}.in-addr.arpa. -all":     "", // those have PTR, and exists asks for A
		"v=spf1 a:www.example.com ip4:10.0.0.4 -all": "192.0.2.10 192.0.2.11 10.0.0.4",
	} {
		l, _ := zone(t, appendixA+"example.com. TXT \""+record+"\"\n")
		for _, a := range all {
			want := doctor.SPFFail
			if strings.Contains(" "+pass+" ", " "+a+" ") {
				want = doctor.SPFPass
			}
			if got := doctor.CheckSPF(t.Context(), l, netip.MustParseAddr(a), "example.com", "x@example.com", "h.example.com"); got.Result != want {
				t.Errorf("%s for %s: %+v, want %s", record, a, got, want)
			}
		}
	}
}

func TestSPF(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + "." + strings.Repeat("c", 60) + "." + strings.Repeat("d", 60) + ".e" // 246 bytes
	var z strings.Builder
	for i := range 12 {
		fmt.Fprintf(&z, "i%d.test. TXT \"v=spf1 ip4:198.51.100.%d -all\"\nm%d.test. A 198.51.100.%d\n", i, i, i, 100+i)
		fmt.Fprintf(&z, "manymx.test. MX %d m%d.test.\n", i, i)
	}
	for name, record := range map[string]string{
		"two":          `"v=spf1 -all" "" ` + "\n" + `two.test. TXT "v=spf1 +all"`,
		"like":         `"v=spf10 +all"`,
		"bare":         `"v=spf1"`,
		"case":         `"V=SpF1 IP4:192.0.2.1 -ALL"`,
		"joined":       `"v=spf1 ip4:192." "0.2.1 -all"`,
		"soft":         `"v=spf1 ~all"`,
		"neutral":      `"v=spf1 ?all"`,
		"later":        `"v=spf1 -all ip4:192.0.2.1"`,
		"syntax":       `"v=spf1 ip4:192.0.2.1 ip4:192.0.2.300 -all"`,
		"unknown":      `"v=spf1 ip4:192.0.2.1 foo:bar -all"`,
		"modifier":     `"v=spf1 foo=bar x.y-z_1=%{d} ip4:192.0.2.1 -all"`,
		"badmodifier":  `"v=spf1 foo=%x -all"`,
		"include":      `"v=spf1 include:i1.test -all"`,
		"includesoft":  `"v=spf1 include:soft.test ip4:192.0.2.1 -all"`,
		"includenone":  `"v=spf1 include:nothing.test -all"`,
		"includeperm":  `"v=spf1 include:syntax.test +all"`,
		"selfinclude":  `"v=spf1 include:selfinclude.test -all"`,
		"redirect":     `"v=spf1 redirect=i1.test"`,
		"redirectnone": `"v=spf1 redirect=nothing.test"`,
		"redirectall":  `"v=spf1 redirect=nothing.test ~all"`,
		"redirecttwo":  `"v=spf1 redirect=i1.test redirect=i2.test"`,
		"selfredirect": `"v=spf1 redirect=selfredirect.test"`,
		"ten":          `"v=spf1 include:i0.test include:i1.test include:i2.test include:i3.test include:i4.test include:i5.test include:i6.test include:i7.test include:i8.test include:i9.test -all"`,
		"eleven":       `"v=spf1 include:i0.test include:i1.test include:i2.test include:i3.test include:i4.test include:i5.test include:i6.test include:i7.test include:i8.test include:i9.test include:i10.test -all"`,
		"voids":        `"v=spf1 a:no1.test a:no2.test ip4:192.0.2.1 -all"`,
		"voids3":       `"v=spf1 a:no1.test a:no2.test a:no3.test ip4:192.0.2.1 -all"`,
		"mx11":         `"v=spf1 mx:manymx.test -all"`,
		"nullmx":       `"v=spf1 mx ip4:192.0.2.1 -all" ` + "\nnullmx.test. MX 0 .",
		"a24":          `"v=spf1 a:m1.test/24 -all"`,
		"six":          `"v=spf1 a:six.test/24//32 ip6:2001:db9::/32 -all"` + "\nsix.test. AAAA 2001:db8::1",
		"exists":       `"v=spf1 exists:%{l1r+}.%{ir}._spf.%{d2} -all"` + "\nx.1.2.0.192._spf.exists.test. A 127.0.0.2",
		"long":         `"v=spf1 exists:%{l}.` + long + ` -all"` + "\n" + long + ". A 127.0.0.2",
		"temp":         `"v=spf1 a:down.test +all"`,
		"inclusive":    `"v=spf1 include:temp.test +all"`,
		"ptrp":         `"v=spf1 exists:%{p}.p.test -all"` + "\nhost.ptrp.test. A 192.0.2.1\n1.2.0.192.in-addr.arpa. PTR host.ptrp.test.\nhost.ptrp.test.p.test. A 127.0.0.2",
		"colon":        `"v=spf1 a: -all"`,
		"toplevel":     `"v=spf1 include:localhost -all"`,
		"numeric":      `"v=spf1 include:a.123 -all"`,
		"allarg":       `"v=spf1 all:x.test"`,
		"length":       `"v=spf1 a/33 -all"`,
		"length0":      `"v=spf1 a/01 -all"`,
		"network":      `"v=spf1 ip4:192.0.2.77/24 -all"`,
		"ip6as4":       `"v=spf1 ip4:2001:db8::1 -all"`,
		"control":      `"v=spf1 a:x\001.test -all"`,
	} {
		fmt.Fprintf(&z, "%s.test. TXT %s\n", name, record)
	}
	l, s := zone(t, z.String())
	s.SetFault("down.test", "", &dns.Fault{Rcode: wire.RcodeServerFailure})
	for _, c := range []struct{ domain, ip, want, term, why string }{
		{"nothing", "192.0.2.1", "none", "", ""},
		{"like", "192.0.2.1", "none", "", ""},
		{"two", "192.0.2.1", "permerror", "", "2 SPF records"},
		{"bare", "192.0.2.1", "neutral", "", ""},
		{"case", "192.0.2.1", "pass", "IP4:192.0.2.1", ""},
		{"case", "192.0.2.2", "fail", "-ALL", ""},
		{"joined", "192.0.2.1", "pass", "ip4:192.0.2.1", ""},
		{"soft", "192.0.2.1", "softfail", "~all", ""},
		{"neutral", "192.0.2.1", "neutral", "?all", ""},
		{"later", "192.0.2.1", "fail", "-all", ""},
		{"syntax", "192.0.2.1", "permerror", "", "ip4:192.0.2.300"},
		{"unknown", "192.0.2.1", "permerror", "", "no such mechanism"},
		{"modifier", "192.0.2.1", "pass", "ip4:192.0.2.1", ""},
		{"badmodifier", "192.0.2.1", "permerror", "", "% stands alone"},
		{"include", "198.51.100.1", "pass", "include:i1.test", ""},
		{"include", "198.51.100.2", "fail", "-all", ""},
		{"includesoft", "192.0.2.1", "pass", "ip4:192.0.2.1", ""},
		{"includenone", "192.0.2.1", "permerror", "", "no SPF record"},
		{"includeperm", "192.0.2.1", "permerror", "", "syntax.test"},
		{"selfinclude", "192.0.2.1", "permerror", "", "more than 10 look-ups"},
		{"redirect", "198.51.100.1", "pass", "ip4:198.51.100.1", ""},
		{"redirect", "192.0.2.1", "fail", "-all", ""},
		{"redirectnone", "192.0.2.1", "permerror", "", "no SPF record"},
		{"redirectall", "192.0.2.1", "softfail", "~all", ""},
		{"redirecttwo", "192.0.2.1", "permerror", "", "twice"},
		{"selfredirect", "192.0.2.1", "permerror", "", "more than 10 look-ups"},
		{"ten", "198.51.100.9", "pass", "include:i9.test", ""},
		{"ten", "192.0.2.1", "fail", "-all", ""},
		{"eleven", "198.51.100.9", "pass", "include:i9.test", ""},
		{"eleven", "192.0.2.1", "permerror", "", "more than 10 look-ups"},
		{"voids", "192.0.2.1", "pass", "ip4:192.0.2.1", ""},
		{"voids3", "192.0.2.1", "permerror", "", "more than 2 look-ups without answer"},
		{"mx11", "198.51.100.101", "permerror", "", "12 MX records"},
		{"nullmx", "192.0.2.1", "pass", "ip4:192.0.2.1", ""},
		{"a24", "198.51.100.7", "pass", "a:m1.test/24", ""},
		{"a24", "198.51.101.7", "fail", "-all", ""},
		{"six", "2001:db8:1::7", "pass", "a:six.test/24//32", ""},
		{"six", "2001:db9::7", "pass", "ip6:2001:db9::/32", ""},
		{"six", "2001:dba::7", "fail", "-all", ""},
		{"six", "::ffff:192.0.2.1", "fail", "-all", ""},
		{"exists", "192.0.2.1", "pass", "exists:%{l1r+}.%{ir}._spf.%{d2}", ""},
		{"exists", "192.0.2.2", "fail", "-all", ""},
		{"long", "192.0.2.1", "pass", "", ""},
		{"temp", "192.0.2.1", "temperror", "", "SERVFAIL"},
		{"inclusive", "192.0.2.1", "temperror", "", "SERVFAIL"},
		{"down", "192.0.2.1", "temperror", "", "SERVFAIL"},
		{"ptrp", "192.0.2.1", "pass", "exists:%{p}.p.test", ""},
		{"ptrp", "192.0.2.2", "fail", "-all", ""},
		{"colon", "192.0.2.1", "permerror", "", "after a colon"},
		{"toplevel", "192.0.2.1", "permerror", "", "does not end like a domain"},
		{"numeric", "192.0.2.1", "permerror", "", "does not end like a domain"},
		{"allarg", "192.0.2.1", "permerror", "", "all takes nothing"},
		{"length", "192.0.2.1", "permerror", "", "length of a prefix"},
		{"length0", "192.0.2.1", "permerror", "", "length of a prefix"},
		{"network", "192.0.2.1", "pass", "ip4:192.0.2.77/24", ""},
		{"ip6as4", "192.0.2.1", "permerror", "", "want an address"},
		{"control", "192.0.2.1", "permerror", "", "may not be there"},
	} {
		local := "x+tag"
		if c.domain == "long" {
			local = strings.Repeat("l", 60)
		}
		got := doctor.CheckSPF(t.Context(), l, netip.MustParseAddr(c.ip), c.domain+".test", local+"@"+c.domain+".test", "h.test")
		if got.Result != c.want || !strings.Contains(got.Why, c.why) || (c.why == "") != (got.Why == "") || (c.term != "" || c.why != "") && got.Term != c.term {
			t.Errorf("%s for %s: %+v, want %s by %q, %q", c.domain, c.ip, got, c.want, c.term, c.why)
		}
		if got.Lookups > 11 || got.Voids > 3 {
			t.Errorf("%s: %d look-ups, %d without answer", c.domain, got.Lookups, got.Voids)
		}
	}
	for _, d := range []string{"", "localhost", "a..b", strings.Repeat("x", 64) + ".test"} {
		if got := doctor.CheckSPF(t.Context(), l, netip.MustParseAddr("192.0.2.1"), d, "", ""); got.Result != doctor.SPFNone {
			t.Errorf("%q: %+v", d, got)
		}
	}
}

// TestMacros are the examples of RFC 7208 7.4.
func TestMacros(t *testing.T) {
	l, _ := zone(t, "")
	four, six := netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::cb01")
	for _, c := range []struct {
		spec string
		ip   netip.Addr
		want string
	}{
		{"%{s}", four, "strong-bad@email.example.com"}, {"%{o}", four, "email.example.com"}, {"%{d}", four, "email.example.com"},
		{"%{d4}", four, "email.example.com"}, {"%{d3}", four, "email.example.com"}, {"%{d2}", four, "example.com"}, {"%{d1}", four, "com"},
		{"%{dr}", four, "com.example.email"}, {"%{d2r}", four, "example.email"}, {"%{l}", four, "strong-bad"}, {"%{l-}", four, "strong.bad"},
		{"%{lr}", four, "strong-bad"}, {"%{lr-}", four, "bad.strong"}, {"%{l1r-}", four, "strong"},
		{"%{ir}.%{v}._spf.%{d2}", four, "3.2.0.192.in-addr._spf.example.com"},
		{"%{lr-}.lp._spf.%{d2}", four, "bad.strong.lp._spf.example.com"},
		{"%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", four, "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
		{"%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", four, "3.2.0.192.in-addr.strong.lp._spf.example.com"},
		{"%{d2}.trusted-domains.example.net", four, "example.com.trusted-domains.example.net"},
		{"%{ir}.%{v}._spf.%{d2}", six, "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"},
		{"%{S}", four, "strong-bad%40email.example.com"}, {"%{h}.%%.%_%-", four, "mx.example.org.%. %20"}, {"%{p}", four, "unknown"},
		{"%{x}", four, "permerror"}, {"%{d", four, "permerror"}, {"%{d0}", four, "permerror"}, {"%{c}", four, "permerror"}, {"%{d2!}", four, "permerror"}, {"%", four, "permerror"},
	} {
		if got, why := doctor.Expand(l, c.spec, "email.example.com", "strong-bad@email.example.com", "mx.example.org", c.ip); got != strings.ToLower(c.want) {
			t.Errorf("%s: %s (%s), want %s", c.spec, got, why, c.want)
		}
	}
}

// fixed answers everything with one text and one address.
type fixed struct{ text string }

func (f fixed) TXT(context.Context, string) ([]string, error) { return []string{f.text}, nil }
func (f fixed) MX(context.Context, string) ([]doctor.MX, error) {
	return []doctor.MX{{Host: "a.test"}}, nil
}
func (f fixed) A(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1})}, nil
}
func (f fixed) AAAA(context.Context, string) ([]netip.Addr, error) { return nil, nil }
func (f fixed) PTR(context.Context, netip.Addr) ([]string, error)  { return []string{"a.test"}, nil }

// FuzzSPF: no record crashes, loops, or passes the limits.
func FuzzSPF(f *testing.F) {
	for _, s := range []string{
		"v=spf1 a mx ptr include:%{d} exists:%{ir}.%{l1r+-}._spf.%{d2} ip4:1.2.3.4/24 ip6:::/0 redirect=x.test -all",
		"v=spf1 a:%{s}//0 mx:%{o}/24//64 ?all exp=%{p}", "v=spf1 redirect=%{p}.test", "v=spf1 include:a.test", "v=spf1 a/", "v=spf1 %{", "v=spf1 +",
	} {
		f.Add(s, "l@x.test")
	}
	f.Fuzz(func(t *testing.T, record, sender string) {
		for _, ip := range []string{"192.0.2.9", "2001:db8::1"} {
			r := doctor.CheckSPF(t.Context(), fixed{record}, netip.MustParseAddr(ip), "x.test", sender, "h.test")
			switch r.Result {
			case doctor.SPFNone, doctor.SPFNeutral, doctor.SPFPass, doctor.SPFFail, doctor.SPFSoftFail, doctor.SPFTempError, doctor.SPFPermError:
			default:
				t.Errorf("result %q", r.Result)
			}
			if r.Lookups > 11 || r.Voids > 3 {
				t.Errorf("%d look-ups, %d voids", r.Lookups, r.Voids)
			}
		}
	})
}
