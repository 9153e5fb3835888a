package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

func (w *world) deliver(to string) message.EventRecord {
	w.t.Helper()
	return w.waitFor(w.send(mail{from: "s@sender.test", to: []string{to}}), message.EventDelivered, 1)[0]
}

func TestRouteChangeIsObeyedFromTheNextDispatch(t *testing.T) {
	one, two := receive(t, sink.Options{}), receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(one.Addr))
	w.deliver("a@d.test")
	w.policy.use(t, toSink(two.Addr))
	w.deliver("b@d.test")
	w.deliver("c@d.test")
	if one.to("a@d.test") != 1 || len(one.all()) != 1 || len(two.all()) != 2 {
		t.Errorf("%d went to the first host and %d to the second", len(one.all()), len(two.all()))
	}
}

func TestOpenConnectionsEndWhenTheirTermsChange(t *testing.T) {
	r := receive(t, sink.Options{})
	pool := resource("default", &policy.Pool{Sources: []policy.PoolMember{{Name: "a"}}})
	source := func(ehlo string) policy.Resource { return resource("a", &policy.Source{EHLO: ehlo}) }
	w := newWorld(t, nil, toSink(r.Addr), pool, source("one.test"))
	w.deliver("a@d.test")
	w.policy.use(t, toSink(r.Addr), pool, source("one.test"), resource("x", &policy.Tenant{})) // nothing to the connection
	w.deliver("b@d.test")
	w.policy.use(t, toSink(r.Addr), pool, source("two.test"))
	w.deliver("c@d.test")
	got := r.all()
	if got[0].ehlo != "one.test" || got[1].addr != got[0].addr {
		t.Errorf("a change that does not touch it closed the connection: %v", got)
	}
	if got[2].ehlo != "two.test" || got[2].addr == got[0].addr {
		t.Errorf("the old connection was used under the old name: %v", got[2])
	}
	// TLS that becomes required must not find a plain connection open.
	route := &policy.Route{Domains: []string{"*"}, Hosts: []string{r.Addr}, AllowNetworks: networks("127.0.0.0/8"), TLS: "required"}
	w.policy.use(t, resource("sink", route), pool, source("two.test"))
	id := w.send(mail{from: "s@sender.test", to: []string{"d@d.test"}})
	if e := w.waitFor(id, message.EventDeferred, 1)[0]; e.Reply.Phase != message.PhaseSTARTTLS && e.Reply.Phase != message.PhaseEHLO && e.Reply.Fault != message.FaultTLS {
		t.Errorf("deferred with %+v", e.Reply)
	}
	if r.to("d@d.test") != 0 {
		t.Error("sent in plain although TLS is required")
	}
}

func TestRemovedSourceSendsNoMore(t *testing.T) {
	r := receive(t, sink.Options{})
	a, b := resource("a", &policy.Source{EHLO: "a.test"}), resource("b", &policy.Source{EHLO: "b.test"})
	pool := func(names ...string) policy.Resource {
		p := &policy.Pool{}
		for _, n := range names {
			p.Sources = append(p.Sources, policy.PoolMember{Name: n})
		}
		return resource("default", p)
	}
	w := newWorld(t, nil, toSink(r.Addr), a, pool("a"))
	w.deliver("a@d.test")
	w.policy.use(t, toSink(r.Addr), b, pool("b"))
	for i := range 10 {
		w.deliver(fmt.Sprintf("b%d@d.test", i))
	}
	for _, d := range r.all()[1:] {
		if d.ehlo != "b.test" {
			t.Errorf("%s sent after it was taken out", d.ehlo)
		}
	}
}

func TestSigningKeyChangeIsObeyed(t *testing.T) {
	r := receive(t, sink.Options{})
	key := func(selector string) policy.Resource {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		return resource("k", &policy.SigningKey{Domain: "sender.test", Selector: selector, PrivateKey: policy.NewSecret(text)})
	}
	w := newWorld(t, nil, toSink(r.Addr))
	w.deliver("a@d.test")
	w.policy.use(t, toSink(r.Addr), key("first"))
	w.deliver("b@d.test")
	w.policy.use(t, toSink(r.Addr), key("second"))
	w.deliver("c@d.test")
	got := r.all()
	for i, want := range []string{"", "s=first;", "s=second;"} {
		signed := strings.HasPrefix(got[i].data, "DKIM-Signature:")
		if signed != (want != "") || !strings.Contains(got[i].data, want) {
			t.Errorf("message %d: want %q in\n%s", i, want, got[i].data)
		}
	}
}

func TestTenantDisabledAtRunTime(t *testing.T) {
	w := newWorld(t, nil, held, resource("x", &policy.Tenant{}))
	w.send(mail{tenant: "x", from: "s@s.test", to: []string{"a@d.test"}})
	w.policy.use(t, held, resource("x", &policy.Tenant{Disabled: true}))
	if r := w.refused(mail{tenant: "x", from: "s@s.test", to: []string{"a@d.test"}}); r.HTTP != 403 {
		t.Errorf("got %v", r)
	}
}

func TestOlderPolicyDoesNotOvertake(t *testing.T) {
	w := newWorld(t, nil, held)
	old := w.policy.Snapshot()
	w.policy.use(t, held, resource("x", &policy.Tenant{}))
	w.usePolicy(old)
	if w.Policy().Tenants["x"] == nil {
		t.Error("the older snapshot is in force")
	}
	if err := w.Reload(); err != nil {
		t.Error(err)
	}
}

func TestRetryScheduleAndJitter(t *testing.T) {
	jitter := 50
	w := newWorld(t, nil, held, resource("default", &policy.Stream{Retry: &policy.Retry{Schedule: []policy.Duration{policy.Duration(100 * time.Second)}, Jitter: &jitter}}))
	q := message.QueueKey{Tenant: policy.DefaultName, Stream: policy.DefaultName}
	low, high := time.Hour, time.Duration(0)
	for range 500 {
		d := w.retryAfter(&q, policy.DefaultName, 7)
		low, high = min(low, d), max(high, d)
	}
	if low < 50*time.Second || high > 150*time.Second || low > 60*time.Second || high < 140*time.Second {
		t.Errorf("waits from %s to %s, want about 50 to 150 s", low, high)
	}
}

func TestUnknownStreamOverHTTPIsRefusedClearly(t *testing.T) {
	w := newWorld(t, nil, held)
	resp, body := postHTTP(t, w, `{"from":{"email":"s@s.test"},"to":[{"email":"a@d.test"}],"subject":"x","text":"y","stream":"nope"}`)
	if resp.StatusCode != 422 || !strings.Contains(body, `"path":"stream"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	_, err := w.submit(mail{from: "s@s.test", to: []string{"a@d.test"}, pool: "nope"})
	var r *ingest.Refusal
	if !errors.As(err, &r) || r.Code != 550 {
		t.Errorf("pool: %v", err)
	}
}
