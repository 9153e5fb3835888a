package node

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

func (w *world) act(r api.ActionRequest) *api.ActionResult {
	w.t.Helper()
	res, err := w.Act(w.t.Context(), &r)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// fields are a scope of each kind that matches x and not y.
var fields = map[string]struct {
	scope api.Scope
	x, y  mail
}{
	"destination": {api.Scope{Destination: "x.test"}, mail{to: []string{"a@x.test"}}, mail{to: []string{"a@y.test"}}},
	"tenant":      {api.Scope{Tenant: "x"}, mail{tenant: "x"}, mail{tenant: "y"}},
	"stream":      {api.Scope{Stream: "x"}, mail{stream: "x"}, mail{stream: "y"}},
	"pool":        {api.Scope{Pool: "x"}, mail{pool: "x"}, mail{pool: "y"}},
	"job":         {api.Scope{Job: "x"}, mail{job: "x"}, mail{job: "y"}},
	"carrier":     {api.Scope{Carrier: "x"}, mail{to: []string{"a@x.carrier.test"}}, mail{to: []string{"a@y.test"}}},
	"two of them": {api.Scope{Tenant: "x", Job: "x"}, mail{tenant: "x", job: "x"}, mail{tenant: "x", job: "y"}},
}

func scopeWorld(t *testing.T, addr string) *world {
	pool := &policy.Pool{Sources: []policy.PoolMember{{Name: "default"}}}
	return newWorld(t, nil, toSink(addr), resource("x", &policy.Tenant{}), resource("y", &policy.Tenant{}),
		resource("x", &policy.Stream{}), resource("y", &policy.Stream{}), resource("x", pool), resource("y", pool),
		resource("x", &policy.Carrier{Domains: []string{"*.carrier.test"}}))
}

func filled(m mail) mail {
	m.from = "s@s.test"
	if m.to == nil {
		m.to = []string{"a@d.test"}
	}
	return m
}

func TestHoldAndReleaseByEachField(t *testing.T) {
	for name, c := range fields {
		t.Run(name, func(t *testing.T) {
			r := receive(t, sink.Options{})
			w := scopeWorld(t, r.Addr)
			res := w.act(api.ActionRequest{Verb: api.VerbHold, Scope: c.scope, Reason: "look", Author: "me"})
			x, y := w.send(filled(c.x)), w.send(filled(c.y))
			w.waitFor(y, message.EventDelivered, 1)
			until(t, "a reason to be told", func() bool {
				why, err := w.Why(t.Context(), c.scope)
				return err == nil && len(why.Reasons) > 0 && why.Reasons[0].Limit == "held"
			})
			if as, err := w.Actions(t.Context()); err != nil || len(as) != 1 || as[0].ID != res.ID || as[0].Reason != "look" {
				t.Errorf("actions: %+v, %v", as, err)
			}
			if d := w.deliveryOf(x, 0); d == nil || d.Attempts != 0 {
				t.Errorf("the held delivery: %+v", d)
			}
			w.act(api.ActionRequest{Verb: api.VerbRelease, Scope: c.scope})
			w.waitFor(x, message.EventDelivered, 1)
			got := w.typesNow()
			if got[message.EventHeld] != 1 || got[message.EventReleased] != 1 {
				t.Errorf("events: %v, want one of the hold and one of its end", got)
			}
			w.balance()
		})
	}
}

func TestHoldOfASourceLeavesTheOthers(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr), resource("a", &policy.Source{EHLO: "a.test"}), resource("b", &policy.Source{EHLO: "b.test"}),
		resource("default", &policy.Pool{Sources: []policy.PoolMember{{Name: "a"}, {Name: "b"}}}))
	w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Source: "a"}})
	for range 20 {
		w.send(mail{from: "s@s.test", to: []string{"x@d.test"}})
	}
	w.empty()
	for _, d := range r.all() {
		if d.ehlo != "b.test" {
			t.Fatalf("%s sent although its source is held", d.ehlo)
		}
	}
	if _, err := w.Act(t.Context(), &api.ActionRequest{Verb: api.VerbCancel, Scope: api.Scope{Source: "a"}}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("cancel by source: %v", err)
	}
}

func TestHoldEndsByItself(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	end := time.Now().Add(500 * time.Millisecond)
	w.act(api.ActionRequest{Verb: api.VerbHold, All: true, Expires: &end})
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	if e := w.waitFor(id, message.EventDelivered, 1)[0]; e.Time.Before(end) {
		t.Errorf("delivered %s before the hold's end", end.Sub(e.Time))
	}
	until(t, "the action to be gone and recorded", func() bool {
		as, err := w.Actions(t.Context())
		return err == nil && len(as) == 0 && w.typesNow()[message.EventReleased] == 1
	})
	past := time.Now().Add(-time.Second)
	if _, err := w.Act(t.Context(), &api.ActionRequest{Verb: api.VerbHold, All: true, Expires: &past}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a hold that would end in the past: %v", err)
	}
}

func TestCancelAndExpireByEachField(t *testing.T) {
	for name, c := range fields {
		for verb, event := range map[string]message.EventType{api.VerbCancel: message.EventCancelled, api.VerbExpire: message.EventExpired} {
			t.Run(verb+" "+name, func(t *testing.T) {
				r := receive(t, sink.Options{})
				w := scopeWorld(t, r.Addr)
				later := time.Now().Add(time.Hour)
				c.x.sendAt, c.y.sendAt = later, later
				x, y := w.send(filled(c.x)), w.send(filled(c.y))
				res := w.act(api.ActionRequest{Verb: verb, Scope: c.scope, Reason: "wrong list"})
				if res.Affected != 1 || res.TooLate != 0 || res.Running {
					t.Errorf("result: %+v", res)
				}
				e := w.waitFor(x, event, 1)[0]
				if verb == api.VerbCancel && !strings.Contains(e.Reply.Text, "wrong list") {
					t.Errorf("cancelled with %+v", e.Reply)
				}
				if w.deliveryOf(y, 0) == nil {
					t.Error("what is not in the scope was ended too")
				}
				if as, err := w.Actions(t.Context()); err != nil || len(as) != 0 {
					t.Errorf("actions left: %+v, %v", as, err)
				}
				// What comes after the order is not its business.
				c.x.sendAt = time.Time{}
				w.waitFor(w.send(filled(c.x)), message.EventDelivered, 1)
				w.balance()
			})
		}
	}
}

func TestRetryByScope(t *testing.T) {
	answer := "451 4.7.1 later"
	var mu sync.Mutex
	r := receive(t, sink.Options{Recipient: func(_, to string) string {
		mu.Lock()
		defer mu.Unlock()
		return answer
	}})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	scheduled := w.send(mail{from: "s@s.test", to: []string{"b@d.test"}, sendAt: time.Now().Add(time.Hour)})
	w.waitFor(id, message.EventDeferred, 1)
	mu.Lock()
	answer = ""
	mu.Unlock()
	if res := w.act(api.ActionRequest{Verb: api.VerbRetry, Scope: api.Scope{Destination: "d.test"}}); res.Affected != 1 {
		t.Errorf("result: %+v", res)
	}
	w.waitFor(id, message.EventDelivered, 1)
	if w.deliveryOf(scheduled, 0) == nil {
		t.Error("a retry sent what waits for its hour")
	}
	w.balance()
}

// TestNothingIsSentAfterItWasCancelled is safety.md I10: of a large scope that
// is being delivered, nothing goes out after the cancel was answered, but what
// was named as too late.
func TestNothingIsSentAfterItWasCancelled(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	const total = 6000
	var to []string
	for i := range total {
		to = append(to, fmt.Sprintf("r%d@d%d.test", i, i%7))
	}
	w.act(api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Job: "big"}})
	w.send(mail{from: "s@s.test", to: to, job: "big", oneEach: true})
	w.act(api.ActionRequest{Verb: api.VerbRelease, Scope: api.Scope{Job: "big"}})
	until(t, "deliveries to be under way", func() bool { return len(r.all()) > 200 })
	res := w.act(api.ActionRequest{Verb: api.VerbCancel, Scope: api.Scope{Job: "big"}})
	cancelled := time.Now()
	w.empty()
	got := w.typesNow()
	if got[message.EventDelivered]+got[message.EventCancelled] != total || got[message.EventCancelled] == 0 {
		t.Errorf("%v of %d", got, total)
	}
	if res.Running {
		t.Fatal("the sweep took so long that the test proves nothing")
	}
	late := map[string]bool{}
	for _, id := range res.TooLateIDs {
		late[id] = true
	}
	for _, e := range w.log(api.EventQuery{Type: string(message.EventDelivered)}) {
		if e.Time.After(cancelled) && !late[e.ID.String()] {
			t.Errorf("%s was delivered %s after the cancel", e.ID, e.Time.Sub(cancelled))
		}
	}
	if n := len(r.all()); n != got[message.EventDelivered] {
		t.Errorf("the receiver has %d, the log %d", n, got[message.EventDelivered])
	}
	w.balance()
}

func TestCancelMeetsAnAttemptUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   message.EventType
	}{
		"that succeeds": {"250 2.0.0 ok", message.EventDelivered},
		"that fails":    {"450 4.2.1 busy", message.EventCancelled}, // deferred, and no other attempt follows
	} {
		for _, how := range []string{"by scope", "by message", "by client"} {
			t.Run(name+" "+how, func(t *testing.T) {
				r := receiveGated(t, sink.Options{Message: func(*sink.Received) string { return c.answer }})
				w := newWorld(t, nil, toSink(r.Addr), resource("default", &policy.Stream{Retry: soon(1)}))
				id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
				r.arrive(t)
				answered := make(chan struct{})
				switch how {
				case "by scope": // it waits for the attempt
					go func() {
						defer close(answered)
						if res := w.act(api.ActionRequest{Verb: api.VerbCancel, All: true}); res.TooLate != 1 || len(res.TooLateIDs) != 1 {
							t.Errorf("result: %+v", res)
						}
					}()
					until(t, "the order to reach the attempt", func() bool {
						w.dispatch.mu.Lock()
						defer w.dispatch.mu.Unlock()
						return len(w.dispatch.mu.orders) == 1
					})
				case "by message":
					close(answered)
					if res := w.act(api.ActionRequest{Verb: api.VerbCancel, Message: id.String()}); res.TooLate != 1 || res.Affected != 0 {
						t.Errorf("result: %+v", res)
					}
				case "by client":
					close(answered)
					res, err := clientQueue{w.Node}.CancelMessage(t.Context(), policy.DefaultName, id, nil)
					if err != nil || res.InFlight != 1 || res.Cancelled != 0 {
						t.Errorf("result: %+v, %v", res, err)
					}
				}
				if as, err := w.Actions(t.Context()); err != nil || len(as) != 1 {
					t.Errorf("while it is in flight the order must stand: %+v, %v", as, err)
				}
				r.let(t)
				w.waitFor(id, c.want, 1)
				<-answered
				w.empty()
				until(t, "the order to be through", func() bool {
					as, err := w.Actions(t.Context())
					return err == nil && len(as) == 0
				})
				if n := len(w.log(api.EventQuery{ID: id.String(), Type: string(message.EventDeferred)})); n > 1 {
					t.Errorf("%d attempts", n)
				}
				w.dispatch.mu.Lock()
				defer w.dispatch.mu.Unlock()
				if len(w.dispatch.mu.orders)+len(w.dispatch.mu.rules) > 0 {
					t.Error("orders or rules are left behind")
				}
			})
		}
	}
}

func TestCancelOfAMessageSurvivesARestart(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, func(c *Config) { c.DrainTimeout = 50 * time.Millisecond }, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.arrive(t)
	res, err := clientQueue{w.Node}.CancelMessage(t.Context(), policy.DefaultName, id, nil)
	if err != nil || res.InFlight != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	w.restart() // the attempt is cut off: nobody knows what the peer did with it
	w.waitFor(id, message.EventCancelled, 1)
	w.empty()
	until(t, "the cancel is taken off the list", func() bool { // right after the event, not with it
		as, err := w.Actions(t.Context())
		return err == nil && len(as) == 0
	})
}

func TestActOnMessage(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	later := time.Now().Add(time.Hour)
	id := w.send(mail{from: "s@s.test", to: []string{"a@one.test", "b@two.test", "c@two.test"}, sendAt: later})
	if res := w.act(api.ActionRequest{Verb: api.VerbCancel, Message: id.String() + "-1"}); res.Affected != 2 || res.Message != id.String()+"-1" {
		t.Errorf("one delivery: %+v", res)
	}
	if w.deliveryOf(id, 0) == nil {
		t.Error("the other delivery was ended too")
	}
	if res := w.act(api.ActionRequest{Verb: api.VerbRetry, Message: id.String()}); res.Affected != 1 {
		t.Errorf("retry now: %+v", res)
	}
	w.waitFor(id, message.EventDelivered, 1)
	w.empty()
	for what, c := range map[string]struct {
		r    api.ActionRequest
		want error
	}{
		"ended":            {api.ActionRequest{Verb: api.VerbCancel, Message: id.String()}, api.ErrConflict},
		"unknown":          {api.ActionRequest{Verb: api.VerbCancel, Message: w.NewID(time.Now()).String()}, api.ErrNotFound},
		"no id":            {api.ActionRequest{Verb: api.VerbCancel, Message: "nonsense"}, api.ErrInvalid},
		"held":             {api.ActionRequest{Verb: api.VerbHold, Message: id.String()}, api.ErrInvalid},
		"everything":       {api.ActionRequest{Verb: api.VerbCancel}, api.ErrInvalid},
		"nothing released": {api.ActionRequest{Verb: api.VerbRelease, Scope: api.Scope{Job: "x"}}, api.ErrNotFound},
	} {
		if _, err := w.Act(t.Context(), &c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	w.balance()
}

func TestCancelThatIsTakenBackStops(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	first := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.arrive(t)
	done := make(chan struct{})
	go func() {
		defer close(done) // after it waited for the attempt
		if _, err := w.Act(t.Context(), &api.ActionRequest{Verb: api.VerbCancel, All: true}); !errors.Is(err, api.ErrConflict) {
			t.Errorf("the request whose action was taken back: %v", err)
		}
	}()
	var id string
	until(t, "the action to stand", func() bool {
		as, err := w.Actions(t.Context())
		if err == nil && len(as) == 1 {
			id = as[0].ID
		}
		return id != ""
	})
	if _, err := w.DeleteAction(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	<-done
	after := w.send(mail{from: "s@s.test", to: []string{"b@d.test"}})
	r.let(t)
	w.waitFor(first, message.EventDelivered, 1)
	r.let(t)
	w.waitFor(after, message.EventDelivered, 1)
	if _, err := w.DeleteAction(t.Context(), id); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("taken back twice: %v", err)
	}
}

func TestSweepDoesNotHoldNewMailForASlowAttempt(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	old := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.arrive(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.act(api.ActionRequest{Verb: api.VerbCancel, All: true})
	}()
	until(t, "the order to reach the attempt", func() bool {
		w.dispatch.mu.Lock()
		defer w.dispatch.mu.Unlock()
		return len(w.dispatch.mu.orders) == 1
	})
	const more = 5 // worth a second connection
	for range more {
		w.send(mail{from: "s@s.test", to: []string{"new@d.test"}})
	}
	r.arrive(t) // they are being sent, while the first still hangs
	for range 1 + more {
		r.let(t)
	}
	<-done
	w.waitFor(old, message.EventDelivered, 1)
	w.empty()
	if r.to("new@d.test") != more {
		t.Error("new mail was not delivered")
	}
}
