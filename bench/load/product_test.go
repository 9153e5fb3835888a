package load

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/ledger"
	"hikyaku/bench/peers"
	"hikyaku/bench/sink"
	"hikyaku/node/credential"
	"hikyaku/spool/message"
)

// product is a node between a source and a receiver.
type product struct {
	*receiver
	node *peers.Hikyaku
}

func startProduct(tb testing.TB, m *Mix, o peers.HikyakuOptions) *product {
	tb.Helper()
	r := newReceiver(tb, m)
	s := startSink(tb, sink.Options{Chunking: true, Message: r.message, Recipient: func(_, to string) string {
		if n, _ := ledger.Number(to); n%50 == 7 {
			return "550 5.1.1 no such user"
		}
		return ""
	}})
	o.Policy = fmt.Sprintf("kind: Route\nname: sink\nspec: {domains: [\"*\"], hosts: [%q], allow_networks: [127.0.0.0/8]}\n", s.Addr) + prefixed("---\n", o.Policy)
	return &product{r, peers.StartHikyaku(tb, o)}
}

// settle waits until nothing is queued and tells the ledger the event log.
func (p *product) settle(tb testing.TB) ledger.Balance {
	tb.Helper()
	peers.Until(tb, time.Minute, "the queue to be empty", func() bool {
		_, v := p.node.Get(tb, "http://"+p.node.Admin+"/v1/overview")
		queue, _ := v["queue"].(map[string]any)
		return queue["counted"] == true && queue["queued"] == 0.0
	})
	var log string
	sent := p.Balance().Accepted
	peers.Until(tb, time.Minute, "the event log to have all of it", func() bool { // it follows the spool a moment later
		log = p.node.CLI(tb, "events", "search", "--json", "--limit", "1000000")
		accepted := strings.Count(log, `"type":"accepted"`)
		return accepted >= sent && strings.Count(log, "\n") >= 2*accepted
	})
	for line := range strings.Lines(log) {
		var e message.EventRecord
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			tb.Fatalf("%v: %s", err, line)
		}
		n, ok := ledger.Number(e.Recipient)
		if !ok {
			n = -1
		}
		want := p.mix.Message(p.mix.MessageOf(max(n, 0)))
		if want.Stream != "" && e.Stream != want.Stream || p.mix.Job != "" && e.Job != p.mix.Job || want.Tenant.Name != "" && e.Tenant != want.Tenant.Name || e.Sender != want.Sender {
			tb.Errorf("recipient %d: want stream %q, job %q, tenant %q, sender %q: %s", n, want.Stream, p.mix.Job, want.Tenant.Name, want.Sender, line)
		}
		switch e.Type {
		case message.EventAccepted:
			p.Logged(n)
		case message.EventDelivered:
			p.Ended(n, message.Delivered)
		case message.EventBounced:
			p.Ended(n, message.Bounced)
		default:
			tb.Errorf("an event that this run has no reason for: %s", line)
		}
	}
	p.LogRead()
	return p.Balance()
}

// TestThroughTheProduct is each way in, through a node of the product, to a
// receiver that refuses every fiftieth and compares all content.
func TestThroughTheProduct(t *testing.T) {
	const n = 1500
	template := func() *Mix {
		return &Mix{Seed: 5, Recipients: n, PerMessage: 200, Template: &Template{}, Job: "autumn"}
	}
	for name, o := range map[string]Options{
		"smtp, plain":          {Mode: PlainCommands, Mix: mixed(n)},
		"smtp, pipelining":     {Mode: Pipelining, Mix: mixed(n)},
		"smtp, chunking":       {Mode: Chunking, Mix: mixed(n)},
		"smtp, named job":      {Mix: &Mix{Recipients: n, Job: "autumn", Streams: []Stream{{Name: "bulk", Weight: 1}, {Name: "urgent", Weight: 1}}}},
		"http":                 {Protocol: HTTP, Mix: &Mix{Recipients: n, Sizes: []Share{{Bytes: 4096, Weight: 1, Kind: Plain}, {Bytes: 8192, Weight: 1, Kind: Multipart}}}},
		"http, idempotent":     {Protocol: HTTP, Mix: &Mix{Recipients: n}, Idempotent: true, PerConnection: 10},
		"http, open loop":      {Protocol: HTTP, Mix: &Mix{Recipients: n}, Rate: 2000, Poisson: true},
		"http-batch":           {Protocol: HTTPBatch, Mix: &Mix{Recipients: n, Spread: []Count{{Recipients: 1, Weight: 1}, {Recipients: 70, Weight: 1}}, Streams: []Stream{{Name: "bulk", Weight: 1}}}},
		"http-template":        {Protocol: HTTPTemplate, Mix: template()},
		"http-template, small": {Protocol: HTTPTemplate, Mix: &Mix{Recipients: n, Template: &Template{Subject: "{{points}}", Text: "{{city}}: {{name}}\n.\n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProduct(t, o.Mix, peers.HikyakuOptions{Policy: "kind: Tenant\nname: default\nspec: {dsn: never}\n---\nkind: Stream\nname: default/bulk\nspec: {priority: low}\n---\nkind: Stream\nname: default/urgent\nspec: {priority: high}\n"})
			o.Addrs, o.Ledger, o.Start = []string{p.node.SMTP}, p.Ledger, p.began
			if o.isHTTP() {
				o.Addrs = []string{p.node.HTTP}
			}
			res, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			b := p.settle(t)
			if err := b.Err(0); err != nil {
				t.Error(err, p.first())
			}
			if res.Accepted != n || b.Accepted != n || b.Delivered != n*49/50 || b.Bounced != n/50 || b.LogAccepted != n {
				t.Errorf("%v\n%+v", b, res)
			}
		})
	}
}

// TestTenantsLogIn has two tenants, each with a login and a key of its own, over
// TLS by SMTP, and by HTTP.
func TestTenantsLogIn(t *testing.T) {
	cert, key := peers.Certificate(t, "mta1.load.test")
	pem, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	submission := fmt.Sprintf("127.0.0.1:%d", peers.FreePort(t, "127.0.0.1"))
	tenants := []Tenant{{Name: "shop", Weight: 3, Sender: "a@shop.test", User: "shop", Password: "secret of shop"}, {Name: "bank", Weight: 1, Sender: "b@bank.test", User: "bank", Password: "secret of bank"}}
	var policies []string
	for i := range tenants {
		x := &tenants[i]
		var keyHash string
		x.Key, keyHash = credential.NewAPIKey()
		hash, err := credential.Hash(x.Password)
		if err != nil {
			t.Fatal(err)
		}
		policies = append(policies, fmt.Sprintf("kind: Tenant\nname: %s\nspec:\n  dsn: never\n  smtp_users: [{name: %s, password_hash: '%s'}]\n  api_keys: [{name: k, hash: '%s'}]\n  sender_domains: [%s.test]\n", x.Name, x.User, hash, keyHash, x.Name))
	}
	for _, o := range []Options{
		{Protocol: SMTP, Addrs: []string{submission}, TLS: &tls.Config{RootCAs: roots, ServerName: "mta1.load.test"}, Connections: 5},
		{Protocol: HTTP},
	} {
		t.Run(string(o.Protocol), func(t *testing.T) {
			o.Mix = &Mix{Recipients: 400, Tenants: tenants}
			p := startProduct(t, o.Mix, peers.HikyakuOptions{Policy: strings.Join(policies, "---\n"), SMTP: []string{fmt.Sprintf("listen: %q, cert_file: %s, key_file: %s, require_auth: true", submission, cert, key)}})
			if o.Protocol == HTTP {
				o.Addrs = []string{p.node.HTTP}
			}
			o.Ledger, o.Start = p.Ledger, p.began
			res, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			b := p.settle(t)
			if err := b.Err(0); err != nil || b.Accepted != 400 || len(res.Errors) > 0 {
				t.Errorf("%v: %v\n%+v", err, b, res)
			}
		})
	}
}

// TestWrongPasswordEndsTheRun: a login that is refused would be refused a
// million times.
func TestWrongPasswordEndsTheRun(t *testing.T) {
	p := startProduct(t, &Mix{Recipients: 10}, peers.HikyakuOptions{SMTPKeys: "require_auth: true, auth_plaintext_networks: [127.0.0.0/8], auth_failure_delay: 1ms"})
	_, err := Run(t.Context(), Options{Mix: p.mix, Addrs: []string{p.node.SMTP}, User: "nobody", Password: "x", Connections: 2})
	if err == nil || !strings.Contains(err.Error(), "login of nobody") || !strings.Contains(err.Error(), "535 ") {
		t.Error(err)
	}
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// BenchmarkTemplateJob is one job of a template, in requests of 5,000, into a
// node: how fast it is accepted, beside its delivery to a receiver that compares
// the content of each.
func BenchmarkTemplateJob(b *testing.B) {
	const n = 200_000
	p := startProduct(b, &Mix{Recipients: n, PerMessage: 5000, Template: &Template{}, Job: "bulk"}, peers.HikyakuOptions{})
	res, err := Run(b.Context(), Options{Mix: p.mix, Protocol: HTTPTemplate, Addrs: []string{p.node.HTTP}, Connections: 4, Ledger: p.Ledger, Start: p.began})
	if err != nil || res.Accepted != n {
		b.Fatalf("%v %+v", err, res)
	}
	b.ReportMetric(n/res.Elapsed.Seconds(), "recipients/s")
	b.ReportMetric(0, "ns/op")
}
