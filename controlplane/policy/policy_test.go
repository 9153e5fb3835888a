package policy_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"hikyaku/controlplane/policy"
)

// resource makes one from JSON, as the store and the API do.
func resource(t testing.TB, kind, name, spec string) policy.Resource {
	t.Helper()
	s := policy.NewSpec(kind)
	if err := json.Unmarshal([]byte(spec), s); err != nil {
		t.Fatalf("%s/%s: %v", kind, name, err)
	}
	return policy.Resource{Kind: kind, Name: name, Spec: s}
}

func mustSet(t testing.TB, rs ...policy.Resource) *policy.Set {
	t.Helper()
	s, problems := policy.New(rs)
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	return s
}

const goodHash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5"

func TestNewReportsEachProblem(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	tests := []struct{ kind, name, spec, path, reason string }{
		{"Tenant", "UPPER", `{}`, "name", "is not a name"},
		{"Tenant", "", `{}`, "name", "is not a name"},
		{"Tenant", "..", `{}`, "name", "beginning with a letter"},
		{"Tenant", strings.Repeat("a", 65), `{}`, "name", "1 to 64"},
		{"Stream", "a/b/c", `{}`, "name", "is not a name"},
		{"Stream", "Bad/x", `{}`, "name", "before the slash"},
		{"Stream", "nobody/x", `{}`, "name", `there is no Tenant "nobody"`},
		{"Tenant", "a", `{"weight":1001}`, "spec.weight", "want 1 to 1000"},
		{"Tenant", "a", `{"weight":-1}`, "spec.weight", "want 1 to 1000"},
		{"Tenant", "a", `{"per_day":-1}`, "spec.per_day", "out of range"},
		{"Tenant", "a", `{"dsn":"always"}`, "spec.dsn", "never, failure, full"},
		{"Tenant", "a", `{"pool":"defalt"}`, "spec.pool", `did you mean "default"?`},
		{"Tenant", "a", `{"default_stream":"bulk"}`, "spec.default_stream", "there is no Stream"},
		{"Tenant", "a", `{"sender_domains":["Example.com"]}`, "spec.sender_domains[0]", `"example.com"`},
		{"Tenant", "a", `{"sender_domains":["x.*"]}`, "spec.sender_domains[0]", "cannot be in a domain"},
		{"Tenant", "a", `{"networks":["10.0.0.0/8","10.0.0.0/8"]}`, "spec.networks[1]", "listed twice"},
		{"Tenant", "a", `{"smtp_users":[{"name":"u","password_hash":"secret"}]}`, "spec.smtp_users[0].password_hash", "hikyaku secret hash"},
		{"Tenant", "a", `{"smtp_users":[{"name":"u","password_hash":"$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5a2V5"}]}`, "spec.smtp_users[0].password_hash", "out of range"},
		{"Tenant", "a", `{"smtp_users":[{"name":"","password_hash":"` + goodHash + `"}]}`, "spec.smtp_users[0].name", "login name"},
		{"Tenant", "a", `{"smtp_users":[{"name":"u","password_hash":"` + goodHash + `"},{"name":"u","password_hash":"` + goodHash + `"}]}`, "spec.smtp_users[1].name", "listed twice"},
		{"Tenant", "a", `{"api_keys":[{"name":"k","hash":"sha256:short:00"}]}`, "spec.api_keys[0].hash", "hikyaku secret key"},
		{"Tenant", "a", `{"api_keys":[{"name":"k","hash":"sha256:abcdefabcdef:` + sum + `"},{"name":"l","hash":"sha256:abcdefabcdef:` + sum + `"}]}`, "spec.api_keys[1].hash", "listed twice"},
		{"Stream", "s", `{"priority":"urgent"}`, "spec.priority", "high, normal, low"},
		{"Stream", "s", `{"expires":"31d"}`, "spec.expires", "want 1m to 30d"},
		{"Stream", "s", `{"retry":{"schedule":["0s"]}}`, "spec.retry.schedule[0]", "want 1s to 7d"},
		{"Stream", "s", `{"retry":{"jitter":51}}`, "spec.retry.jitter", "0 to 50"},
		{"Stream", "s", `{"windows":[{"start":"9:00","end":"18:00"}]}`, "spec.windows[0].start", "HH:MM"},
		{"Stream", "s", `{"windows":[{"start":"24:00","end":"18:00"}]}`, "spec.windows[0].start", "00:00 to 23:59"},
		{"Stream", "s", `{"windows":[{"start":"09:00","end":"09:00"}]}`, "spec.windows[0].end", "no length"},
		{"Stream", "s", `{"windows":[{"start":"09:00","end":"18:00","tz":"Asia/Tokio"}]}`, "spec.windows[0].tz", "IANA"},
		{"Stream", "s", `{"windows":[{"start":"09:00","end":"18:00","tz":"Local"}]}`, "spec.windows[0].tz", "IANA"},
		{"Stream", "s", `{"windows":[{"days":["monday"],"start":"09:00","end":"18:00"}]}`, "spec.windows[0].days[0]", "none of mon"},
		{"Pool", "p", `{"sources":[]}`, "spec.sources", "at least one source"},
		{"Pool", "p", `{"sources":[{"name":"nope"}]}`, "spec.sources[0].name", "there is no Source"},
		{"Pool", "p", `{"sources":[{"name":"default"},{"name":"default"}]}`, "spec.sources[1].name", "twice"},
		{"Source", "s", `{"address":"192.0.2.256"}`, "spec.address", "no IP address"},
		{"Source", "s", `{"address":"0.0.0.0"}`, "spec.address", "cannot be sent from"},
		{"Source", "s", `{"ehlo":"mail_1..x"}`, "spec.ehlo", "no host name"},
		{"Source", "s", `{"node":"n1"}`, "spec.node", "each node has its own"},
		{"Source", "s", `{"labels":{"zone":"a"}}`, "spec.labels", "each node has its own"},
		{"Source", "s", `{"attach":"netlink"}`, "spec.attach", "each node has its own"},
		{"Source", "s", `{"address":"192.0.2.1","node":"n 1"}`, "spec.node", "no name of a node"},
		{"Source", "s", `{"address":"192.0.2.1","node":"n1","labels":{"zone":"a"}}`, "spec.labels", "pinned to node"},
		{"Source", "s", `{"address":"192.0.2.1","labels":{"zone":""}}`, "spec.labels", "is no label"},
		{"Source", "s", `{"address":"192.0.2.1","labels":{"a b":"c"}}`, "spec.labels", "is no label"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"arp"}`, "spec.attach", "none, netlink, command"},
		{"Source", "s", `{"address":"192.0.2.1","interface":"eth0"}`, "spec.interface", "attach: netlink only"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"netlink"}`, "spec.interface", "needs the interface"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"netlink","interface":"eth/0"}`, "spec.interface", "no name of an interface"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"netlink","interface":"abcdefghijklmnop"}`, "spec.interface", "1 to 15"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"netlink","interface":"eth0","prefix_length":33}`, "spec.prefix_length", "want 1 to 32"},
		{"Source", "s", `{"address":"2001:db8::1","attach":"netlink","interface":"eth0","prefix_length":129}`, "spec.prefix_length", "want 1 to 128"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"command","attach_command":["/bin/a"]}`, "spec.detach_command", "needs it"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"command","attach_command":["a"],"detach_command":["/bin/a"]}`, "spec.attach_command[0]", "absolute path"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"command","attach_command":["/bin/../a"],"detach_command":["/bin/a"]}`, "spec.attach_command[0]", "absolute path"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"command","attach_command":["/bin/{address}"],"detach_command":["/bin/a"]}`, "spec.attach_command[0]", "not replaced here"},
		{"Source", "s", `{"address":"192.0.2.1","attach":"command","attach_command":["/bin/a","{adress}"],"detach_command":["/bin/a"]}`, "spec.attach_command[1]", "{address}"},
		{"Source", "s", `{"address":"192.0.2.1","attach_command":["/bin/a"]}`, "spec.attach_command", "attach: command only"},
		{"Carrier", "c", `{"per_pool":{"bulk":{"rate":"1/s"}}}`, "spec.per_pool.bulk", "there is no Pool"},
		{"Carrier", "c", `{"per_pool":{"default":{"connections":-1}}}`, "spec.per_pool.default.connections", "out of range"},
		{"Tenant", "a", `{"carriers":{"docomo":{"rate":"1/s"}}}`, "spec.carriers.docomo", "there is no Carrier"},
		{"Tenant", "a", `{"carriers":{"default":{"per_day":-1}}}`, "spec.carriers.default.per_day", "out of range"},
		{"Throttle", "t", `{"rate":"1/s"}`, "spec", "on one scope"},
		{"Throttle", "t", `{"pool":"default","rate":"1/s"}`, "spec", "on one scope"},
		{"Throttle", "t", `{"carrier":"default","pool":"default","source":"default","rate":"1/s"}`, "spec", "on one scope"},
		{"Throttle", "t", `{"carrier":"default","tenant":"default","stream":"default","rate":"1/s"}`, "spec", "on one scope"},
		{"Throttle", "t", `{"carrier":"default","job":"j","rate":"1/s"}`, "spec", "on one scope"},
		{"Throttle", "t", `{"tenant":"default","pool":"default","rate":"1/s"}`, "spec", "on one scope"},
		{"Throttle", "t", `{"carrier":"defualt","rate":"1/s"}`, "spec.carrier", `did you mean "default"?`},
		{"Throttle", "t", `{"carrier":"default","pool":"p","rate":"1/s"}`, "spec.pool", "there is no Pool"},
		{"Throttle", "t", `{"carrier":"default","source":"p","rate":"1/s"}`, "spec.source", "there is no Source"},
		{"Throttle", "t", `{"tenant":"a","rate":"1/s"}`, "spec.tenant", "there is no Tenant"},
		{"Throttle", "t", `{"tenant":"default","stream":"bulk","rate":"1/s"}`, "spec.stream", "there is no Stream"},
		{"Throttle", "t", `{"tenant":"default","job":"a b","rate":"1/s"}`, "spec.job", "printable ASCII"},
		{"Throttle", "t", `{"tenant":"default","job":"j","rate":"1/s","per_day":5}`, "spec.per_day", "no daily limit"},
		{"Throttle", "t", `{"tenant":"default","rate":"1/s","connections":5}`, "spec.connections", "a carrier's"},
		{"Throttle", "t", `{"tenant":"default","carrier":"default","connection_rate":"1/s"}`, "spec.connection_rate", "a carrier's"},
		{"Throttle", "t", `{"carrier":"default"}`, "spec", "what it sets"},
		{"Throttle", "t", `{"carrier":"default","per_day":-5}`, "spec.per_day", "out of range"},
		{"Throttle", "t", `{"carrier":"default","rate":"1/s","reason":"` + strings.Repeat("x", 1001) + `"}`, "spec.reason", "1000 bytes"},
		{"AdminKey", "k", `{"hash":"sha256:abcdefabcdef:` + sum + `"}`, "spec.role", "admin, operator"},
		{"AdminKey", "k", `{"role":"root","hash":"sha256:abcdefabcdef:` + sum + `"}`, "spec.role", "none of admin"},
		{"AdminKey", "k", `{"role":"admin"}`, "spec.hash", "hikyaku secret key"},
		{"AdminKey", "k", `{"role":"tenant","hash":"sha256:abcdefabcdef:` + sum + `"}`, "spec.tenant", "needs the tenant"},
		{"AdminKey", "k", `{"role":"tenant","tenant":"a","hash":"sha256:abcdefabcdef:` + sum + `"}`, "spec.tenant", "there is no Tenant"},
		{"AdminKey", "k", `{"role":"admin","tenant":"default","hash":"sha256:abcdefabcdef:` + sum + `"}`, "spec.tenant", "role tenant only"},
		{"Carrier", "default", `{"mx":[".google.com"]}`, "spec.mx", "takes what no other matches"},
		{"Carrier", "c", `{"mx":["*.google.com"]}`, "spec.mx[0]", ".google.com"},
		{"Carrier", "c", `{"mx":["google.com",".google.com"]}`, "spec.mx[1]", "listed twice"},
		{"Carrier", "c", `{"domains":["*"]}`, "spec.domains[0]", "carrier named default"},
		{"Carrier", "c", `{"limits":{"connections":-5}}`, "spec.limits.connections", "out of range"},
		{"Carrier", "c", `{"tls":"implicit"}`, "spec.tls", "none of none, opportunistic"},
		{"Carrier", "c", `{"addresses":"v4"}`, "spec.addresses", "prefer-ipv4"},
		{"Carrier", "c", `{"backoff":"31m"}`, "spec.backoff", "want 1s to 30m"},
		{"Carrier", "c", `{"recipients_per_transaction":1001}`, "spec.recipients_per_transaction", "1 to 1000"},
		{"Route", "r", `{}`, "spec.domains", "needs the domains"},
		{"Route", "r", `{"domains":["*","*"]}`, "spec.domains[1]", "listed twice"},
		{"Route", "r", `{"domains":["*"],"hosts":["host:0"]}`, "spec.hosts[0]", "1 to 65535"},
		{"Route", "r", `{"domains":["*"],"hosts":["[192.0.2.1]:25"]}`, "spec.hosts[0]", "brackets are for an IPv6"},
		{"Route", "r", `{"domains":["*"],"username":"u","password":"p"}`, "spec.hosts", "whatever the MX records name"},
		{"Route", "r", `{"domains":["*"],"hosts":["h"],"username":"u"}`, "spec.password", "no password"},
		{"Route", "r", `{"domains":["*"],"hosts":["h"],"password":"p"}`, "spec.username", "no username"},
		{"Route", "r", `{"domains":["*"],"hosts":["h"],"tls":"none","username":"u","password":"p"}`, "spec.tls", "auth_plaintext"},
		{"Route", "r", `{"domains":["*"],"tls":"implicit"}`, "spec.tls", "needs hosts"},
		{"Route", "r", `{"domains":["*"],"carrier":"gmial"}`, "spec.carrier", "there is no Carrier"},
		{"SigningKey", "k", `{"domain":"example.com","selector":"s"}`, "spec.private_key", "either private_key or private_key_file"},
		{"SigningKey", "k", `{"domain":"example.com","selector":"s","private_key_file":"k.pem"}`, "spec.private_key_file", "absolute"},
		{"SigningKey", "k", `{"domain":"example.com","selector":"s","private_key":"zzz"}`, "spec.private_key", "PEM"},
		{"SigningKey", "k", `{"domain":"","selector":"s","private_key_file":"/k.pem"}`, "spec.domain", "empty"},
		{"SigningKey", "k", `{"domain":"example.com","selector":"s","private_key_file":"/k.pem","oversign_headers":["From:"]}`, "spec.oversign_headers[0]", "header field name"},
	}
	for _, tt := range tests {
		t.Run(tt.kind+" "+tt.path+" "+tt.spec, func(t *testing.T) {
			set, problems := policy.New([]policy.Resource{resource(t, tt.kind, tt.name, tt.spec)})
			if set != nil {
				t.Fatal("a set was made of a bad resource")
			}
			if len(problems) != 1 {
				t.Fatalf("want one problem, got %d:\n%v", len(problems), problems)
			}
			p := problems[0]
			if p.Kind != tt.kind || p.Name != tt.name || p.Path != tt.path || !strings.Contains(p.Reason, tt.reason) {
				t.Errorf("got %v\nwant %s: …%s…", p, tt.path, tt.reason)
			}
		})
	}
}

func TestNewReportsWhatOnlyOneMayHave(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	pairs := []struct{ kind, a, b, path string }{
		{"Tenant", `{"networks":["10.0.0.0/8"]}`, `{"networks":["10.0.0.0/8"]}`, "spec.networks[0]"},
		{"Tenant", `{"smtp_users":[{"name":"u","password_hash":"` + goodHash + `"}]}`, `{"smtp_users":[{"name":"u","password_hash":"` + goodHash + `"}]}`, "spec.smtp_users[0].name"},
		{"Throttle", `{"carrier":"default","rate":"1/s"}`, `{"carrier":"default","connections":1,"expires":"2026-11-22T18:00:00Z"}`, "spec"},
		{"AdminKey", `{"role":"admin","hash":"sha256:abcdefabcdef:` + sum + `"}`, `{"role":"read-only","hash":"sha256:abcdefabcdef:` + sum + `"}`, "spec.hash"},
		{"Source", `{"address":"2001:db8::1"}`, `{"address":"2001:db8:0::1"}`, "spec.address"},
		{"Carrier", `{"mx":[".google.com"]}`, `{"mx":["google.com"]}`, "spec.mx[0]"},
		{"Carrier", `{"domains":["*.a.jp"]}`, `{"domains":["*.a.jp"]}`, "spec.domains[0]"},
		{"Route", `{"domains":["a.jp"]}`, `{"domains":["a.jp"]}`, "spec.domains[0]"},
		{"SigningKey", `{"domain":"a.jp","selector":"s","private_key_file":"/a"}`, `{"domain":"a.jp","selector":"s","private_key_file":"/b"}`, "spec.selector"},
	}
	for _, p := range pairs {
		_, problems := policy.New([]policy.Resource{resource(t, p.kind, "one", p.a), resource(t, p.kind, "two", p.b)})
		if len(problems) != 1 || problems[0].Path != p.path || problems[0].Name != "two" || !strings.Contains(problems[0].Reason, p.kind+"/one") {
			t.Errorf("%s: %v: want one problem of two at %s that names one", p.kind, problems, p.path)
		}
	}
	same := resource(t, "Pool", "p", `{"sources":[{"name":"default"}]}`)
	if _, problems := policy.New([]policy.Resource{same, same}); len(problems) != 1 || problems[0].Path != "name" {
		t.Errorf("two of one name: %v", problems)
	}
}

func TestNewRefusesMixedUpSpecs(t *testing.T) {
	for _, r := range []policy.Resource{
		{Kind: "Queue", Name: "x"},
		{Kind: "Pool", Name: "x"},
		{Kind: "Pool", Name: "x", Spec: (*policy.Pool)(nil)},
		{Kind: "Pool", Name: "x", Spec: &policy.Source{}},
	} {
		if set, problems := policy.New([]policy.Resource{r}); set != nil || len(problems) != 1 {
			t.Errorf("%+v: %v", r, problems)
		}
	}
}

func TestNewFillsDefaults(t *testing.T) {
	s := mustSet(t,
		resource(t, "Carrier", "default", `{"retry":{"schedule":["1m"]}}`),
		resource(t, "Carrier", "docomo", `{"domains":["docomo.ne.jp"],"per_source":{"connections":2}}`),
		resource(t, "Stream", "bulk", `{"windows":[{"start":"09:00","end":"21:00"}]}`),
	)
	if c := s.Carriers["docomo"]; c.PerSource.Connections != 2 || c.MessagesPerConnection != 1000 || c.TLS != "opportunistic" ||
		c.Retry.Schedule[0].D() != time.Minute || *c.Retry.Jitter != 10 || c.Backoff.D() != 30*time.Second {
		t.Errorf("docomo: %+v %+v", c, c.Retry)
	}
	if c := s.Carriers["default"]; c.PerSource.Connections != 20 {
		t.Errorf("default carrier: %+v", c)
	}
	if b := s.Streams["bulk"]; b.Priority != "normal" || b.Expires.D() != 72*time.Hour || b.Windows[0].TZ != "UTC" || b.Retry != nil {
		t.Errorf("bulk: %+v", b)
	}
	if s.Tenants["default"].DSN != "failure" || s.Sources["default"] == nil || s.Streams["default"] == nil {
		t.Error("the default tenant, source and stream must exist")
	}
	if p := s.Pools["default"]; len(p.Sources) != 1 || p.Sources[0] != (policy.PoolMember{Name: "default", Weight: 10}) {
		t.Errorf("default pool: %+v", p)
	}
	if got := s.Carriers["default"].Retry.Schedule; &got[0] == &policy.DefaultSchedule[0] {
		t.Error("the shared default schedule was handed out")
	}
}

// TestNewKeepsItsOwnCopy: a Set is immutable, whatever its maker does next.
func TestNewKeepsItsOwnCopy(t *testing.T) {
	r := resource(t, "Pool", "p", `{"sources":[{"name":"default"}]}`)
	s := mustSet(t, r)
	spec := r.Spec.(*policy.Pool)
	if spec.Sources[0].Weight != 0 {
		t.Error("defaults were written into the caller's spec")
	}
	spec.Sources[0].Name = "other"
	if s.Pools["p"].Sources[0].Name != "default" {
		t.Error("the set changed with the caller's spec")
	}
}

func TestRouteAndCarrierOf(t *testing.T) {
	s := mustSet(t,
		resource(t, "Route", "all", `{"domains":["*"]}`),
		resource(t, "Route", "below", `{"domains":["*.example.com"]}`),
		resource(t, "Route", "deep", `{"domains":["*.a.example.com","x.b.example.com"],"carrier":"google"}`),
		resource(t, "Carrier", "google", `{"mx":[".google.com"]}`),
		resource(t, "Carrier", "gws", `{"mx":["aspmx.l.google.com"]}`),
		resource(t, "Carrier", "vodafone", `{"domains":["*.vodafone.ne.jp","vodafone.ne.jp"]}`),
	)
	for domain, want := range map[string]string{
		"other.org": "all", "example.com": "all", "x.example.com": "below", "a.example.com": "below",
		"z.a.example.com": "deep", "x.b.example.com": "deep", "y.x.b.example.com": "below", "com": "all", "[192.0.2.1]": "all",
	} {
		if _, got := s.RouteOf(domain); got != want {
			t.Errorf("route of %s: %s, want %s", domain, got, want)
		}
	}
	for _, tt := range []struct {
		domain string
		mx     []string
		want   string
	}{
		{"x.jp", []string{"alt1.google.com", "alt2.google.com"}, "google"},
		{"x.jp", []string{"google.com"}, "google"},
		{"x.jp", []string{"notgoogle.com"}, "default"},
		{"x.jp", []string{"alt1.google.com", "mx.other.net"}, "default"},
		{"x.jp", []string{"aspmx.l.google.com", "alt1.aspmx.l.google.com"}, "gws"},
		{"t.vodafone.ne.jp", []string{"mx.google.com"}, "vodafone"},
		{"vodafone.ne.jp", nil, "vodafone"},
		{"x.jp", nil, "default"},
	} {
		if got := s.CarrierOf(tt.domain, tt.mx); got != tt.want {
			t.Errorf("carrier of %s %v: %s, want %s", tt.domain, tt.mx, got, tt.want)
		}
	}
	route, _ := s.RouteOf("x.b.example.com")
	if _, name := s.CarrierFor(route, "x.b.example.com", nil); name != "google" {
		t.Errorf("carrier of a route that names one: %s", name)
	}
}

func TestStreamAndPoolFor(t *testing.T) {
	s := mustSet(t,
		resource(t, "Tenant", "acme", `{"default_stream":"bulk","pool":"p1","sender_domains":["acme.jp","*.acme.jp"]}`),
		resource(t, "Stream", "bulk", `{"pool":"p2"}`),
		resource(t, "Stream", "acme/bulk", `{"expires":"1h"}`),
		resource(t, "Pool", "p1", `{"sources":[{"name":"default"}]}`),
		resource(t, "Pool", "p2", `{"sources":[{"name":"default"}]}`),
	)
	st, name := s.StreamFor("acme", "")
	if name != "bulk" || st.Expires.D() != time.Hour {
		t.Errorf("acme's default stream: %s %+v", name, st)
	}
	if got := s.PoolFor("acme", st, ""); got != "p1" {
		t.Errorf("pool: %s, want the tenant's since the stream has none", got)
	}
	other, name := s.StreamFor("other", "bulk")
	if name != "bulk" || s.PoolFor("other", other, "") != "p2" || s.PoolFor("other", other, "p1") != "p1" || s.PoolFor("other", other, "none") != "" {
		t.Errorf("stream %s of another tenant: %+v", name, other)
	}
	if st, name := s.StreamFor("other", ""); name != "default" || s.PoolFor("other", st, "") != "default" {
		t.Errorf("without a word: %s", name)
	}
	if st, _ := s.StreamFor("other", "none"); st != nil {
		t.Error("a stream that does not exist was found")
	}
	for domain, want := range map[string]bool{"acme.jp": true, "x.acme.jp": true, "notacme.jp": false, ".acme.jp": false, "": false} {
		if got := s.Tenants["acme"].SenderAllowed(domain); got != want {
			t.Errorf("sender %q: %v", domain, got)
		}
	}
	if *s.RetryFor(st, "nowhere").Jitter != 10 {
		t.Error("the default carrier's retry must be the last resort")
	}
}

func TestSigningKeys(t *testing.T) {
	encode := func(typ string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der})))
		return string(b)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	edDER, err := x509.MarshalPKCS8PrivateKey(ed)
	good := []string{encode("PRIVATE KEY", edDER, err)}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good = append(good, encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small), nil))
	for _, k := range good {
		r := resource(t, "SigningKey", "k", `{"domain":"example.com","selector":"s1","private_key":`+k+`}`)
		mustSet(t, r)
	}
}

// TestSecretsAreTopLevelFields holds the promise that Secrets finds all of a
// spec's secrets.
func TestSecretsAreTopLevelFields(t *testing.T) {
	secret := reflect.TypeFor[policy.Secret]()
	var count func(ty reflect.Type, seen []reflect.Type) int
	count = func(ty reflect.Type, seen []reflect.Type) int {
		if ty == secret {
			return 1
		}
		if slices.Contains(seen, ty) {
			return 0
		}
		seen = append(seen, ty)
		n := 0
		switch ty.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			n = count(ty.Elem(), seen)
		case reflect.Struct:
			for i := range ty.NumField() {
				n += count(ty.Field(i).Type, seen)
			}
		}
		return n
	}
	for _, kind := range policy.Kinds() {
		spec := policy.NewSpec(kind)
		if all, found := count(reflect.TypeOf(spec).Elem(), nil), len(policy.Secrets(spec)); all != found {
			t.Errorf("%s has %d secret fields, Secrets finds %d", kind, all, found)
		}
	}
	route := &policy.Route{}
	*policy.Secrets(route)["password"] = policy.NewSecret("x")
	if route.Password.Reveal() != "x" {
		t.Error("Secrets does not point into the spec")
	}
	if out, _ := json.Marshal(route); strings.Contains(string(out), `"x"`) || !strings.Contains(string(out), `"***"`) {
		t.Errorf("a listing shows %s", out)
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"mx.example.com": "mx.example.com::25", "mx.example.com:2525": "mx.example.com::2525",
		"192.0.2.1": ":192.0.2.1:25", "192.0.2.1:26": ":192.0.2.1:26", "127.0.0.1:2526": ":127.0.0.1:2526",
		"2001:db8::1": ":2001:db8::1:25", "[2001:db8::1]": ":2001:db8::1:25", "[2001:db8::1]:587": ":2001:db8::1:587",
		"": "error", "a:b": "error", "a:70000": "error", "[x]:25": "error", "a..b": "error", "fe80::1%eth0": "error", ":25": "error", "A.example": "error",
	} {
		h, err := policy.ParseHost(in)
		got := "error"
		if err == nil {
			addr := ""
			if h.Addr.IsValid() {
				addr = h.Addr.String()
			}
			got = h.Name + ":" + addr + ":" + itoa(h.Port)
		}
		if got != want {
			t.Errorf("%q: %s (%v), want %s", in, got, err, want)
		}
	}
}

func itoa(n uint16) string { b, _ := json.Marshal(n); return string(b) }

func TestUnitsRoundTrip(t *testing.T) {
	for in, want := range map[string]string{"90s": "1m30s", "15m": "15m", "4h": "4h", "3d": "3d", "72h": "3d", "0s": "0s", "1h30m": "1h30m", "100ms": "100ms"} {
		var d policy.Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.String() != want {
			t.Errorf("%s: %s %v", in, d, err)
		}
	}
	for _, in := range []string{"", "5", "-5m", "5 minutes", "99999999d", "d", "1.5d"} {
		var d policy.Duration
		if err := d.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("duration %q was read as %s", in, d)
		}
	}
	for _, in := range []string{"100/s", "10/m", "5000/h,burst=50", "0/d"} {
		if r, err := policy.ParseRate(in); err != nil || r.String() != in {
			t.Errorf("%s: %s %v", in, r, err)
		}
	}
	for _, in := range []string{"", "100", "100/w", "-1/s", "1/s,burst=0", "1/s,b=1", "9999999999999/s", "1/s,burst=1,burst=2"} {
		if r, err := policy.ParseRate(in); err == nil {
			t.Errorf("rate %q was read as %s", in, r)
		}
	}
	for in, want := range map[string]string{"2026-11-22T18:00:00+09:00": "2026-11-22T09:00:00Z", "2026-11-22T09:00:00.9Z": "2026-11-22T09:00:00Z"} {
		var i policy.Instant
		if err := i.UnmarshalText([]byte(in)); err != nil || i.String() != want || i != policy.At(i.Time()) {
			t.Errorf("%s: %s %v", in, i, err)
		}
	}
	for _, in := range []string{"", "18:00", "2026-11-22", "2026-11-22T18:00:00", "2026-11-22 18:00:00Z", "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "1763802000"} {
		var i policy.Instant
		if err := i.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("instant %q was read as %s", in, i)
		}
	}
	for _, in := range []string{"10.1.0.0/8", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "x", "fe80::1%eth0", "10.0.0.0/33"} {
		var n policy.Network
		if err := n.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("network %q was read as %s", in, n)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"default", "max", "name", "port"}
	for word, want := range map[string]string{
		"nmae": "name", "prot": "port", "Name": "name", "defalt": "default", "defuatl": "default", "x": "", "zzzz": "", "": "", "mx": "max",
		strings.Repeat("a", 100): "",
	} {
		if got := policy.Nearest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"3d", "1h30m", "5000/h,burst=50", "10.0.0.0/8", "::/0", "[2001:db8::1]:25", "mx:25", "2026-11-22T18:00:00+09:00", goodHash} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var d, d2 policy.Duration
		if d.UnmarshalText([]byte(s)) == nil && (d < 0 || d2.UnmarshalText([]byte(d.String())) != nil || d2 != d) {
			t.Errorf("duration %q → %s → %s", s, d, d2)
		}
		if r, err := policy.ParseRate(s); err == nil {
			if r2, err := policy.ParseRate(r.String()); err != nil || r2 != r {
				t.Errorf("rate %q → %s → %s", s, r, r2)
			}
		}
		var i, i2 policy.Instant
		if i.UnmarshalText([]byte(s)) == nil && (i.IsZero() || i2.UnmarshalText([]byte(i.String())) != nil || i2 != i) {
			t.Errorf("instant %q → %s → %s", s, i, i2)
		}
		var n, n2 policy.Network
		if n.UnmarshalText([]byte(s)) == nil && (n2.UnmarshalText([]byte(n.String())) != nil || n2 != n) {
			t.Errorf("network %q → %s → %s", s, n, n2)
		}
		if h, err := policy.ParseHost(s); err == nil && ((h.Name == "") == !h.Addr.IsValid() || h.Port == 0) {
			t.Errorf("host %q → %+v", s, h)
		}
		if h, err := policy.ParsePasswordHash(s); err == nil {
			if h2, err := policy.ParsePasswordHash(h.String()); err != nil || !reflect.DeepEqual(h, h2) {
				t.Errorf("hash %q → %s", s, h)
			}
		}
		if h, err := policy.ParseKeyHash(s); err == nil {
			if h2, err := policy.ParseKeyHash(h.String()); err != nil || h != h2 {
				t.Errorf("key hash %q → %s", s, h)
			}
		}
	})
}
