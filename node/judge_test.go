package node

import (
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/delivery"
	"hikyaku/reputation"
	"hikyaku/spool/message"
)

func TestWaitOf(t *testing.T) {
	blocked := reputation.Verdict{Category: reputation.Blocked, About: reputation.AboutSource, Action: reputation.ActRest}
	far := reputation.Verdict{Category: reputation.MailboxFull, About: reputation.AboutRecipient, Action: reputation.ActRetryFar, RetryAfter: 6 * time.Hour}
	plain := reputation.Verdict{Category: reputation.TheirFault, Action: reputation.ActRetry}
	of := func(vs ...reputation.Verdict) (ds []deferral) {
		for i, v := range vs {
			ds = append(ds, deferral{delivery.RecipientReply{Index: i}, v})
		}
		return ds
	}
	for name, tt := range map[string]struct {
		scheduled time.Duration
		attempts  uint16
		ds        []deferral
		want      time.Duration
	}{
		"nobody was deferred":                       {5 * time.Minute, 0, nil, 5 * time.Minute},
		"by the schedule":                           {5 * time.Minute, 0, of(plain), 5 * time.Minute},
		"later, since the reply asks for it":        {5 * time.Minute, 0, of(plain, far), 6 * time.Hour},
		"not earlier than the schedule":             {8 * time.Hour, 0, of(far), 8 * time.Hour},
		"soon: another source may take it":          {5 * time.Minute, 0, of(blocked, blocked), soonest},
		"not sooner than the schedule":              {time.Second, 0, of(blocked), time.Second},
		"one was deferred for its own sake":         {5 * time.Minute, 0, of(blocked, plain), 5 * time.Minute},
		"the rule says how long at least":           {5 * time.Minute, 0, of(reputation.Verdict{Category: reputation.Blocked, About: reputation.AboutSource, Action: reputation.ActRest, RetryAfter: time.Hour}), time.Hour},
		"no source takes it: the schedule is right": {time.Hour, 3, of(blocked), time.Hour},
	} {
		if got := waitOf(tt.scheduled, tt.attempts, tt.ds); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// TestEnoughForOneConnection: a carrier that has had enough of a connection gets
// the same mail on the next one, at once and without an attempt used up; but one
// that never takes it gets it by the schedule.
func TestEnoughForOneConnection(t *testing.T) {
	var asked, taken atomic.Int32
	taken.Store(2) // from the third on
	r := receive(t, sink.Options{Message: func(*sink.Received) string {
		if asked.Add(1) <= taken.Load() {
			return "421 4.7.0 Too many messages in this connection"
		}
		return ""
	}})
	w := newWorld(t, nil, toSink(r.Addr), resource("c", &policy.Carrier{Domains: []string{"c.test"}, Retry: soon(time.Hour)}),
		resource("enough", &policy.ReplyRule{Carrier: "c", Codes: []string{"421"}, Text: "too many messages in this connection", Category: "per-connection", Examples: []string{"421 4.7.0 Too many messages in this connection"}}))
	id := w.send(mail{from: "s@s.test", to: []string{"a@c.test"}})
	e := w.waitFor(id, message.EventDelivered, 1)[0]
	if e.Attempt != 1 {
		t.Errorf("delivered at attempt %d, want 1: a new connection is none", e.Attempt)
	}
	for _, d := range w.waitFor(id, message.EventDeferred, 2) {
		if d.Category != "per-connection" || d.Rule != "policy/enough" {
			t.Errorf("%+v", d)
		}
	}
	taken.Store(1000)
	id = w.send(mail{from: "s@s.test", to: []string{"b@c.test"}})
	ds := w.waitFor(id, message.EventDeferred, reconnects+1)
	if wait := ds[reconnects].NextDue.Sub(ds[reconnects].Time); wait < 50*time.Minute {
		t.Errorf("the %dth time in a row it waits %s, want the schedule's hour", reconnects+1, wait)
	}
	if n := asked.Load(); n > 10 {
		t.Errorf("asked %d times", n)
	}
}

// warnings counts what a node tells the others.
type warnings struct{ n atomic.Int32 }

func (w *warnings) Warn(string, string, string) { w.n.Add(1) }

// TestNothingFollowsInADryRun: a source that a carrier refuses is stopped there by
// the node itself, unless nothing shall follow.
func TestNothingFollowsInADryRun(t *testing.T) {
	for mode, stops := range map[string]bool{policy.ModeOn: true, policy.ModeDryRun: false, policy.ModeOff: false} {
		t.Run(mode, func(t *testing.T) {
			r := receive(t, sink.Options{Message: func(*sink.Received) string { return "554 5.7.1 go away" }})
			var told warnings
			w := newWorld(t, func(c *Config) { c.Hinter = &told }, toSink(r.Addr), resource(policy.DefaultName, &policy.Reputation{Mode: mode}),
				resource("c", &policy.Carrier{Domains: []string{"c.test"}, Retry: soon(time.Hour)}),
				resource("no", &policy.ReplyRule{Carrier: "c", Codes: []string{"554"}, Text: "go away", Category: "blocked", Examples: []string{"554 5.7.1 go away"}}))
			for range 3 {
				id := w.send(mail{from: "s@s.test", to: []string{"a@c.test"}})
				if e := w.waitFor(id, message.EventDeferred, 1)[0]; e.Category != "blocked" {
					t.Fatalf("%+v", e)
				}
			}
			if got := told.n.Load() > 0; got != stops {
				t.Errorf("stopped %v, want %v", got, stops)
			}
		})
	}
}
