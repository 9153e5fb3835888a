package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/ingest"
	"hikyaku/spool/message"
)

// held keeps all mail of a world where it is.
var held = resource("sink", &policy.Route{Domains: []string{"*"}, Hosts: []string{"127.0.0.1:1"}, AllowNetworks: networks("127.0.0.0/8")})

func TestPlanPicksWhatPolicySays(t *testing.T) {
	p := func(rs ...policy.Resource) *policy.Set {
		set, problems := policy.New(rs)
		if problems != nil {
			t.Fatal(problems)
		}
		return set
	}
	set := p(
		resource("shop", &policy.Tenant{DefaultStream: "bulk", Pool: "p2"}),
		resource("bulk", &policy.Stream{Priority: "low", Expires: policy.Duration(24 * time.Hour)}),
		resource("shop/otp", &policy.Stream{Priority: "high", Pool: "p1", Expires: policy.Duration(10 * time.Minute)}),
		resource("p1", &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}}),
		resource("p2", &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}}),
	)
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	later := now.Add(5 * time.Hour)
	for _, c := range []struct {
		name                 string
		tenant, stream, pool string
		priority             message.Priority
		given                bool
		sendAt, expires      time.Time
		wantStream, wantPool string
		wantPriority         message.Priority
		wantDue, wantExpires time.Time
		wantRefused          string
	}{
		{name: "the tenant's default stream and pool", tenant: "shop", wantStream: "bulk", wantPool: "p2", wantPriority: message.Low, wantDue: now, wantExpires: now.Add(24 * time.Hour)},
		{name: "a stream of the tenant, with its pool", tenant: "shop", stream: "otp", wantStream: "otp", wantPool: "p1", wantPriority: message.High, wantDue: now, wantExpires: now.Add(10 * time.Minute)},
		{name: "a pool that is asked for wins", tenant: "shop", stream: "otp", pool: "p2", wantStream: "otp", wantPool: "p2", wantPriority: message.High, wantDue: now, wantExpires: now.Add(10 * time.Minute)},
		{name: "a priority that is given wins", tenant: "shop", priority: message.High, given: true, wantStream: "bulk", wantPool: "p2", wantPriority: message.High, wantDue: now, wantExpires: now.Add(24 * time.Hour)},
		{name: "nothing said at all", tenant: "other", wantStream: "default", wantPool: "default", wantPriority: message.Normal, wantDue: now, wantExpires: now.Add(72 * time.Hour)},
		{name: "waiting for its hour uses up no life", tenant: "shop", stream: "otp", sendAt: later, wantStream: "otp", wantPool: "p1", wantPriority: message.High, wantDue: later, wantExpires: later.Add(10 * time.Minute)},
		{name: "an hour that is over is now", tenant: "shop", sendAt: now.Add(-time.Hour), wantStream: "bulk", wantPool: "p2", wantPriority: message.Low, wantDue: now, wantExpires: now.Add(24 * time.Hour)},
		{name: "an expiry that is given", tenant: "shop", expires: later, wantStream: "bulk", wantPool: "p2", wantPriority: message.Low, wantDue: now, wantExpires: later},
		{name: "an expiry before its hour: due then, to end", tenant: "shop", sendAt: later, expires: now.Add(time.Hour), wantStream: "bulk", wantPool: "p2", wantPriority: message.Low, wantDue: now.Add(time.Hour), wantExpires: now.Add(time.Hour)},
		{name: "another tenant's stream", tenant: "other", stream: "otp", wantRefused: `there is no stream named "otp"`},
		{name: "no such stream", tenant: "shop", stream: "nope", wantRefused: `there is no stream named "nope"`},
		{name: "no such pool", tenant: "shop", pool: "nope", wantRefused: `there is no pool named "nope"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &message.Message{Tenant: c.tenant, Stream: c.stream, Pool: c.pool, Priority: c.priority, Raw: []byte("x")}
			s := &ingest.Submission{Message: m, Recipients: []message.Recipient{{Address: "a@example.com"}}, PriorityGiven: c.given, SendAt: c.sendAt, Expires: c.expires}
			ds, err := (&Node{}).plan(s, set, now)
			if c.wantRefused != "" {
				var r *ingest.Refusal
				if !errors.As(err, &r) || r.Text != c.wantRefused || r.Code != 550 || r.HTTP != 422 {
					t.Fatalf("got %v, want refusal %q", err, c.wantRefused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			d := ds[0]
			if m.Stream != c.wantStream || m.Pool != c.wantPool || m.Priority != c.wantPriority {
				t.Errorf("stream %q pool %q priority %s, want %q %q %s", m.Stream, m.Pool, m.Priority, c.wantStream, c.wantPool, c.wantPriority)
			}
			want := message.QueueKey{Destination: "example.com", Tenant: c.tenant, Stream: c.wantStream, Pool: c.wantPool, Priority: c.wantPriority}
			if d.Queue != want {
				t.Errorf("queue %+v, want %+v", d.Queue, want)
			}
			if !d.Due.Equal(c.wantDue) || !d.Expires.Equal(c.wantExpires) || !d.Accepted.Equal(now) {
				t.Errorf("due %s expires %s accepted %s, want %s %s %s", d.Due, d.Expires, d.Accepted, c.wantDue, c.wantExpires, now)
			}
		})
	}
}

func TestPlanGroupsRecipients(t *testing.T) {
	set, _ := policy.New(nil)
	rcpts := []string{"a@one.test", "b@TWO.test", "c@one.test", "d@[192.0.2.1]", "e@ONE.test", "f@bücher.test"}
	plan := func(oneEach bool) []*message.Delivery {
		s := &ingest.Submission{Message: &message.Message{Tenant: "default"}, OneEach: oneEach}
		for _, r := range rcpts {
			s.Recipients = append(s.Recipients, message.Recipient{Address: r})
		}
		ds, err := (&Node{}).plan(s, set, time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		return ds
	}
	show := func(ds []*message.Delivery) (out []string) {
		for _, d := range ds {
			s := fmt.Sprintf("%d %s:", d.ID.Index, d.Queue.Destination)
			for _, r := range d.Recipients {
				s += " " + r.Address
			}
			out = append(out, s)
		}
		return out
	}
	for name, c := range map[string]struct {
		got, want []string
	}{
		"by destination": {show(plan(false)), []string{"0 one.test: a@one.test c@one.test e@ONE.test", "1 two.test: b@TWO.test", "2 [192.0.2.1]: d@[192.0.2.1]", "3 xn--bcher-kva.test: f@bücher.test"}},
		"one each":       {show(plan(true)), []string{"0 one.test: a@one.test", "1 two.test: b@TWO.test", "2 one.test: c@one.test", "3 [192.0.2.1]: d@[192.0.2.1]", "4 one.test: e@ONE.test", "5 xn--bcher-kva.test: f@bücher.test"}},
	} {
		if strings.Join(c.got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(c.got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestStartJitterSpreadsAJob(t *testing.T) {
	set, problems := policy.New([]policy.Resource{resource("docomo", &policy.Carrier{Domains: []string{"docomo.test"}, StartJitter: policy.Duration(time.Minute)})})
	if problems != nil {
		t.Fatal(problems)
	}
	now := time.Unix(1_000_000, 0)
	due := func(job string) (spread int) {
		seen := map[time.Time]bool{}
		for range 50 {
			s := &ingest.Submission{Message: &message.Message{Tenant: "default", Job: job}, Recipients: []message.Recipient{{Address: "a@docomo.test"}}}
			ds, err := (&Node{}).plan(s, set, now)
			if err != nil {
				t.Fatal(err)
			}
			if d := ds[0].Due; d.Before(now) || !d.Before(now.Add(time.Minute)) {
				t.Fatalf("due %s after acceptance, want within the minute", d.Sub(now))
			}
			seen[ds[0].Due] = true
		}
		return len(seen)
	}
	if n := due("news"); n < 40 {
		t.Errorf("50 deliveries of a job fall on %d moments", n)
	}
	if n := due(""); n != 1 {
		t.Errorf("mail without a job is spread over %d moments", n)
	}
}

func TestAdmitRefusals(t *testing.T) {
	w := newWorld(t, nil, held, resource("off", &policy.Tenant{Disabled: true}), resource("small", &policy.Tenant{MaxQueued: 2}))
	to := []string{"a@example.test"}
	if r := w.refused(mail{tenant: "off", from: "s@s.test", to: to}); r.Code != 550 || r.HTTP != 403 {
		t.Errorf("disabled tenant: %v, HTTP %d", r, r.HTTP)
	}
	if r := w.refused(mail{tenant: "gone", from: "s@s.test", to: to}); r.Code != 550 || r.HTTP != 403 {
		t.Errorf("tenant that policy does not know any more: %v, HTTP %d", r, r.HTTP)
	}
	for range 2 {
		w.send(mail{tenant: "small", from: "s@s.test", to: to, sendAt: time.Now().Add(time.Hour)})
	}
	if r := w.refused(mail{tenant: "small", from: "s@s.test", to: to}); r.Code != 452 || r.HTTP != 429 || r.RetryAfter == 0 {
		t.Errorf("MaxQueued: %v, HTTP %d, retry %s", r, r.HTTP, r.RetryAfter)
	}
	w.send(mail{from: "s@s.test", to: to}) // others are not touched
	w.draining.Store(true)
	var r *ingest.Refusal
	if err := w.Admit("default"); !errors.As(err, &r) || r.Code != 421 || r.HTTP != 503 || r.RetryAfter == 0 {
		t.Errorf("draining: %v", err)
	}
	w.send(mail{from: "s@s.test", to: to}) // a transaction in hand is taken
	w.draining.Store(false)
}

// dialSMTP and postHTTP are clients as they come.
func postHTTP(t testing.TB, w *world, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	return request(t, http.MethodPost, "http://"+w.http.Addr().String()+"/v1/messages", body, headers...)
}

func TestLowSpaceRefusesAndRecoversByItself(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	var low atomic.Bool
	w := newWorld(t, func(c *Config) {
		c.Spool.FreeSpace = func(string) (uint64, uint64, error) {
			if low.Load() {
				return 1 << 20, 1 << 40, nil
			}
			return 1 << 39, 1 << 40, nil
		}
	}, toSink(r.Addr))
	before := w.send(mail{from: "s@s.test", to: []string{"before@d.test"}})
	r.arrive(t)
	low.Store(true)
	until(t, "the space gate to close", func() bool { return w.Admit("default") != nil })
	c := dialSMTP(t, w)
	c.cmd("EHLO client.test", "250")
	if reply := c.cmd("MAIL FROM:<s@s.test>", "4"); !strings.HasPrefix(reply, "452 4.3.1") {
		t.Errorf("SMTP says %q, want 452 4.3.1", reply)
	}
	resp, body := postHTTP(t, w, `{"from":{"email":"s@s.test"},"to":[{"email":"a@d.test"}],"subject":"x","text":"y"}`)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("HTTP says %d, Retry-After %q: %s", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
	if why := w.NotReady(); len(why) != 1 || !strings.Contains(why[0], "space") {
		t.Errorf("not ready because %q", why)
	}
	r.let(t) // what is queued goes on
	w.waitFor(before, message.EventDelivered, 1)
	low.Store(false)
	until(t, "the space gate to open again", func() bool { return w.Admit("default") == nil })
	c.cmd("MAIL FROM:<s@s.test>", "250")
	w.send(mail{from: "s@s.test", to: []string{"after@d.test"}})
	r.let(t)
	w.empty()
	w.balance()
}

func TestAcceptedMailIsDelivered(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"a@one.test", "b@one.test", "c@two.test"}, body: "hello", tags: []string{"t1"}})
	w.waitFor(id, message.EventDelivered, 3)
	for _, to := range []string{"a@one.test", "b@one.test", "c@two.test"} {
		if n := r.to(to); n != 1 {
			t.Errorf("%s got it %d times", to, n)
		}
	}
	if n := len(r.all()); n != 2 {
		t.Errorf("%d transactions, want one a destination", n)
	}
	for _, e := range w.waitFor(id, message.EventAccepted, 3) {
		if e.Via != "smtp" || e.From != "127.0.0.1" || e.Sender != "s@s.test" || len(e.Tags) != 1 {
			t.Errorf("accepted event lacks something: %+v", e)
		}
	}
	w.empty()
	w.balance()
	if _, err := w.spool.Message(id); err == nil {
		t.Error("the message is still stored after its last delivery")
	}
}

func TestAcceptAfterContextEndedIsUnknownNotRefused(t *testing.T) {
	w := newWorld(t, nil, held)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := &ingest.Submission{Message: &message.Message{Tenant: "default", Raw: []byte("x")}, Recipients: []message.Recipient{{Address: "a@d.test"}}}
	err := w.Accept(ctx, s)
	var r *ingest.Refusal
	if err != nil && (errors.As(err, &r) || !errors.Is(err, context.Canceled)) {
		t.Errorf("got %v, want the context's error: the write may have landed", err)
	}
}
