package node

import (
	"fmt"
	"sync/atomic"
	"testing"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// TestOutcomeThatCannotBeStoredIsNotTriedAgain: a peer that has the message
// would get it again and again.
func TestOutcomeThatCannotBeStoredIsNotTriedAgain(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.arrive(t)
	if err := w.spool.Close(); err != nil {
		t.Fatal(err)
	}
	r.let(t)
	until(t, "the receiver to have it", func() bool { return r.to("a@d.test") == 1 })
	other := make(chan error, 1)
	order := &order{verdict{message.Cancelled, ""}, func(err error) { other <- err }}
	if w.dispatch.claim(&message.Delivery{ID: message.DeliveryID{Message: id}, Queue: message.QueueKey{Destination: "d.test"}}, order) {
		t.Error("it is free to be taken although its outcome is not stored")
	}
	if !w.dispatchInFlight(id) {
		t.Error("it is queued again")
	}
	w.close()
	w.start()
	r.arrive(t) // the next start finds it on disk and tries again: design.md 5.3
	r.let(t)
	w.waitFor(id, message.EventDelivered, 1)
}

// TestDeliveryThatMovedIsFoundAgain: the spool says that the outcome is of
// something that is not there any more. What the spool says counts.
func TestDeliveryThatMovedIsFoundAgain(t *testing.T) {
	r := receiveGated(t, sink.Options{})
	w := newWorld(t, nil, toSink(r.Addr))
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.arrive(t)
	d := w.deliveryOf(id, 0)
	next := d.Clone()
	next.Due = w.now()
	moved := make(chan error, 1)
	w.spool.Commit(&spool.Transition{Delivery: d, Next: next}, func(err error) { moved <- err })
	if err := <-moved; err != nil {
		t.Fatal(err)
	}
	r.let(t)
	r.arrive(t)
	r.let(t)
	w.waitFor(id, message.EventDelivered, 1)
	w.empty()
	w.balance()
}

func TestUnreadableContentWaitsAndMissingContentBounces(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want message.Class
	}{
		"missing":    {fmt.Errorf("message: %w", spool.ErrNotFound), message.Permanent},
		"unreadable": {fmt.Errorf("message: %w", spool.ErrUnreadable), message.Temporary},
	} {
		reply := missingReply(c.err)
		if reply.Class() != c.want {
			t.Errorf("%s: %+v", name, reply)
		}
	}
}

func TestContentCacheKeepsItsBound(t *testing.T) {
	cc := newContentCache(100 << 10)
	var ids message.IDs
	var last message.ID
	for i := range 100 {
		m := &message.Message{ID: ids.New(timeZero.AddDate(50, 0, i)), Raw: make([]byte, 4<<10), Deliveries: 1}
		cc.put(m)
		last = m.ID
	}
	st := cc.stats()
	if st.Bytes > 100<<10 || st.Evicted == 0 || st.Messages == 0 {
		t.Errorf("%+v", st)
	}
	if cc.get(last) == nil {
		t.Error("the newest fell out")
	}
	cc.drop(last)
	if cc.get(last) != nil {
		t.Error("it is there after it was dropped")
	}
	huge := &message.Message{ID: ids.New(timeZero.AddDate(60, 0, 0)), Raw: make([]byte, 60<<10)}
	if cc.put(huge); cc.peek(huge.ID) != nil {
		t.Error("a message of more than a quarter pushed out all others")
	}
}

func TestBacklogLargerThanMemoryIsDeliveredOnce(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	r := receive(t, sink.Options{Recipient: func(_, _ string) string {
		if refuse.Load() {
			return "451 4.3.2 not now"
		}
		return ""
	}})
	w := newWorld(t, func(c *Config) {
		c.Scheduler.MaxLoaded, c.Scheduler.Page = 50, 16
		c.HandoffBytes = 8 << 10
	}, toSink(r.Addr), resource("default", &policy.Carrier{Backoff: 1, TLS: "none"}))
	w.act(api.ActionRequest{Verb: api.VerbHold, All: true})
	const total = 1500
	for i := range total {
		w.send(mail{from: "s@s.test", to: []string{fmt.Sprintf("r%d@d%d.test", i, i%30)}})
	}
	refuse.Store(false)
	w.act(api.ActionRequest{Verb: api.VerbRelease, All: true})
	w.empty()
	for i := range total {
		if n := r.to(fmt.Sprintf("r%d@d%d.test", i, i%30)); n != 1 {
			t.Fatalf("r%d arrived %d times", i, n)
		}
	}
	w.balance()
}
