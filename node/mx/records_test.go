package mx_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
	"hikyaku/node/mx"
)

const recordsZone = `
$TTL 300
test.                     SOA ns.test. hostmaster.test. 1 3600 600 86400 60
txt.test.                 TXT "v=spf1 " "-all"
                          TXT "other \"quoted\" \\ back \200 byte"
s1._domainkey.test.       TXT "v=DKIM1; p=AAAA"
alias.test.               CNAME txt.test.
host.test.                MX 20 b.test.
                          MX 10 a.test.
                          A 192.0.2.1
                          AAAA 2001:db8::1
nullmx.test.              MX 0 .
1.2.0.192.in-addr.arpa.   PTR Host.test.
                          PTR other.test.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.test.
`

func TestRecords(t *testing.T) {
	r := resolver(t, mx.Config{}, start(t, recordsZone+"2.0.192.in-addr.arpa. SOA ns.test. hostmaster.test. 1 3600 600 86400 60\nip6.arpa. SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n"))
	ctx := t.Context()
	spf := []string{"v=spf1 -all", "other \"quoted\" \\ back \xc8 byte"}
	for name, want := range map[string][]string{
		"txt.test": spf, "TXT.test.": spf, "alias.test": spf, "s1._domainkey.test": {"v=DKIM1; p=AAAA"},
		"gone.test": nil, "host.test": nil, "": nil, "not a name.test": nil, "a..b": nil, strings.Repeat("a", 64) + ".test": nil,
	} {
		got, err := r.TXT(ctx, name)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("TXT of %q: %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := r.MX(ctx, "host.test"); err != nil || !slices.Equal(got, []mx.Record{{Host: "a.test", Preference: 10}, {Host: "b.test", Preference: 20}}) {
		t.Errorf("MX: %v, %v", got, err)
	}
	if got, err := r.MX(ctx, "nullmx.test"); err != nil || !slices.Equal(got, []mx.Record{{}}) {
		t.Errorf("null MX: %v, %v", got, err)
	}
	if got, err := r.MX(ctx, "txt.test"); err != nil || len(got) != 0 {
		t.Errorf("no MX: %v, %v", got, err)
	}
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	if got, err := r.A(ctx, "host.test"); err != nil || !slices.Equal(got, []netip.Addr{four}) {
		t.Errorf("A: %v, %v", got, err)
	}
	if got, err := r.AAAA(ctx, "host.test"); err != nil || !slices.Equal(got, []netip.Addr{six}) {
		t.Errorf("AAAA: %v, %v", got, err)
	}
	for addr, want := range map[string][]string{
		"192.0.2.1": {"host.test", "other.test"}, "::ffff:192.0.2.1": {"host.test", "other.test"}, "2001:db8::1": {"six.test"}, "192.0.2.9": nil,
	} {
		got, err := r.PTR(ctx, netip.MustParseAddr(addr))
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("PTR of %s: %v, %v; want %v", addr, got, err, want)
		}
	}
}

func TestRecordsAreBounded(t *testing.T) {
	var zone strings.Builder
	zone.WriteString("$TTL 300\ntest. SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n")
	for i := range 100 {
		zone.WriteString("many.test. TXT \"" + strings.Repeat(string(rune('a'+i%26)), 1+i) + "\"\n")
	}
	r := resolver(t, mx.Config{}, start(t, zone.String()))
	got, err := r.TXT(t.Context(), "many.test")
	if err != nil || len(got) != mx.MaxTexts {
		t.Errorf("%d texts, %v; want %d", len(got), err, mx.MaxTexts)
	}
}

func TestNoAnswerIsNotNoRecords(t *testing.T) {
	s := start(t, recordsZone)
	s.SetFault("txt.test", "", &dns.Fault{Rcode: wire.RcodeServerFailure})
	r := resolver(t, mx.Config{Timeout: 2 * time.Second, Attempts: 1}, s)
	if got, err := r.TXT(t.Context(), "txt.test"); !errors.Is(err, mx.ErrLookup) || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := r.PTR(t.Context(), netip.Addr{}); err == nil {
		t.Error("no address has names")
	}
}
