package doctor_test

import (
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"hikyaku/bench/dns"
	"hikyaku/reputation/doctor"
)

func TestParseDMARC(t *testing.T) {
	for text, want := range map[string]string{
		"v=DMARC1; p=none": "none", "v=DMARC1;p=reject;": "reject", " v = DMARC1 ; p = Quarantine ; sp=reject": "quarantine",
		"v=DMARC1; rua=mailto:a@x.test": "none", "v=DMARC1; p=maybe; rua=mailto:a@x.test": "none", "v=DMARC1; p=none; unknown=x": "none",
		"v=DMARC1": "error", "v=DMARC1; p=maybe": "error", "v=DMARC1; p=none; p=reject": "error", "v=DMARC1; p": "error", "v=DMARC1; =x; p=none": "error",
		"v=dmarc1; p=none": "other", "v=DMARC2; p=none": "other", "p=none; v=DMARC1": "other", "v=spf1 -all": "other", "": "other",
	} {
		got := "other"
		d, err := doctor.ParseDMARC(text)
		switch {
		case err == nil:
			got = d.P
		case !strings.Contains(err.Error(), "not a DMARC"):
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s (%v), want %s", text, got, err, want)
		}
	}
	d, err := doctor.ParseDMARC("v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=S; psd=n; t=y; pct=50; ri=1; rua=mailto:a@x.test!10m, https://y.test/r; fo=1")
	if err != nil || d.SP != "quarantine" || d.NP != "none" || d.ADKIM != "s" || d.ASPF != "s" || d.PSD != "n" || !d.Testing || len(d.RUA) != 2 || len(d.Deprecated) != 2 || len(d.Problems) != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := doctor.ParseDMARC("v=DMARC1; p=none; adkim=x; psd=maybe; rua=nobody"); err != nil || len(d.Problems) != 3 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestTreeWalk has the examples of RFC 9989 4.10 among its cases.
func TestTreeWalk(t *testing.T) {
	deep := "a.b.c.d.e.f.g.h.i.j.mail.example.com"
	for _, c := range []struct {
		name, zone, domain, org, at, policy string
		asked                               string // names below _dmarc, in any order
	}{
		{"at both", "mail.example.com p=none|example.com p=reject", "a.mail.example.com", "example.com", "example.com", "reject", "a.mail.example.com mail.example.com example.com com"},
		{"own record", "a.mail.example.com p=none|example.com p=reject", "a.mail.example.com", "example.com", "a.mail.example.com", "none", ""},
		{"sp", "example.com p=reject; sp=quarantine", "a.example.com", "example.com", "example.com", "quarantine", ""},
		{"psd=n", "mail.example.com p=none; psd=n|example.com p=reject", "a.mail.example.com", "mail.example.com", "mail.example.com", "none", "a.mail.example.com mail.example.com"},
		{"psd=y above", "com p=reject; psd=y", "a.mail.example.com", "example.com", "com", "reject", ""},
		{"psd=y above, record below", "example.com p=none|com p=reject; psd=y", "mail.example.com", "example.com", "example.com", "none", ""},
		{"psd=y at the start", "example.com p=none; psd=y", "example.com", "example.com", "example.com", "none", "example.com"},
		{"none", "", "a.example.com", "a.example.com", "", "", ""},
		{"eight at most", "example.com p=none", deep, "example.com", "example.com", "none", deep + " g.h.i.j.mail.example.com h.i.j.mail.example.com i.j.mail.example.com j.mail.example.com mail.example.com example.com com"},
		{"two records are none", "example.com p=none|example.com p=reject|com p=none", "example.com", "com", "com", "none", ""},
		{"not valid", "a.example.com p=odd|example.com p=none", "a.example.com", "example.com", "example.com", "none", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var z strings.Builder
			for _, r := range strings.Split(c.zone, "|") {
				if name, text, ok := strings.Cut(r, " "); ok {
					z.WriteString("_dmarc." + name + ". TXT \"v=DMARC1; " + text + "\"\n")
				}
			}
			l, s := zone(t, z.String())
			org, err := doctor.Organizational(t.Context(), l, c.domain)
			at, policy, err2 := doctor.PolicyOf(t.Context(), l, c.domain)
			if err != nil || err2 != nil || org != c.org || at != c.at || policy != c.policy {
				t.Errorf("organizational %s, policy %s at %s (%v, %v); want %s, %s at %s", org, policy, at, err, err2, c.org, c.policy, c.at)
			}
			if c.asked == "" {
				return
			}
			names := strings.Fields(c.asked)
			for _, n := range names {
				if s.Asked("_dmarc."+n, "TXT") != 1 {
					t.Errorf("_dmarc.%s was asked %d times", n, s.Asked("_dmarc."+n, "TXT"))
				}
			}
			if int(s.Queries()) != len(names) {
				t.Errorf("%d questions, want %d", s.Queries(), len(names))
			}
		})
	}
}

func TestTreeWalkDoesNotGuess(t *testing.T) {
	l, s := zone(t, "_dmarc.example.com. TXT \"v=DMARC1; p=none\"\n")
	s.SetFault("_dmarc.example.com", "", &dns.Fault{Rcode: wire.RcodeServerFailure})
	if org, err := doctor.Organizational(t.Context(), l, "a.example.com"); err == nil {
		t.Errorf("organizational domain %s although a look-up failed", org)
	}
}

func TestParseKeyRecord(t *testing.T) {
	ed := "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	for text, want := range map[string]string{
		"v=DKIM1; k=ed25519; p=" + ed: "", "k=ed25519;p=" + ed[:10] + " \t" + ed[10:] + ";": "", "v=DKIM1; p=": "", "v=DKIM1; k=ed25519; t=y:s; s=email:other; h=sha1:sha256; n=note; p=" + ed: "",
		"p=" + ed + "; v=DKIM1": "come first", "v=DKIM2; p=" + ed: "come first", "v=DKIM1; k=ed25519": "no p=", "v=DKIM1; k=rsa; p=" + ed: "no RSA key",
		"v=DKIM1; k=ed25519; p=AAAA": "3 bytes", "v=DKIM1; p=!!": "not base64", "v=DKIM1; k=dsa; p=AAAA": "do not know", "v=DKIM1; s=other; p=AAAA": "does not let", "v=DKIM1; h=sha1; p=AAAA": "sha256",
		"v=DKIM1; p=a; p=b": "twice", "hello": "no tag",
	} {
		_, err := doctor.ParseKeyRecord(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	r, err := doctor.ParseKeyRecord("k=ed25519; t=y:s; h=SHA256; p=" + ed)
	if err != nil || !r.Testing || !r.Strict || !slices.Equal(r.Hashes, []string{"sha256"}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzRecords(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=none; rua=mailto:a@b.test,x", "v=DKIM1; k=rsa; p=MIIB", "k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", ";;=", "v=DMARC1;p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := doctor.ParseDMARC(text); err == nil && !slices.Contains([]string{"none", "quarantine", "reject"}, d.P) {
			t.Errorf("policy %q", d.P)
		}
		if r, err := doctor.ParseKeyRecord(text); err != nil && r != nil && r.Key != nil {
			t.Error("a key beside an error")
		}
		if m, err := doctor.ParseMessage([]byte(text)); (m == nil) == (err == nil) {
			t.Errorf("%v, %v", m, err)
		}
	})
}
