package node

import (
	"encoding/binary"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool/message"
)

// steer puts courses of the only source and holds in force at a node.
func (w *world) steer(revision int64, lanes map[policy.Steered]*policy.Course, holds map[policy.Selector]*policy.Held) {
	w.usePolicy(w.Policy().WithSteering(&policy.Steering{Revision: revision, Lanes: lanes, Holds: holds}))
}

// blocked is a rest of the only source at carrier big.
func blocked(d time.Duration) map[policy.Steered]*policy.Course {
	return map[policy.Steered]*policy.Course{{Carrier: "big", Source: policy.DefaultName}: {State: policy.StateBlocked, Rests: policy.At(time.Now().Add(d)), Decision: "d1", Reason: "554 blocked"}}
}

func big() policy.Resource { return resource("big", &policy.Carrier{Domains: []string{"big.test"}}) }

func TestDecisionsAreInForceOnANode(t *testing.T) {
	r := receive(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr), big())
	w.steer(5, blocked(time.Hour), map[policy.Selector]*policy.Held{{Tenant: policy.DefaultName, Job: "j"}: {Until: policy.At(time.Now().Add(time.Hour)), Decision: "d2", Reason: "unknown users"}})
	rests := w.send(mail{from: "s@s.test", to: []string{"u@big.test"}})
	held := w.send(mail{from: "s@s.test", to: []string{"u@other.test"}, job: "j"})
	free := w.send(mail{from: "s@s.test", to: []string{"u@other.test"}})
	w.waitFor(free, message.EventDelivered, 1)
	for _, id := range []message.ID{rests, held} {
		if w.deliveryOf(id, 0) == nil {
			t.Errorf("%s went", id)
		}
	}
	// An older word that comes late changes nothing.
	w.steer(4, nil, nil)
	if c := w.Policy().CourseOf("big", "", policy.DefaultName); c == nil {
		t.Fatal("an older decision took the place of a newer one")
	}
	w.steer(6, nil, nil)
	w.waitFor(rests, message.EventDelivered, 1)
	w.waitFor(held, message.EventDelivered, 1)
}

// TestMailGoesWhereASourceDoesNotRest: mail of one carrier goes to the node that
// the leader names, and what has just come does not go back when things turn.
func TestMailGoesWhereASourceDoesNotRest(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		r := receive(t, sink.Options{})
		p := newPair(t, r.Addr, append(longRetry(), big())...)
		home := func(w *world, to string) {
			w.UseHomes([]exchange.Home{{Pool: policy.DefaultName, Nodes: []string{"a", "b"}}, {Pool: policy.DefaultName, Carrier: "big", Nodes: []string{to}}})
		}
		p.a.steer(1, blocked(time.Hour), nil)
		p.b.steer(1, blocked(time.Hour), nil)
		id := p.a.send(mail{from: "s@s.test", to: []string{"u@big.test", "u@other.test"}})
		p.a.waitFor(id, message.EventDeferred, 1) // the other's
		home(p.a, "b")
		p.b.waitFor(id, message.EventReceived, 1)
		p.a.waitFor(id, message.EventTransferred, 1)
		if n := types(p.a.log(api.EventQuery{}))[message.EventTransferred]; n != 1 {
			t.Errorf("%d deliveries went, and only one is for the carrier", n)
		}
		// Now a is the one whose source may be used.
		p.a.steer(2, nil, nil)
		if forgets { // without the protection it goes back
			p.b.mover.came.mu.Lock()
			p.b.mover.came.mu.young, p.b.mover.came.mu.old = nil, nil
			p.b.mover.came.mu.Unlock()
		}
		home(p.b, "a")
		if forgets {
			p.b.waitFor(id, message.EventTransferred, 1)
			continue
		}
		until(t, "the queue to be stranded at b", func() bool {
			var report exchange.Report
			p.b.FillReport(&report)
			return report.Stranded > 0
		})
		for range 3 {
			p.b.mover.round(t.Context(), t.Context())
		}
		if n := types(p.b.log(api.EventQuery{}))[message.EventTransferred]; n != 0 {
			t.Errorf("%d went back", n)
		}
		p.b.steer(2, nil, nil)
		p.b.waitFor(id, message.EventDelivered, 1)
	}
}

func TestArrivalsAreForgotten(t *testing.T) {
	var a arrivals
	now := time.Now()
	made := 0
	some := func(n int) (ds []*message.Delivery) {
		for range n {
			made++
			d := &message.Delivery{}
			binary.BigEndian.PutUint64(d.ID.Message[:], uint64(made))
			ds = append(ds, d)
		}
		return ds
	}
	first := some(2)
	a.note(first[:1], now)
	a.note(first[1:], now.Add(stayFor/2))
	for _, tt := range []struct {
		after time.Duration
		want  [2]bool
	}{{stayFor/2 + 1, [2]bool{true, true}}, {stayFor - 1, [2]bool{true, true}}, {stayFor + stayFor/4, [2]bool{true, true}}, {3 * stayFor, [2]bool{}}} {
		at := now.Add(tt.after)
		if got := [2]bool{a.recent(first[0].ID, at), a.recent(first[1].ID, at)}; got != tt.want {
			t.Errorf("after %s they are recent: %v, want %v", tt.after, got, tt.want)
		}
	}
	a.note(some(3*maxArrivals), now.Add(4*stayFor))
	if n := len(a.mu.young) + len(a.mu.old); n > maxArrivals {
		t.Errorf("%d are kept", n)
	}
}
