package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hikyaku/bench/dns"
	policyapi "hikyaku/controlplane/api"
	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
	"hikyaku/node/dkim"
	"hikyaku/reputation/doctor"
	"hikyaku/tools/hikyaku/admin"
)

const doctorZone = `
$TTL 300
. SOA ns.test. hostmaster.test. 1 3600 600 86400 60
example.com.          MX 10 in.example.com.
in.example.com.       A 93.184.216.9
out1.example.com.     A 93.184.216.1
bounce.example.com.   MX 10 in.example.com.
bounce.example.com.   TXT "v=spf1 ip4:93.184.216.1 -all"
_dmarc.example.com.   TXT "v=DMARC1; p=reject; rua=mailto:d@example.com"
1.216.184.93.in-addr.arpa. PTR out1.example.com.
`

func nameServer(t *testing.T, zone string) string {
	t.Helper()
	s, err := dns.Start(zone, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Addr()
}

// signers are the keys that a node signs with.
type signers []api.SigningKey

func (k signers) SigningKeys() []api.SigningKey { return k }
func (signers) Blocklists() []api.Listing       { return nil }

// doctorNode is a node with policy about example.com.
func doctorNode(t *testing.T, txt string) string {
	t.Helper()
	f, err := store.OpenFile(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	mux := http.NewServeMux()
	k := signers{{Name: "k", Domain: "example.com", Selector: "s1", DNSText: txt}, {Name: "other", Domain: "example.org", Selector: "s1", DNSText: txt}}
	admin.Register(mux, &api.Options{Node: apitest.New(), Senders: k}, &policyapi.Options{Store: f})
	srv := httptest.NewServer(api.Guard(mux, api.GuardOptions{}))
	t.Cleanup(srv.Close)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text, err := manifest.FormatRevealed([]policy.Resource{
		{Kind: policy.KindSource, Name: "one", Spec: &policy.Source{Address: "93.184.216.1", EHLO: "out1.example.com"}},
		{Kind: policy.KindTenant, Name: "shop", Spec: &policy.Tenant{SenderDomains: []string{"example.com"}, ReturnPath: "bounce.example.com"}},
		{Kind: policy.KindTenant, Name: "other", Spec: &policy.Tenant{SenderDomains: []string{"example.org"}, ReturnPath: "bounce.example.org"}},
	})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code := run([]string{"--api", srv.URL, "apply", "-f", file}, strings.NewReader(""), &out, &out); code != 0 {
		t.Fatalf("apply: %s", out.String())
	}
	return srv.URL
}

func TestDoctorAsksPolicyAndDNS(t *testing.T) {
	_, txt, err := dkim.Generate(dkim.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	_, another, err := dkim.Generate(dkim.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	api := doctorNode(t, txt)
	healthy := doctorZone + dkim.ZoneRecord("s1", "example.com", txt) + "\n"
	for _, c := range []struct {
		name, zone string
		args       []string
		code       int
		want       []string
	}{
		{"healthy", healthy, nil, 0, []string{"✓  spf", "pass by ip4:93.184.216.1", "RSA of 2048 bits, the key that signs", "p=reject", "DKIM and SPF both", "out1.example.com, and back", "✓  Gmail", "https://support.google.com/a/answer/81126", "0 failures"}},
		{"another key", doctorZone + dkim.ZoneRecord("s1", "example.com", another) + "\n", nil, 1, []string{"✗  dkim", "another key is published", "Publish in DNS:", `s1._domainkey.example.com. IN TXT ( "` + txt[:255] + `" "`, "1 failure"}},
		{"a source to come", healthy, []string{"--source", "93.184.216.2=out2.example.com"}, 1, []string{`bounce.example.com. IN TXT "v=spf1 ip4:93.184.216.2 ip4:93.184.216.1 -all"`, "2.216.184.93.in-addr.arpa. IN PTR out2.example.com."}},
		{"another return path", healthy, []string{"--return-path", "example.com"}, 1, []string{"example.com has no SPF record"}},
		{"offline", healthy, []string{"--offline"}, 1, []string{"which key signs is not known", "?  dkim"}},
		{"offline with all", healthy, []string{"--offline", "--selector", "s1", "--source", "93.184.216.1=out1.example.com", "--return-path", "bounce.example.com"}, 0, []string{"RSA of 2048 bits\n", "0 failures"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			args := append([]string{"--api", api, "doctor", "example.com", "--resolver", nameServer(t, c.zone)}, c.args...)
			if code := run(args, strings.NewReader(""), &out, &out); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("it lacks %q:\n%s", w, out.String())
				}
			}
			if strings.Contains(out.String(), "\x1b[") {
				t.Error("colour without a terminal")
			}
		})
	}
}

func TestDoctorReadsAMessage(t *testing.T) {
	const message = "From: n@example.com\r\nDate: Sun, 22 Nov 2026 12:00:00 +0900\r\nMessage-ID: <1@example.com>\r\nList-Unsubscribe: <https://u.example.com/>\r\n\r\n"
	var out strings.Builder
	args := []string{"doctor", "Example.COM.", "--offline", "--json", "--message", "-", "--resolver", nameServer(t, doctorZone)}
	if code := run(args, strings.NewReader(message), &out, &out); code != 1 {
		t.Errorf("exit code %d", code)
	}
	var r doctor.Report
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	for _, k := range r.Checks {
		if k.Name == doctor.CheckNameOneClick && (k.Status != doctor.Fail || !strings.Contains(k.Text, "Post is missing")) {
			t.Errorf("%+v", k)
		}
	}
}

func TestDoctorRefusesWhatItCannotRead(t *testing.T) {
	for _, args := range [][]string{
		{"not a domain"}, {"example.com", "--source", "x"}, {"example.com", "--selector", "a b"}, {"example.com", "--return-path", "-"},
		{"example.com", "--message", "/does/not/exist"}, {"example.com", "--resolver", "dns.example.com"}, {},
	} {
		var out strings.Builder
		if code := run(append([]string{"doctor", "--offline"}, args...), strings.NewReader(""), &out, &out); code != 2 {
			t.Errorf("%v: exit code %d\n%s", args, code, out.String())
		}
	}
}
