package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// pair is two nodes that reach each other. Mail at a goes nowhere; b has a
// receiver.
type pair struct {
	a, b *world
	urls map[string]*atomic.Pointer[string]
}

// newPair starts both. Resources are those of both, but for where mail goes.
func newPair(t testing.TB, sinkAddr string, rs ...policy.Resource) *pair {
	t.Helper()
	p := &pair{urls: map[string]*atomic.Pointer[string]{"a": {}, "b": {}}}
	world := func(name, addr string) *world {
		var handler atomic.Pointer[http.Handler]
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
		p.urls[name].Store(&srv.URL)
		w := newWorld(t, func(c *Config) {
			c.Name = name
			c.Transfer = &TransferConfig{Client: srv.Client(), Address: func(node string) (string, error) {
				u, ok := p.urls[node]
				if !ok {
					return "", fmt.Errorf("no node %s", node)
				}
				return *u.Load(), nil
			}}
		}, append([]policy.Resource{toSink(addr)}, rs...)...)
		h := w.TransferHandler()
		handler.Store(&h)
		t.Cleanup(srv.Close)
		return w
	}
	later := receive(t, sink.Options{Recipient: func(string, string) string { return "451 4.2.1 later" }})
	p.a, p.b = world("a", later.Addr), world("b", sinkAddr)
	p.a.UseHomes([]exchange.Home{{Pool: policy.DefaultName, Nodes: []string{"a", "b"}}, {Pool: "x", Nodes: []string{"b"}}})
	t.Cleanup(p.close) // before those of the worlds, which look at all goroutines
	return p
}

func (p *pair) close() {
	for _, w := range []*world{p.a, p.b} {
		if w.stop == nil {
			continue
		}
		w.stop()
		w.stop = nil
		if err := <-w.ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		if err := w.Node.Close(); err != nil {
			w.t.Errorf("Close: %v", err)
		}
	}
}

func (p *pair) empty(w *world) {
	w.t.Helper()
	until(w.t, "node "+w.name+" to be empty", func() bool {
		st := w.spool.Stats()
		return st.Counted && st.Deliveries == 0
	})
}

// waiting sends mail from a, and waits until its first attempt has failed.
func (p *pair) waiting(n int, m mail) (ids []message.ID) {
	p.a.t.Helper()
	for i := range n {
		m.from, m.to = "s@s.test", []string{fmt.Sprintf("u%d@d%d.test", i, i%3), fmt.Sprintf("v%d@e.test", i)}
		ids = append(ids, p.a.send(m))
	}
	for _, id := range ids {
		p.a.waitFor(id, message.EventDeferred, 2)
	}
	return ids
}

func longRetry() []policy.Resource {
	return []policy.Resource{resource(policy.DefaultName, &policy.Stream{Retry: soon(time.Hour)})}
}

func TestDrainMovesAllMail(t *testing.T) {
	r := receive(t, sink.Options{})
	p := newPair(t, r.Addr, longRetry()...)
	const n = 40
	ids := p.waiting(n, mail{job: "j", body: "hello"})
	later := p.a.send(mail{from: "s@s.test", to: []string{"z@z.test"}, sendAt: time.Now().Add(time.Hour)})
	p.a.Drain(true)
	p.empty(p.a)
	if got := p.b.spool.Stats().Deliveries; got != 2*n+1 {
		t.Fatalf("%d deliveries arrived", got)
	}
	if d := p.b.deliveryOf(ids[0], 0); d == nil || d.Attempts != 1 || d.Last == nil || d.Last.Reply.Code == 0 {
		t.Errorf("what was known of the last attempt is lost: %+v", d)
	}
	if d := p.b.deliveryOf(later, 0); d == nil || d.Due.Before(time.Now().Add(50*time.Minute)) {
		t.Errorf("scheduled mail: %+v", d)
	}
	p.b.act(api.ActionRequest{Verb: api.VerbRetry, Scope: api.Scope{Job: "j"}})
	for _, id := range ids {
		p.b.waitFor(id, message.EventDelivered, 2)
	}
	got := map[string]int{}
	for _, m := range r.all() {
		for _, to := range m.to {
			got[to]++
		}
	}
	for to, times := range got {
		if times != 1 {
			t.Errorf("%s got it %d times", to, times)
		}
	}
	if len(got) != 2*n {
		t.Errorf("%d recipients got mail, want %d", len(got), 2*n)
	}
	ea, eb := types(p.a.log(api.EventQuery{})), types(p.b.log(api.EventQuery{}))
	if ea[message.EventAccepted] != 2*n+1 || ea[message.EventTransferred] != 2*n+1 || eb[message.EventReceived] != 2*n+1 || eb[message.EventDelivered] != 2*n {
		t.Errorf("events at a %v, at b %v", ea, eb)
	}
	ja, _ := p.a.spool.Job(policy.DefaultName, "j")
	jb, err := p.b.spool.Job(policy.DefaultName, "j")
	if err != nil || ja.Accepted != 0 || jb.Accepted != 2*n || jb.Delivered != 2*n {
		t.Errorf("job at a %+v, at b %+v, %v", ja, jb, err)
	}
}

// TestCancelReachesMailThatMoved: an order about a message that has gone is sent
// after it.
func TestCancelReachesMailThatMoved(t *testing.T) {
	r := receive(t, sink.Options{})
	p := newPair(t, r.Addr, longRetry()...)
	id := p.waiting(1, mail{})[0]
	p.a.Drain(true)
	p.empty(p.a)
	if m, err := p.a.Message(t.Context(), id.String(), api.MessageOptions{Limit: 10}); err != nil || len(m.Deliveries) != 2 || m.Deliveries[0].MovedTo != "b" {
		t.Errorf("the message at a: %+v, %v", m, err)
	}
	res := p.a.act(api.ActionRequest{Verb: api.VerbCancel, Message: id.String(), Reason: "no"})
	if res.TooLate != 2 || len(res.TooLateIDs) != 2 {
		t.Errorf("the answer does not name what has gone: %+v", res)
	}
	for _, e := range p.b.waitFor(id, message.EventCancelled, 2) {
		if !strings.Contains(e.Reply.Text, "no") {
			t.Errorf("the reason is lost: %+v", e.Reply)
		}
	}
	p.empty(p.b)
	until(t, "the order to be through", func() bool { as, err := p.a.spool.Actions(); return err == nil && len(as) == 0 })
}

// TestOrderIsKnownToMailThatComesLater: b has carried out a cancel of the scope
// when mail of it arrives from a, which has not.
func TestOrderIsKnownToMailThatComesLater(t *testing.T) {
	for name, restart := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			r := receive(t, sink.Options{})
			p := newPair(t, r.Addr, longRetry()...)
			old := p.waiting(2, mail{job: "x"})
			p.b.act(api.ActionRequest{Verb: api.VerbCancel, Scope: api.Scope{Job: "x"}, Reason: "no"})
			if restart {
				p.restartB()
			}
			young := p.waiting(1, mail{job: "x"}) // accepted after the order
			other := p.waiting(1, mail{job: "y"})
			p.a.Drain(true)
			p.empty(p.a)
			for _, id := range old {
				p.b.waitFor(id, message.EventCancelled, 2)
			}
			for _, id := range append(young, other...) {
				if p.b.deliveryOf(id, 0) == nil {
					t.Errorf("%s is not queued at b", id)
				}
			}
			if n := len(r.all()); n != 0 {
				t.Errorf("%d were sent", n)
			}
		})
	}
}

// restartB ends node b and starts it again.
func (p *pair) restartB() {
	w := p.b
	w.t.Helper()
	w.stop()
	if err := <-w.ended; err != nil {
		w.t.Fatal(err)
	}
	if err := w.Node.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.start()
	srv := httptest.NewServer(w.TransferHandler())
	w.t.Cleanup(srv.Close)
	p.urls["b"].Store(&srv.URL)
}

// TestOfferedMailIsTooLate: what is offered when an order comes is named as too
// late, and ends when it is known where it is.
func TestOfferedMailIsTooLate(t *testing.T) {
	r := receive(t, sink.Options{})
	p := newPair(t, r.Addr, longRetry()...)
	id := p.waiting(1, mail{})[0]
	// b takes the parcel, but nobody hears of it.
	real := *p.urls["b"].Load()
	var deaf atomic.Bool
	deaf.Store(true)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		p.b.TransferHandler().ServeHTTP(rec, r)
		if deaf.Load() && !strings.HasSuffix(r.URL.Path, "/hello") {
			panic(http.ErrAbortHandler)
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}))
	defer proxy.Close()
	p.urls["b"].Store(&proxy.URL)
	p.a.Drain(true)
	until(t, "an open transfer", func() bool { ts := p.a.Transfers(); return len(ts) == 1 && ts[0].Why != "" })
	if p.b.spool.Stats().Deliveries != 2 || p.a.spool.Stats().Deliveries != 2 {
		t.Error("it is not offered by a and stored at b")
	}
	if m := p.a.Metrics().Transfer; m.Open != 1 || m.Moving != 2 {
		t.Errorf("metrics %+v", m)
	}
	why, err := p.a.Why(t.Context(), api.Scope{Tenant: policy.DefaultName})
	if err != nil || !slices.ContainsFunc(why.Reasons, func(r api.Reason) bool { return r.Limit == "transfer" && r.Scope == "node b" }) {
		t.Errorf("why: %+v, %v", why, err)
	}
	list, err := p.a.Deliveries(t.Context(), api.DeliveryFilter{Limit: 10})
	if err != nil || len(list.Deliveries) != 2 || list.Deliveries[0].MovingTo != "b" {
		t.Errorf("listing: %+v, %v", list, err)
	}
	res := p.a.act(api.ActionRequest{Verb: api.VerbCancel, Message: id.String()})
	if res.TooLate != 2 || len(res.TooLateIDs) != 2 || res.Affected != 0 {
		t.Errorf("the answer: %+v", res)
	}
	deaf.Store(false)
	p.urls["b"].Store(&real)
	p.empty(p.a)
	p.b.waitFor(id, message.EventCancelled, 2)
	p.empty(p.b)
	if n := len(r.all()); n != 0 {
		t.Errorf("%d were sent", n)
	}
}

// TestMailHeldHereAloneStays: a hold that the other node does not have keeps
// its mail here, and a job's pause goes with its mail.
func TestMailHeldHereAloneStays(t *testing.T) {
	r := receive(t, sink.Options{})
	p := newPair(t, r.Addr, longRetry()...)
	held := p.waiting(1, mail{job: "held"})[0]
	paused := p.waiting(1, mail{job: "paused"})[0]
	p.a.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Job: "held"}})
	if _, err := p.a.ChangeJob(t.Context(), policy.DefaultName, "paused", api.JobChange{State: new(string(spool.JobPaused))}); err != nil {
		t.Fatal(err)
	}
	p.a.Drain(true)
	until(t, "what is not held to move", func() bool { return p.a.spool.Stats().Deliveries == 2 })
	if p.a.deliveryOf(held, 0) == nil || p.b.deliveryOf(paused, 0) == nil {
		t.Error("the wrong one moved")
	}
	if j, err := p.b.spool.Job(policy.DefaultName, "paused"); err != nil || j.State != spool.JobPaused {
		t.Errorf("the job at b: %+v, %v", j, err)
	}
	p.b.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Job: "held"}})
	p.empty(p.a)
	p.b.act(api.ActionRequest{Verb: api.VerbRetry, Scope: api.Scope{Tenant: policy.DefaultName}})
	if d := p.b.deliveryOf(held, 0); d == nil || !p.b.queueHeld(d) {
		t.Errorf("at b: %+v", d)
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("%d were sent", n)
	}
}

func (w *world) queueHeld(d *message.Delivery) bool {
	api := w.apiDelivery(&spool.Status{ID: d.ID, Queue: d.Queue, Queued: d}, "")
	return api.Held
}
