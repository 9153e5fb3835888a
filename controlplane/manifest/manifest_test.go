package manifest_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hikyaku/controlplane/manifest"
	"hikyaku/controlplane/policy"
)

// everything has each kind, and the values that are hard to write back.
const everything = `# The route that the issue shows.
kind: Route
name: sink
spec: {domains: ["*"], hosts: ["127.0.0.1:2526"], allow_networks: [127.0.0.0/8], tls: opportunistic}
---
kind: Route
name: smarthost
spec:
  domains: [example.com, "*.example.com"]
  hosts: ["[2001:db8::1]:587"]
  username: "yes"
  password: "p: #x"
---
kind: Tenant
name: acme
spec:
  networks: [10.0.0.0/8, 2001:db8::/32]
  smtp_users:
    - name: "007"
      password_hash: $argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5
  rate: 5000/h,burst=50
  weight: 20
---
kind: Stream
name: acme/bulk
spec:
  priority: low
  expires: 36h
  retry: {schedule: [90s, 15m, 3d], jitter: 0}
  windows:
    - {days: [mon, tue], start: 09:00, end: "21:00", tz: Asia/Tokyo}
---
kind: Pool
name: p
spec: {sources: [{name: default, weight: 5}]}
---
kind: Source
name: s1
spec: {}
---
kind: Carrier
name: docomo
spec: {domains: [docomo.ne.jp], per_source: {connections: 2, rate: 10/s}, per_pool: {p: {rate: 5/s}, default: {connections: 9}}}
---
kind: Source
name: moving
spec:
  address: 192.0.2.10
  labels: {zone: "1", "rack.a": "yes"}
  attach: command
  attach_command: [/usr/local/sbin/address, add, "{address}", "--epoch={epoch}"]
  detach_command: [/usr/local/sbin/address, del, "{address}"]
---
kind: Tenant
name: capped
spec: {carriers: {docomo: {rate: 3/s, per_day: 1000}}}
---
kind: Throttle
name: docomo-tonight
spec: {carrier: docomo, pool: p, rate: 1/s, expires: 2026-11-22T18:00:00+09:00, reason: "they asked: please"}
---
kind: AdminKey
name: ann
spec: {role: read-only, hash: "sha256:abcdefabcdef:abababababababababababababababababababababababababababababababab", expires: 2027-01-01T00:00:00Z, networks: [10.0.0.0/8]}
`

var compare = cmp.Options{
	cmp.Comparer(func(a, b policy.Secret) bool { return a.Reveal() == b.Reveal() }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b policy.Instant) bool { return a == b }),
}

func TestParse(t *testing.T) {
	f, err := manifest.Parse("policy.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := policy.New(f.Resources); problems.Err() != nil {
		t.Fatal(problems)
	}
	sink := policy.Resource{Kind: "Route", Name: "sink", Spec: &policy.Route{
		Domains: []string{"*"}, Hosts: []string{"127.0.0.1:2526"}, TLS: "opportunistic",
		AllowNetworks: []policy.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}},
	}}
	if d := cmp.Diff(sink, f.Resources[0], compare); d != "" {
		t.Error(d)
	}
	if p := f.Resources[1].Spec.(*policy.Route).Password.Reveal(); p != "p: #x" {
		t.Errorf("password %q", p)
	}
	bulk := f.Resources[3].Spec.(*policy.Stream)
	if bulk.Retry.Schedule[2].D() != 72*time.Hour || *bulk.Retry.Jitter != 0 || bulk.Windows[0].Start != "09:00" {
		t.Errorf("stream: %+v %+v", bulk, bulk.Retry)
	}
}

func TestFormatReadsBack(t *testing.T) {
	f, err := manifest.Parse("policy.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	text, err := manifest.Format(f.Resources)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "p: #x") || strings.Contains(string(text), "***") {
		t.Errorf("the password, or its stand-in, was written:\n%s", text)
	}
	if !strings.Contains(string(text), "# password is set") {
		t.Errorf("nothing says that there is a password:\n%s", text)
	}
	again, err := manifest.Parse("again.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmp.Diff(f.Resources, again.Resources, cmpopts.IgnoreTypes(policy.Secret{}), compare); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
}

func TestFormatRevealedKeepsSecrets(t *testing.T) {
	pem := "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n"
	rs := []policy.Resource{
		{Kind: "SigningKey", Name: "k", Spec: &policy.SigningKey{Domain: "a.jp", Selector: "s", PrivateKey: policy.NewSecret(pem)}},
		{Kind: "Route", Name: "r", Spec: &policy.Route{Domains: []string{"*"}, Username: "u", Password: policy.NewSecret("p: #x")}},
	}
	text, err := manifest.FormatRevealed(rs)
	if err != nil {
		t.Fatal(err)
	}
	again, err := manifest.Parse("again", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if d := cmp.Diff(rs, again.Resources, compare); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
}

func TestParseJSONListing(t *testing.T) {
	f, err := manifest.Parse("policy.yaml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	r := f.Resources[4]
	r.Revision = 7
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := manifest.Parse("p.json", b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, again.Resources[0], compare); d != "" {
		t.Error(d)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"kind: Rout\nname: x\nspec: {}":                         `f:1:7: kind: unknown kind "Rout"; did you mean "Route"?`,
		"kind: Q\nname: x":                                      `unknown kind "Q"; the kinds are Tenant, Stream`,
		"name: x":                                               "f:1:1: kind: every document needs a kind",
		"kind: Pool\nspec: {sources: []}":                       "name: every resource needs a name",
		"kind: Pool\nname: p\nspec: {source: []}":               `f:3:8: spec.source: unknown key "source"; did you mean "sources"?`,
		"kind: Pool\nname: p\nsepc: {}":                         `did you mean "spec"?`,
		"kind: Route\nname: r\nspec: {password: \"***\"}":       "give the real value",
		"kind: Stream\nname: s\nspec: {expires: 5 minutes}":     `f:3:17: spec.expires: duration "5 minutes": want a number with a unit`,
		"kind: Tenant\nname: t\nspec: {rate: 100}":              "spec.rate: rate \"100\": want N/s",
		"kind: Tenant\nname: t\nspec: {networks: [10.0.0.1/8]}": "f:3:19: spec.networks[0]: network \"10.0.0.1/8\": bits are set beyond the prefix; did you mean 10.0.0.0/8?",
		"kind: Throttle\nname: t\nspec: {expires: 18:00}":       "f:3:17: spec.expires: instant \"18:00\": want a date and time",
		"kind: Carrier\nname: c\nspec:\n  per_pool:\n    p: {rate: 1/s}\n    p: {rate: 2/s}": `f:6:5: mapping key "p" already defined`,
		"kind: Source\nname: s\nspec: {labels: {zone: 1}}":                                   "f:3:23: spec.labels.zone: want text, got the number 1; put it in quotes",
		"- kind: Pool": "every document needs a kind",
	} {
		_, err := manifest.Parse("f", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestLocate(t *testing.T) {
	f, err := manifest.Parse("a.yaml", []byte("kind: Pool\nname: p\nspec:\n  sources:\n    - name: nope\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, problems := policy.New(f.Resources)
	got := f.Locate(append(problems, policy.Problem{Kind: "Pool", Name: "other", Path: "spec", Reason: "is elsewhere"}))
	want := "a.yaml:5:13: Pool/p: spec.sources[0].name: there is no Source \"nope\"\nPool/other: spec: is elsewhere"
	if got == nil || got.Error() != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
	if f.Locate(nil) != nil {
		t.Error("no problems must be no error")
	}
}

func TestAppend(t *testing.T) {
	one, _ := manifest.Parse("a.yaml", []byte("kind: Source\nname: a\nspec: {}"))
	two, _ := manifest.Parse("b.yaml", []byte("kind: Source\nname: b\nspec: {}\n---\nkind: Source\nname: a\nspec: {}"))
	if err := one.Append(two); err == nil || err.Error() != "b.yaml:6:7: name: Source/a is in another file already" {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	for doc := range strings.SplitSeq(everything, "---\n") {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := manifest.Parse("f", b)
		if err != nil {
			return
		}
		_, problems := policy.New(file.Resources)
		if len(problems) > 0 {
			if file.Locate(problems) == nil {
				t.Error("problems vanished")
			}
			return
		}
		// What is valid can be written, read back and written the same again.
		text, err := manifest.Format(file.Resources)
		if err != nil {
			t.Fatal(err)
		}
		again, err := manifest.Parse("again", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if text2, err := manifest.Format(again.Resources); err != nil || stripComments(string(text)) != stripComments(string(text2)) {
			t.Errorf("%v\n%s\n---- became\n%s", err, text, text2)
		}
	})
}

func stripComments(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}
