package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/dns"
	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/dkim"
	"hikyaku/node/events"
	"hikyaku/node/replies"
	"hikyaku/node/webhook"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

// hookDesk takes what webhooks post.
type hookDesk struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	events []map[string]any
	again  int // events that came twice
}

func newHookDesk(t *testing.T) *hookDesk {
	t.Helper()
	d := &hookDesk{status: 200}
	seen := map[string]bool{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var b struct{ Events []map[string]any }
		if err := json.Unmarshal(body, &b); err != nil {
			t.Errorf("body %s: %v", body, err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		w.WriteHeader(d.status)
		if d.status != 200 {
			return
		}
		for _, e := range b.Events {
			id := e["event_id"].(string)
			if seen[id] {
				d.again++
			}
			seen[id] = true
			d.events = append(d.events, e)
		}
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *hookDesk) answer(status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
}

// of counts events of a type, and says of which recipients.
func (d *hookDesk) of(typ message.EventType) (to []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e["type"] == string(typ) {
			to = append(to, e["recipient"].(string))
		}
	}
	return to
}

func (d *hookDesk) resource() policy.Resource {
	return resource("hook", &policy.Webhook{URL: d.URL + "/x", AllowHTTP: true, AllowNetworks: networks("127.0.0.0/8"), Secret: policy.NewSecret("s"), MaxWait: policy.Duration(10e6)})
}

func TestEventsArePostedAcrossRestarts(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	desk := newHookDesk(t)
	quiet := resource("default", &policy.Tenant{DSN: "never"})
	w := newWorld(t, nil, toSink(r.Addr), quiet)
	w.waitFor(w.send(mail{from: "a@s.test", to: []string{"before@d.test"}}), message.EventDelivered, 1)
	if err := w.events.Flush(t.Context()); err != nil { // a webhook begins after what is durable
		t.Fatal(err)
	}
	w.policy.use(t, toSink(r.Addr), quiet, desk.resource())
	until(t, "the webhook to begin", func() bool { ws := w.WebhookAPI().Webhooks(); return len(ws) == 1 && ws[0].State == "ok" })
	w.send(mail{from: "a@s.test", to: []string{"ok@d.test", "bounce1@d.test"}, oneEach: true})
	until(t, "the events", func() bool { return len(desk.of("delivered")) == 1 && len(desk.of("bounced")) == 1 })
	if got := desk.of("accepted"); strings.Join(got, " ") != "ok@d.test bounce1@d.test" {
		t.Errorf("accepted: %v", got)
	}
	w.restart()
	desk.answer(500) // what happens meanwhile waits
	w.send(mail{from: "a@s.test", to: []string{"later@d.test"}})
	until(t, "a failure", func() bool { return w.WebhookAPI().Webhooks()[0].Failures > 0 })
	if s := w.WebhookAPI().Webhooks()[0]; s.State != "retrying" || s.Behind == 0 || s.LastError != "HTTP 500" || s.Endpoint != desk.URL {
		t.Errorf("%+v", s)
	}
	w.restart()
	desk.answer(200)
	until(t, "the event of later", func() bool { return len(desk.of("delivered")) == 2 })
	desk.mu.Lock()
	again := desk.again
	desk.mu.Unlock()
	if again != 0 {
		t.Errorf("%d events came again after orderly restarts", again)
	}
	if p, err := w.WebhookAPI().TestWebhook(t.Context(), "hook"); err != nil || !p.OK || p.HTTPStatus != 200 {
		t.Errorf("ping: %+v, %v", p, err)
	}
	if _, err := w.WebhookAPI().TestWebhook(t.Context(), "none"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("ping of nobody: %v", err)
	}
}

func TestSigningKeysAndBlocklistsAreShown(t *testing.T) {
	const zone = "$TTL 300\n. SOA ns.test. h.test. 1 3600 600 86400 60\n"
	s, err := dns.Start(zone, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	pemText, txt, err := dkim.Generate(dkim.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Resolver.Servers = []string{s.Addr()} },
		resource("key", &policy.SigningKey{Domain: "s.test", Selector: "s1", PrivateKey: policy.NewSecret(pemText)}),
		resource("default", &policy.Reputation{Blocklists: []string{"bad.test"}}),
		resource("here", &policy.Source{Address: "93.184.216.1", Node: "n1"}),
		resource("there", &policy.Source{Address: "93.184.216.2", Node: "n2"}),
	)
	if ks := w.SenderAPI().SigningKeys(); len(ks) != 1 || ks[0].DNSText != txt || ks[0].Domain != "s.test" || ks[0].Selector != "s1" || ks[0].Name != "key" {
		t.Errorf("keys %+v", ks)
	}
	if got := w.ownSources(); len(got) != 1 || got[0].Name != "here" {
		t.Errorf("sources %+v", got)
	}
	if z := w.blocklists(); len(z) != 1 || z[0] != "bad.test" {
		t.Errorf("zones %v", z)
	}
	if a := w.SenderAlarms(); len(a) != 0 {
		t.Errorf("alarms %v", a)
	}
}

// TestWhatRetentionTakesIsCounted fills the event log beyond what it may hold
// while an endpoint is down.
func TestWhatRetentionTakesIsCounted(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	log, err := events.Open(events.Options{
		Dir: t.TempDir(), Refill: func(uint64, func(uint64, []byte) error) error { return nil }, Store: "s1",
		SegmentBytes: 1 << 10, BlockBytes: 1 << 10, RetentionBytes: 4 << 10, HardBytes: 8 << 10, SyncInterval: 5 * time.Millisecond,
		Now: func() time.Time { return time.Unix(0, now.Load()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	desk := newHookDesk(t)
	desk.answer(500)
	r, dir := desk.resource(), t.TempDir()
	begin := func() *webhook.Hooks {
		hooks, err := webhook.New(webhook.Options{Node: "n1", Store: "s1", Log: hookLog{log}, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		hooks.Apply(&policy.Set{Webhooks: map[string]*policy.Webhook{"hook": r.Spec.(*policy.Webhook)}})
		until(t, "the webhook to begin", func() bool { return hooks.Status()[0].State == webhook.StateOK })
		return hooks
	}
	hooks := begin()
	e := message.Event{Type: message.EventDelivered, Tenant: "t", Recipient: "r@d.test"}
	rnd := rand.NewChaCha8([32]byte{1}) // text that does not compress
	write := func(seq uint64) {
		e.Time = time.Unix(0, now.Load())
		text := make([]byte, 600)
		_, _ = rnd.Read(text) // never fails
		e.Host = hex.EncodeToString(text)
		log.Write(seq, e.AppendJSON(nil))
		if err := log.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	until(t, "a failure", func() bool { return hooks.Status()[0].Counts.Failures > 0 })
	hooks.Close() // it would have what is newest in memory
	seq := uint64(1)
	until(t, "the log to be trimmed", func() bool {
		now.Add(int64(2 * time.Minute))
		seq++
		write(seq)
		return log.Metrics().RemovedBytes > 0 && seq > 30
	})
	desk.answer(200)
	hooks = begin()
	defer hooks.Close()
	until(t, "the newest event", func() bool { return hooks.Status()[0].Behind == 0 && len(desk.of("delivered")) > 1 })
	s := hooks.Status()[0]
	got := uint64(len(desk.of("delivered")))
	if s.Counts.Lost == 0 || s.Counts.Lost+got != seq || s.Counts.Posted != got {
		t.Errorf("of %d events %d came and %d are counted as lost: %+v", seq, got, s.Counts.Lost, s)
	}
}

// TestStrangerAlarmsAreFew: likewise carriers.
func TestStrangerAlarmsAreFew(t *testing.T) {
	all := []replies.Stranger{{Carrier: "docomo", Unclassified: 40, Bad: 300}}
	if got := strangerAlarms(all); len(got) != 1 || got[0] != "carrier docomo says what no rule knows: 40 of 300 replies that were no success, in the last hour: hikyaku classify --unclassified --carrier docomo" {
		t.Errorf("%q", got)
	}
	for range 30 {
		all = append(all, all[0])
	}
	if got := strangerAlarms(all); len(got) != maxStrangerAlarms+1 || got[maxStrangerAlarms] != "26 more carriers say what no rule knows" {
		t.Errorf("%q", got)
	}
	if got := strangerAlarms(nil); len(got) != 0 {
		t.Errorf("%q", got)
	}

	w := newWorld(t, nil)
	for range 30 {
		w.replies.Sample(time.Now(), replies.Lane{Carrier: "docomo", Source: "s"}, "", &message.Reply{Code: 451, Text: "hm", Phase: message.PhaseRcpt}, &reputation.Verdict{Category: reputation.Unknown})
	}
	if got := w.SenderAlarms(); len(got) != 1 || !strings.HasPrefix(got[0], "carrier docomo says") {
		t.Errorf("of the node %q", got)
	}
}

// TestHookAlarmsAreFew: a receiver behind a thousand webhooks is one thing to look
// at, not a thousand.
func TestHookAlarmsAreFew(t *testing.T) {
	now := time.Now()
	all := []webhook.Status{
		{Name: "ok", State: webhook.StateOK},
		{Name: "new", State: webhook.StateOpen, Since: now.Add(-time.Minute)},
		{Name: "gone", State: webhook.StateGone, LastError: "HTTP 410"},
		{Name: "old", State: webhook.StateOpen, Since: now.Add(-3 * time.Hour), LastError: "HTTP 500"},
	}
	if got := hookAlarms(all, now); len(got) != 2 || got[0] != "webhook gone: HTTP 410" || got[1] != "webhook old is not taken for 3h0m0s: HTTP 500" {
		t.Errorf("%q", got)
	}
	for range 1000 {
		all = append(all, all[3])
	}
	if got := hookAlarms(all, now); len(got) != maxHookAlarms+1 || got[maxHookAlarms] != "992 more webhooks are off or not taken" {
		t.Errorf("%d alarms, the last %q", len(got), got[len(got)-1])
	}
}
