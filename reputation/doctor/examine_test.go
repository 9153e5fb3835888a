package doctor_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
	"hikyaku/reputation/doctor"
)

// patient is a domain in good health, and its zone as parts that tests change.
type patient struct {
	subject doctor.Subject
	zone    map[string]string
}

func rsaText(t testing.TB, k *rsa.PrivateKey) string {
	t.Helper()
	return publicText(t, k.Public())
}

func publicText(t testing.TB, k any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

// txt is a record of any length.
func txt(name, text string) string {
	r := doctor.Record{Name: name, Type: "TXT", Text: text}
	return r.Zone()
}

const goodMessage = "From: News <news@example.com>\r\nTo: x@example.net\r\nDate: Sun, 22 Nov 2026 12:00:00 +0900\r\nMessage-ID: <1@example.com>\r\nSubject: Hello\r\n" +
	"List-Unsubscribe: <mailto:u@example.com>,\r\n <https://u.example.com/x?t=1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" +
	"DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=From:To:Date:\r\n List-Unsubscribe : List-Unsubscribe-Post; bh=x; b=y\r\n\r\nFrom: body\r\n"

// ourKey is the key that signs, made once: it takes a while.
var ourKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func healthy(t *testing.T) (*patient, *rsa.PrivateKey) {
	t.Helper()
	key, err := ourKey()
	if err != nil {
		t.Fatal(err)
	}
	m, err := doctor.ParseMessage([]byte(goodMessage))
	if err != nil {
		t.Fatal(err)
	}
	return &patient{
		subject: doctor.Subject{
			Domain: "example.com", ReturnPath: "bounce.example.com", PolicyKnown: true, Message: m,
			Keys: []doctor.Key{{Domain: "example.com", Selector: "s1", Public: key.Public()}},
			Sources: []doctor.Source{
				{Name: "one", Addr: netip.MustParseAddr("93.184.216.1"), EHLO: "out1.example.com"},
				{Name: "six", Addr: netip.MustParseAddr("2606:2800::1"), EHLO: "Out6.example.com."},
			},
		},
		zone: map[string]string{
			"spf":     `bounce.example.com. TXT "v=spf1 include:_spf.example.com -all"` + "\n" + `_spf.example.com. TXT "v=spf1 ip4:93.184.216.0/24 ip6:2606:2800::/32 ~all"`,
			"dkim":    txt("s1._domainkey.example.com", rsaText(t, key)),
			"dmarc":   `_dmarc.example.com. TXT "v=DMARC1; p=reject; rua=mailto:d@example.com"`,
			"ptr":     "1.216.184.93.in-addr.arpa. PTR out1.example.com.\n1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.2.6.0.6.2.ip6.arpa. PTR out6.example.com.",
			"a":       "out1.example.com. A 93.184.216.1\nout6.example.com. AAAA 2606:2800::1",
			"mx":      "example.com. MX 10 in.example.com.\nin.example.com. A 93.184.216.9",
			"path":    "bounce.example.com. MX 10 in.example.com.",
			"mta-sts": `_mta-sts.bounce.example.com. TXT "v=STSv1; id=1"`,
			"tls-rpt": `_smtp._tls.bounce.example.com. TXT "v=TLSRPTv1; rua=mailto:t@example.com"`,
		},
	}, key
}

func (p *patient) examine(t *testing.T, faults ...string) *doctor.Report {
	t.Helper()
	var z strings.Builder
	for _, part := range p.zone {
		z.WriteString(part + "\n")
	}
	l, s := zone(t, z.String())
	for _, f := range faults {
		s.SetFault(f, "", &dns.Fault{Rcode: wire.RcodeServerFailure})
	}
	return doctor.Examine(t.Context(), l, p.subject)
}

// of lists the statuses of a check.
func of(r *doctor.Report, name string) string {
	var out []string
	for _, c := range r.Checks {
		if c.Name == name {
			out = append(out, string(c.Status))
		}
	}
	return strings.Join(out, " ")
}

func text(r *doctor.Report) string {
	var b strings.Builder
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%-8s %-10s %s: %s\n", c.Status, c.Name, c.About, c.Text)
	}
	for _, x := range r.Rules {
		fmt.Fprintf(&b, "%-8s %s %s (%s)\n", x.Status, x.Who, x.Rule, x.Text)
	}
	for _, x := range r.Publish {
		b.WriteString(x.Zone() + "\n")
	}
	return b.String()
}

func TestAHealthyDomainPasses(t *testing.T) {
	p, _ := healthy(t)
	r := p.examine(t)
	for _, c := range r.Checks {
		if c.Status != doctor.Pass {
			t.Errorf("%s %s: %s %s", c.Name, c.About, c.Status, c.Text)
		}
	}
	if r.Failed || len(r.Publish) != 0 {
		t.Errorf("failed %v, publish %v", r.Failed, r.Publish)
	}
	who := map[string]int{}
	for _, x := range r.Rules {
		who[x.Who]++
		if outside := strings.Contains(x.Rule, "spam rate") || strings.Contains(x.Rule, "unsubscribe link"); x.Status != doctor.Pass && !outside || outside && x.Status != doctor.Unknown {
			t.Errorf("%s, %s: %s %s", x.Who, x.Rule, x.Status, x.Text)
		}
		if !strings.HasPrefix(x.URL, "https://") {
			t.Errorf("%s, %s has no URL", x.Who, x.Rule)
		}
	}
	if who["Gmail"] == 0 || who["Yahoo"] == 0 || who["Microsoft"] == 0 {
		t.Errorf("rules of %v", who)
	}
}

// TestEachIllnessIsFound changes one thing of the healthy domain at a time.
func TestEachIllnessIsFound(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const sel = "s1._domainkey.example.com"
	for _, c := range []struct {
		name    string
		change  func(*patient)
		check   string
		want    string // statuses
		says    string
		publish string // beginning of a line to publish; "": none
	}{
		{"no SPF", func(p *patient) { p.zone["spf"] = "" }, "spf", "fail fail", "no SPF record", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 ~all"`},
		{"SPF lacks one", func(p *patient) { p.zone["spf"] = `bounce.example.com. TXT "v=spf1 ip4:93.184.216.1 -all"` }, "spf", "pass fail", "fail by -all", `bounce.example.com. IN TXT "v=spf1 ip6:2606:2800::1 ip4:93.184.216.1 -all"`},
		{"SPF for all", func(p *patient) { p.zone["spf"] = `bounce.example.com. TXT "v=spf1 +all"` }, "spf", "fail fail", "everybody on earth", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 ~all"`},
		{"SPF broken", func(p *patient) { p.zone["spf"] = `bounce.example.com. TXT "v=spf1 ipv4:93.184.216.1 -all"` }, "spf", "fail fail", "no such mechanism", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 -all"`},
		{"SPF soft", func(p *patient) { p.zone["spf"] = `bounce.example.com. TXT "v=spf1 ~all"` }, "spf", "fail fail", "softfail by ~all", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 ~all"`},
		{"two SPF", func(p *patient) {
			p.zone["spf"] += "\nbounce.example.com. TXT \"v=spf1 ip4:93.184.216.1 include:_spf.example.com mx ~all\""
		}, "spf", "fail fail", "2 SPF records", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 include:_spf.example.com mx ~all"`},
		{"SPF with too many look-ups", func(p *patient) {
			p.zone["spf"] = `bounce.example.com. TXT "v=spf1 ` + strings.Repeat("a:in.example.com ", 11) + `ip4:93.184.216.0/24 ip6:2606:2800::/32 -all"`
		}, "spf", "fail fail", "more than 10 look-ups", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 a:in.example.com ip4:93.184.216.0/24 ip6:2606:2800::/32 -all"`},
		{"SPF passes before too many look-ups", func(p *patient) {
			p.zone["spf"] = `bounce.example.com. TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 ` + strings.Repeat("a:in.example.com ", 11) + `-all"`
		}, "spf", "pass pass warn", "for other addresses: permerror: more than 10 look-ups", ""},
		{"SPF with too many voids", func(p *patient) {
			p.zone["spf"] = `bounce.example.com. TXT "v=spf1 a:no1.example.com a:no2.example.com a:no3.example.com ip4:93.184.216.1 ip6:2606:2800::1 -all"`
		}, "spf", "fail fail", "more than 2 look-ups without answer", `bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.1 ip6:2606:2800::1 a:no1`},
		{"key by CNAME", func(p *patient) {
			p.zone["dkim"] = sel + ". CNAME s1.keys.esp.test.\n" + strings.ReplaceAll(p.zone["dkim"], sel, "s1.keys.esp.test")
		}, "dkim", "pass", "the key that signs", ""},
		{"too short", func(p *patient) {
			short := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 767, 1), E: 65537}
			p.subject.Keys[0].Public = short
			p.zone["dkim"] = txt(sel, publicText(t, short))
		}, "dkim", "fail", "768 bits", ""},
		{"another key, too short", func(p *patient) {
			p.zone["dkim"] = txt(sel, publicText(t, &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 767, 1), E: 65537}))
		}, "dkim", "fail", "another key", sel + `. IN TXT (`},
		{"too long", func(p *patient) {
			long := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8191, 1), E: 65537}
			p.subject.Keys[0].Public = long
			p.zone["dkim"] = txt(sel, publicText(t, long))
		}, "dkim", "warn", "more than 4096", ""},
		{"Ed25519 alone", func(p *patient) {
			p.subject.Keys[0].Public = pub
			p.zone["dkim"] = txt(sel, "v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(pub))
		}, "dkim", "pass warn", "do not verify Ed25519", ""},
		{"no key published", func(p *patient) { p.zone["dkim"] = "" }, "dkim", "fail", "not published", sel + `. IN TXT ( "v=DKIM1; k=rsa; p=MIIB`},
		{"another key", func(p *patient) { p.zone["dkim"] = txt(sel, rsaText(t, weak)) }, "dkim", "fail", "another key", sel + `. IN TXT (`},
		{"revoked", func(p *patient) { p.zone["dkim"] = txt(sel, "v=DKIM1; p=") }, "dkim", "fail", "revoked", sel + `. IN TXT (`},
		{"key cut off", func(p *patient) { p.zone["dkim"] = p.zone["dkim"][:200] + "\" )" }, "dkim", "fail", "not valid", sel + `. IN TXT (`},
		{"two keys", func(p *patient) { p.zone["dkim"] += "\n" + txt(sel, "v=DKIM1; p=") }, "dkim", "fail", "2 TXT records", sel + `. IN TXT (`},
		{"testing", func(p *patient) { p.zone["dkim"] = strings.Replace(p.zone["dkim"], "k=rsa", "t=y; k=rsa", 1) }, "dkim", "warn", "t=y", sel + `. IN TXT (`},
		{"weak", func(p *patient) {
			p.subject.Keys[0].Public = weak.Public()
			p.zone["dkim"] = txt(sel, rsaText(t, weak))
		}, "dkim", "hint", "1024 bits", ""},
		{"Ed25519 not published", func(p *patient) {
			p.subject.Keys = append(p.subject.Keys, doctor.Key{Domain: "example.com", Selector: "e1", Public: pub})
		}, "dkim", "pass fail", "not published", `e1._domainkey.example.com. IN TXT "v=DKIM1; k=ed25519; p=`},
		{"no key", func(p *patient) { p.subject.Keys = nil }, "dkim", "fail", "no SigningKey", ""},
		{"no DMARC", func(p *patient) { p.zone["dmarc"] = "" }, "dmarc", "fail", "no DMARC record", `_dmarc.example.com. IN TXT "v=DMARC1; p=none; rua=mailto:dmarc-reports@example.com"`},
		{"DMARC broken", func(p *patient) { p.zone["dmarc"] = `_dmarc.example.com. TXT "v=DMARC1; p=rejct"` }, "dmarc", "fail", "no p= of", `_dmarc.example.com. IN TXT "v=DMARC1;`},
		{"two DMARC", func(p *patient) { p.zone["dmarc"] += "\n" + `_dmarc.example.com. TXT "v=DMARC1; p=rejct"` }, "dmarc", "fail", "2 DMARC records", `_dmarc.example.com. IN TXT "v=DMARC1; p=reject; rua=mailto:d@example.com"`},
		{"DMARC broken below a good one", func(p *patient) {
			p.subject.Domain = "news.example.com"
			p.subject.Message = nil
			p.zone["news"] = "_dmarc.news.example.com. TXT \"v=DMARC1; p=rejct\"\nnews.example.com. MX 10 in.example.com."
		}, "dmarc", "fail pass", "the record is not valid", `_dmarc.news.example.com. IN TXT "v=DMARC1; p=none; rua=mailto:dmarc-reports@news.example.com"`},
		{"DMARC without reports", func(p *patient) { p.zone["dmarc"] = `_dmarc.example.com. TXT "v=DMARC1; p=none;"` }, "dmarc", "warn", "nobody reports", `_dmarc.example.com. IN TXT "v=DMARC1; p=none; rua=mailto:dmarc-reports@example.com"`},
		{"reports elsewhere", func(p *patient) {
			p.zone["dmarc"] = `_dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:x@reports.test"`
		}, "dmarc", "pass warn", "not agreed", `example.com._report._dmarc.reports.test. IN TXT "v=DMARC1"`},
		{"only SPF is aligned", func(p *patient) { p.subject.Keys = nil; p.subject.PolicyKnown = false }, "alignment", "warn", "forwarded mail fails", ""},
		{"strict", func(p *patient) {
			p.zone["dmarc"] = `_dmarc.example.com. TXT "v=DMARC1; p=none; aspf=s; rua=mailto:d@example.com"`
		}, "alignment", "pass", "does not prove it", ""},
		{"another's key and path", func(p *patient) {
			p.subject.ReturnPath = "bounce.esp.test"
			p.subject.Keys[0].Domain = "esp.test"
			p.zone["esp"] = "_dmarc.esp.test. TXT \"v=DMARC1; p=none\"\n" + strings.ReplaceAll(p.zone["dkim"], "example.com", "esp.test") + "\n" + strings.ReplaceAll(p.zone["spf"], "bounce.example.com", "bounce.esp.test")
		}, "alignment", "fail", "neither a good DKIM key nor", ""},
		{"no good key, SPF does not prove", func(p *patient) {
			p.subject.PolicyKnown = false
			p.subject.ReturnPath = "bounce.esp.test"
			p.zone["dkim"] = ""
			p.zone["esp"] = strings.ReplaceAll(p.zone["spf"], "bounce.example.com", "bounce.esp.test")
		}, "alignment", "fail", "neither a good DKIM key nor", sel + ". IN TXT ("},
		{"no PTR", func(p *patient) { p.zone["ptr"] = "" }, "ptr", "fail fail", "no name (PTR)", "1.216.184.93.in-addr.arpa. IN PTR out1.example.com."},
		{"PTR leads elsewhere", func(p *patient) { p.zone["a"] = "out1.example.com. A 93.184.216.2" }, "ptr", "fail fail", "does not lead back", "out1.example.com. IN A 93.184.216.1"},
		{"PTR leads nowhere, EHLO leads back", func(p *patient) {
			p.zone["ptr"] = strings.Replace(p.zone["ptr"], "PTR out1.example.com.", "PTR gone.isp.test.", 1)
		}, "ptr", "fail pass", "does not lead back", "1.216.184.93.in-addr.arpa. IN PTR out1.example.com."},
		{"several PTR", func(p *patient) {
			p.zone["ptr"] += "\n1.216.184.93.in-addr.arpa. PTR gone.isp.test.\n1.216.184.93.in-addr.arpa. PTR also.isp.test.\nalso.isp.test. A 93.184.216.7"
		}, "ptr", "pass pass", "out1.example.com, and back", ""},
		{"PTR of IPv6 leads elsewhere", func(p *patient) {
			p.zone["a"] = strings.Replace(p.zone["a"], "2606:2800::1", "2606:2800::2", 1)
		}, "ptr", "pass fail", "does not lead back", "out6.example.com. IN AAAA 2606:2800::1"},
		{"generic PTR", func(p *patient) {
			p.zone["ptr"] = strings.Replace(p.zone["ptr"], "PTR out1.example.com.", "PTR host-93-184-216-1.isp.test.\nhost-93-184-216-1.isp.test. A 93.184.216.1", 1)
		}, "ptr", "warn pass", "customer's line", ""},
		{"private source", func(p *patient) { p.subject.Sources[0].Addr = netip.MustParseAddr("10.0.0.1") }, "ptr", "unknown pass", "private address", ""},
		{"source without address", func(p *patient) { p.subject.Sources[0].Addr = netip.Addr{} }, "ptr", "unknown pass", "each node has its own", ""},
		{"no sources", func(p *patient) { p.subject.Sources = nil }, "ptr", "unknown", "--source", ""},
		{"EHLO of another", func(p *patient) { p.subject.Sources[0].EHLO = "in.example.com" }, "ehlo", "fail pass", "another machine's", ""},
		{"EHLO of nobody", func(p *patient) { p.subject.Sources[0].EHLO = "gone.example.com" }, "ehlo", "fail pass", "no address", "gone.example.com. IN A 93.184.216.1"},
		{"EHLO of its own", func(p *patient) {
			p.subject.Sources[0].EHLO = "alias.example.com"
			p.zone["a"] += "\nalias.example.com. A 93.184.216.1"
		}, "ehlo", "warn pass", "should be one", ""},
		{"EHLO not set", func(p *patient) { p.subject.Sources[0].EHLO = "" }, "ehlo", "unknown pass", "set ehlo to out1.example.com", ""},
		{"no MX", func(p *patient) { p.zone["mx"] = "in.example.com. A 93.184.216.9" }, "mx", "fail pass", "neither MX nor address", ""},
		{"address for MX", func(p *patient) {
			p.zone["mx"] += "\nexample.com. A 93.184.216.9"
			p.zone["mx"] = strings.Replace(p.zone["mx"], "example.com. MX 10 in.example.com.\n", "", 1)
		}, "mx", "pass pass", "no MX, but an address", ""},
		{"null MX", func(p *patient) { p.zone["mx"] = "example.com. MX 0 .\nin.example.com. A 93.184.216.9" }, "mx", "fail pass", "null MX", ""},
		{"return path with null MX", func(p *patient) { p.zone["path"] = "bounce.example.com. MX 0 ." }, "mx", "pass fail", "return path: null MX", ""},
		{"null MX beside another", func(p *patient) { p.zone["mx"] += "\nexample.com. MX 0 ." }, "mx", "warn pass pass", "null MX beside others", ""},
		{"return path without MX", func(p *patient) { p.zone["path"] = "" }, "mx", "pass fail", "return path: neither", ""},
		{"MX without address", func(p *patient) { p.zone["mx"] = "example.com. MX 10 in.example.com." }, "mx", "fail fail", "no MX host has an address", ""},
		{"plain", func(p *patient) { p.subject.PlainCarriers = []string{"gmail"} }, "tls", "fail", "without TLS", ""},
		{"no MTA-STS", func(p *patient) { p.zone["mta-sts"] = "" }, "mta-sts", "hint", "MTA-STS", ""},
		{"no message", func(p *patient) { p.subject.Message = nil }, "one-click", "unknown", "--message", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := healthy(t)
			c.change(p)
			r := p.examine(t)
			if got := of(r, c.check); got != c.want {
				t.Errorf("%s is %s, want %s", c.check, got, c.want)
			}
			if !slices.ContainsFunc(r.Checks, func(k doctor.Check) bool { return k.Name == c.check && strings.Contains(k.Text, c.says) }) {
				t.Errorf("nothing says %q", c.says)
			}
			if r.Failed != slices.ContainsFunc(r.Checks, func(k doctor.Check) bool { return k.Status == doctor.Fail }) {
				t.Error("Failed is not what the checks say")
			}
			published := slices.ContainsFunc(r.Publish, func(rec doctor.Record) bool { return c.publish != "" && strings.HasPrefix(rec.Zone(), c.publish) })
			if published != (c.publish != "") || c.publish == "" && len(r.Publish) > 0 && c.check != "alignment" && c.check != "mx" {
				t.Errorf("publish %v, want %q", r.Publish, c.publish)
			}
			if t.Failed() {
				t.Log("\n" + text(r))
			}
		})
	}
}

// TestWhatIsPublishedHeals publishes what the report says, and looks again.
func TestWhatIsPublishedHeals(t *testing.T) {
	p, _ := healthy(t)
	for _, part := range []string{"spf", "dkim", "dmarc", "ptr"} {
		p.zone[part] = ""
	}
	r := p.examine(t)
	if !r.Failed || len(r.Publish) != 5 {
		t.Fatalf("publish %v", r.Publish)
	}
	for i, rec := range r.Publish {
		p.zone[fmt.Sprint("healed", i)] = rec.Zone()
	}
	if r := p.examine(t); r.Failed {
		t.Errorf("still ill:\n%s", text(r))
	}
}

func TestFailedLookUpsAreUnknown(t *testing.T) {
	p, _ := healthy(t)
	r := p.examine(t, "bounce.example.com", "s1._domainkey.example.com", "_dmarc.example.com", "1.216.184.93.in-addr.arpa", "example.com", "_mta-sts.bounce.example.com")
	for name, want := range map[string]string{"spf": "unknown unknown", "dkim": "unknown", "dmarc": "unknown", "alignment": "unknown", "ptr": "unknown pass", "mx": "unknown unknown", "mta-sts": "unknown"} {
		if got := of(r, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if r.Failed {
		t.Errorf("a failed look-up became a failure:\n%s", text(r))
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct{ name, old, new, check, want, says string }{
		{"no unsubscribe", "List-Unsubscribe: <mailto:u@example.com>,\r\n <https://u.example.com/x?t=1>\r\n", "", "one-click", "fail", "no List-Unsubscribe"},
		{"mailto only", ",\r\n <https://u.example.com/x?t=1>", "", "one-click", "fail", "no https"},
		{"no post", "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "", "one-click", "fail", "Post is missing"},
		{"odd post", "=One-Click", "=Yes", "one-click", "fail", "it must be"},
		{"twice", "Subject:", "List-Unsubscribe: <https://x.test>\r\nSubject:", "one-click", "fail", "more than once"},
		{"not covered", " : List-Unsubscribe-Post", "", "one-click", "fail", "no signature covers"},
		{"signed by another", "d=example.com", "d=esp.test", "one-click", "fail", "is of esp.test"},
		{"signed with SHA-1", "a=rsa-sha256", "a=rsa-sha1", "one-click", "fail", "no signature covers"},
		{"not signed", "DKIM-Signature", "X-Old-Signature", "one-click", "unknown", "no DKIM signature"},
		{"two From", "Subject:", "From: y@example.com\r\nSubject:", "format", "fail", "from is there more than once"},
		{"no Message-ID", "Message-ID: <1@example.com>\r\n", "", "format", "fail", "message-id is missing"},
		{"two addresses", "<news@example.com>", "<news@example.com>, x@example.com", "format", "fail", "one address"},
		{"another domain", "news@example.com", "news@other.test", "format", "warn", "other.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := healthy(t)
			m, err := doctor.ParseMessage([]byte(strings.Replace(goodMessage, c.old, c.new, 1)))
			if err != nil {
				t.Fatal(err)
			}
			p.subject.Message = m
			p.zone["esp"] = `_dmarc.esp.test. TXT "v=DMARC1; p=none"`
			r := p.examine(t)
			if of(r, c.check) != c.want || !strings.Contains(text(r), c.says) {
				t.Errorf("want %s is %s, %q:\n%s", c.check, c.want, c.says, text(r))
			}
		})
	}
	for _, bad := range []string{"", "\r\n", " folded\r\n", "no colon\r\n", "a b: c\r\n"} {
		if m, err := doctor.ParseMessage([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

func TestGenericNames(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.17")
	for name, want := range map[string]bool{
		"192-0-2-17.static.isp.test": true, "17.2.0.192.isp.test": true, "host192.000.002.017.isp.test": true, "ip-192-0-2-17": true,
		"out17.example.com": false, "mail.example.com": false, "1920217.isp.test": false, "192-0-2-18.isp.test": false,
	} {
		if got := doctor.Generic(name, a); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestZoneLines(t *testing.T) {
	long := strings.Repeat("x", 255) + strings.Repeat("y", 255) + "z"
	for _, c := range []struct {
		r    doctor.Record
		want string
	}{
		{doctor.Record{Name: "a.test", Type: "TXT", Text: `say "hi" \ ` + "\x01"}, `a.test. IN TXT "say \"hi\" \\ \001"`},
		{doctor.Record{Name: "a.test", Type: "TXT", Text: long}, `a.test. IN TXT ( "` + long[:255] + `" "` + long[255:510] + `" "z" )`},
		{doctor.Record{Name: "a.test", Type: "A", Text: "192.0.2.1"}, "a.test. IN A 192.0.2.1"},
	} {
		if got := c.r.Zone(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		l, _ := zone(t, c.r.Zone()+"\n")
		if c.r.Type != "TXT" {
			continue
		}
		if got, err := l.TXT(t.Context(), "a.test"); err != nil || len(got) != 1 || got[0] != c.r.Text {
			t.Errorf("a name server reads %q, %v", got, err)
		}
	}
}

// TestRulesAskNoMoreThanIsPublished: what Yahoo takes and Microsoft only
// recommends is no failure of theirs.
func TestRulesAskNoMoreThanIsPublished(t *testing.T) {
	for _, c := range []struct {
		old, new                string
		gmail, yahoo, microsoft doctor.Status
	}{
		{"", "", doctor.Pass, doctor.Pass, doctor.Unknown},
		{",\r\n <https://u.example.com/x?t=1>", "", doctor.Fail, doctor.Pass, doctor.Unknown},
		{"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", "", doctor.Fail, doctor.Pass, doctor.Unknown},
		{"List-Unsubscribe: <mailto:u@example.com>,\r\n <https://u.example.com/x?t=1>\r\n", "", doctor.Fail, doctor.Fail, doctor.Unknown},
	} {
		p, _ := healthy(t)
		m, err := doctor.ParseMessage([]byte(strings.Replace(goodMessage, c.old, c.new, 1)))
		if err != nil {
			t.Fatal(err)
		}
		p.subject.Message = m
		got := map[string]doctor.Status{}
		for _, x := range p.examine(t).Rules {
			if strings.Contains(strings.ToLower(x.Rule), "unsubscribe") {
				got[x.Who] = x.Status
			}
		}
		if got["Gmail"] != c.gmail || got["Yahoo"] != c.yahoo || got["Microsoft"] != c.microsoft {
			t.Errorf("without %q: %v", c.old, got)
		}
	}
}

// TestWhatIsPublishedForSPFHeals: the record that is named makes each source
// pass, whatever was wrong with the one before.
func TestWhatIsPublishedForSPFHeals(t *testing.T) {
	for _, old := range []string{
		`bounce.example.com. TXT "v=spf1 +all"`,
		`bounce.example.com. TXT "v=spf1 all"`,
		`bounce.example.com. TXT "v=spf1 include:_none.example.com -all"`,
		`bounce.example.com. TXT "v=spf1 redirect=_none.example.com"`,
		`bounce.example.com. TXT "v=spf1 ` + strings.Repeat("mx:example.com ", 12) + `-all"`,
		"bounce.example.com. TXT \"v=spf1 a -all\"\nbounce.example.com. TXT \"v=spf1 mx redirect=_x.example.com\"",
		"bounce.example.com. TXT \"v=spf1 a ?all\"\nbounce.example.com. TXT \"V=SPF1 mx +all\"",
	} {
		p, _ := healthy(t)
		p.zone["spf"] = old
		r := p.examine(t)
		i := slices.IndexFunc(r.Publish, func(x doctor.Record) bool { return x.Name == "bounce.example.com" })
		if of(r, "spf") != "fail fail" || i < 0 {
			t.Errorf("%s:\n%s", old, text(r))
			continue
		}
		p.zone["spf"] = r.Publish[i].Zone()
		if r := p.examine(t); !strings.HasPrefix(of(r, "spf"), "pass pass") {
			t.Errorf("%s: still ill with %s:\n%s", old, p.zone["spf"], text(r))
		}
	}
}
