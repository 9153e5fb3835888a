package node

import (
	"strings"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

func TestOneDeliveryWithEveryOutcome(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"ok1@d.test", "bounce1@d.test", "defer1@d.test", "ok2@d.test", "defer2@d.test"}, job: "j"})
	w.waitFor(id, message.EventDeferred, 2)
	d := w.deliveryOf(id, 0)
	if len(d.Recipients) != 2 || d.Recipients[0].Address != "defer1@d.test" || d.Recipients[1].Address != "defer2@d.test" || d.Attempts != 1 {
		t.Fatalf("left: %+v", d)
	}
	if d.Last == nil || d.Last.Reply.Code != 451 || d.Last.Reply.Phase != message.PhaseRcpt || d.Last.Source != policy.DefaultName || !strings.Contains(d.Last.Host, r.Addr) {
		t.Errorf("last attempt: %+v", d.Last)
	}
	// The default schedule begins with 5 min, 10 % either way.
	wait := d.Due.Sub(d.Last.At)
	if wait < 4*time.Minute+30*time.Second || wait > 5*time.Minute+30*time.Second {
		t.Errorf("due again after %s", wait)
	}
	es := w.log(api.EventQuery{ID: id.String()})
	got := types(es)
	// The notice of the bounce has an id of its own.
	if got[message.EventAccepted] != 5 || got[message.EventDelivered] != 2 || got[message.EventBounced] != 1 || got[message.EventDeferred] != 2 || len(es) != 10 {
		t.Errorf("events: %v", got)
	}
	for _, e := range es {
		switch e.Type {
		case message.EventDeferred:
			if e.NextDue == nil || !e.NextDue.Equal(d.Due) || e.Attempt != 1 || e.Reply.Code != 451 {
				t.Errorf("deferred event: %+v", e)
			}
		case message.EventBounced:
			if e.Reply.Code != 550 || e.Reply.Enhanced.String() != "5.1.1" || e.Reply.Phase != message.PhaseRcpt {
				t.Errorf("bounced event: %+v", e.Reply)
			}
		case message.EventDelivered:
			if e.Reply.Phase != message.PhaseDot || e.Carrier != policy.DefaultName || e.Source != policy.DefaultName || e.StagesUS["total"] == 0 {
				t.Errorf("delivered event: %+v", e)
			}
		}
	}
	j, err := w.Job(t.Context(), policy.DefaultName, "j")
	if err != nil || j.Accepted != 5 || j.Delivered != 2 || j.Bounced != 1 || j.Queued != 2 {
		t.Errorf("job: %+v, %v", j, err)
	}
	w.balance()
}

func TestRetriesFollowTheScheduleUntilExpiry(t *testing.T) {
	r := receive(t, sink.Options{Recipient: sink.ByName})
	w := newWorld(t, nil, toSink(r.Addr),
		resource("quick", &policy.Stream{Expires: policy.Duration(400 * time.Millisecond), Retry: soon(50*time.Millisecond, 60*time.Millisecond, time.Hour)}))
	id := w.send(mail{from: "s@s.test", to: []string{"defer@d.test"}, stream: "quick"})
	e := w.waitFor(id, message.EventExpired, 1)[0]
	defers := w.log(api.EventQuery{ID: id.String(), Type: string(message.EventDeferred)})
	if len(defers) < 3 {
		t.Fatalf("%d attempts, want those after 0, 50 and 110 ms", len(defers))
	}
	for i, want := range []time.Duration{50 * time.Millisecond, 60 * time.Millisecond} {
		if wait := defers[i].NextDue.Sub(defers[i].Time); wait != want {
			t.Errorf("wait %d is %s, want %s", i+1, wait, want)
		}
	}
	// The wait of an hour ends at the expiry: the last attempt's retry is then.
	accepted := w.log(api.EventQuery{ID: id.String(), Type: string(message.EventAccepted)})[0].Time
	if due := defers[2].NextDue.Sub(accepted); due != 400*time.Millisecond {
		t.Errorf("after the third failure due at %s, want at the expiry", due)
	}
	if took := e.Time.Sub(accepted); took < 400*time.Millisecond || took > 3*time.Second {
		t.Errorf("expired after %s", took)
	}
	if e.Reply.Code != 550 || e.Reply.Enhanced.String() != "5.4.7" || !strings.Contains(e.Reply.Text, "try again later") || e.Attempt != 3 {
		t.Errorf("expired with %+v at attempt %d", e.Reply, e.Attempt)
	}
	w.empty()
	w.balance()
}

func TestExpiryReachesMailThatIsNotTried(t *testing.T) {
	life := policy.Duration(300 * time.Millisecond)
	for name, c := range map[string]struct {
		rs      []policy.Resource
		prepare func(*world)
		mail    mail
		phase   message.Phase
	}{
		"held": {
			rs: []policy.Resource{held},
			prepare: func(w *world) {
				if _, err := w.Act(t.Context(), &api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Destination: "d.test"}}); err != nil {
					t.Fatal(err)
				}
			},
		},
		"scheduled beyond its expiry": {rs: []policy.Resource{held}, mail: mail{sendAt: time.Now().Add(time.Hour), expires: time.Now().Add(300 * time.Millisecond)}},
		"unresolvable":                {rs: nil}, // nobody answers DNS
		"backed off":                  {rs: []policy.Resource{held}},
		"paused job": {
			rs:   []policy.Resource{held},
			mail: mail{job: "j"},
			prepare: func(w *world) {
				w.send(mail{from: "s@s.test", to: []string{"x@other.test"}, job: "j", sendAt: time.Now().Add(time.Hour)})
				paused := "paused"
				if _, err := w.ChangeJob(t.Context(), policy.DefaultName, "j", api.JobChange{State: &paused}); err != nil {
					t.Fatal(err)
				}
			},
		},
		"outside its hours": {rs: []policy.Resource{held}, mail: mail{stream: "never"}},
	} {
		t.Run(name, func(t *testing.T) {
			yesterday := time.Now().UTC().AddDate(0, 0, -3).Weekday().String()[:3]
			rs := append(c.rs,
				resource("default", &policy.Stream{Expires: life}),
				resource("never", &policy.Stream{Expires: life, Windows: []policy.Window{{Days: []string{strings.ToLower(yesterday)}, Start: "00:00", End: "00:01"}}}))
			w := newWorld(t, nil, rs...)
			if c.prepare != nil {
				c.prepare(w)
			}
			m := c.mail
			m.from, m.to = "s@s.test", []string{"a@d.test"}
			id := w.send(m)
			e := w.waitFor(id, message.EventExpired, 1)[0]
			if e.Reply.Code != 550 || e.Reply.Enhanced.String() != "5.4.7" {
				t.Errorf("expired with %+v", e.Reply)
			}
			w.balance()
		})
	}
}

func TestNobodyIsChargedTwiceForADeadHost(t *testing.T) {
	w := newWorld(t, nil, held)
	var ids []message.ID
	for range 5 {
		ids = append(ids, w.send(mail{from: "s@s.test", to: []string{"a@d.test"}}))
	}
	until(t, "an attempt to be on record", func() bool { return w.typesNow()[message.EventDeferred] > 0 })
	e := w.log(api.EventQuery{Type: string(message.EventDeferred)})[0]
	if e.Reply.Fault != message.FaultRefused || e.Reply.Phase != message.PhaseConnect || e.Host == "" {
		t.Errorf("deferred with %+v at %q", e.Reply, e.Host)
	}
	attempts := 0
	for _, id := range ids {
		attempts += int(w.deliveryOf(id, 0).Attempts)
	}
	if attempts != 1 {
		t.Errorf("%d deliveries were charged for one failed connection", attempts)
	}
	w.balance()
}

func TestMailThatIsDueLaterGoesOnTime(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	at := time.Now().Add(300 * time.Millisecond)
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}, sendAt: at})
	e := w.waitFor(id, message.EventDelivered, 1)[0]
	if late := e.Time.Sub(at); late < 0 || late > 2*time.Second {
		t.Errorf("delivered %s after its hour", late)
	}
}
