package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hikyaku/bench/sink"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/lease"
	"hikyaku/controlplane/policy"
	"hikyaku/node/api"
	"hikyaku/node/control"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// ruler is a control plane that says what the test says.
type ruler struct {
	node   control.Node
	refuse error
	mu     struct {
		sync.Mutex
		held    map[string]*control.Hold
		running bool
		policy  int64
	}
}

func (r *ruler) Join(context.Context) error { return r.refuse }
func (r *ruler) Close() error               { return nil }
func (r *ruler) Hurry()                     {}

func (r *ruler) UsePolicy(set *policy.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.policy = set.Revision
}

func (r *ruler) Run(ctx context.Context) error {
	r.mu.Lock()
	r.mu.running = true
	r.mu.Unlock()
	<-ctx.Done()
	return nil
}

// give lets the node use a source.
func (r *ruler) give(source string, epoch int64, k *lease.Keeper) *control.Hold {
	h := control.NewHold(source, epoch, k)
	r.change(source, h)
	return h
}

// take takes it away, as control does: the right first, then the word.
func (r *ruler) take(h *control.Hold) {
	h.End()
	r.change(h.Source, nil)
}

func (r *ruler) change(source string, h *control.Hold) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := map[string]*control.Hold{}
	for name, old := range r.mu.held {
		held[name] = old
	}
	if held[source] = h; h == nil {
		delete(held, source)
	}
	r.mu.held = held
	r.node.UseSources(held)
}

// ruledWorld is a node under a ruler, with two sources in its pool.
func ruledWorld(t *testing.T, addr string, more ...policy.Resource) (*world, *ruler) {
	t.Helper()
	r := &ruler{}
	rs := append([]policy.Resource{
		toSink(addr),
		resource("s1", &policy.Source{Address: "127.0.0.11", EHLO: "s1.example.net"}),
		resource("s2", &policy.Source{Address: "127.0.0.12", EHLO: "s2.example.net"}),
		resource("default", &policy.Pool{Sources: []policy.PoolMember{{Name: "s1"}, {Name: "s2"}}}),
	}, more...)
	w := newWorld(t, func(c *Config) {
		c.Delivery.EHLOEpoch = true
		c.Control = func(n control.Node, spool string) (Control, error) {
			r.node = n
			if spool == "" {
				t.Error("the node has no identity")
			}
			return r, nil
		}
	}, rs...)
	return w, r
}

func TestMailWaitsForASource(t *testing.T) {
	sink := receive(t, sink.Options{})
	w, r := ruledWorld(t, sink.Addr)
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	var report exchange.Report
	until(t, "the leader to hear of it", func() bool { report = exchange.Report{}; r.node.FillReport(&report); return report.Stranded == 1 })
	if report.Queued != 1 || report.Revision != w.Policy().Revision || report.SpoolFreePart != 0.5 {
		t.Errorf("reported %+v", report)
	}
	r.give("s1", 1, nil)
	r.node.UseGrants(control.Grants{Floor: exchange.FullShare})
	w.waitFor(id, message.EventDelivered, 1)
	if got := sink.all(); len(got) != 1 || got[0].ehlo != "n1.e1.s1.test" || !strings.HasPrefix(got[0].addr, "127.0.0.11:") {
		t.Errorf("received %+v", got)
	}
	until(t, "the signals", func() bool {
		report = exchange.Report{}
		r.node.FillReport(&report)
		r.node.Unsent(&report)
		var sum exchange.Signal
		for _, s := range report.Signals {
			if s.Source != "s1" || s.Carrier != policy.DefaultName {
				t.Fatalf("signal %+v", s)
			}
			sum.Delivered += s.Delivered
			sum.Connected += s.Connected
			sum.Deferred += s.Deferred + s.Bounced + s.Refused
		}
		return sum == exchange.Signal{Delivered: 1, Connected: 1}
	})
}

// The source goes while mail flows: nothing goes from it any more, nothing is
// lost, and the other source carries on.
func TestSourceLostMidRun(t *testing.T) {
	sink := receive(t, sink.Options{})
	w, r := ruledWorld(t, sink.Addr)
	r.node.UseGrants(control.Grants{Floor: exchange.FullShare})
	h := r.give("s1", 1, nil)
	const total = 600
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range total {
			_, err := w.submit(mail{from: "s@s.test", to: []string{fmt.Sprintf("r%d@d%d.test", i, i%7)}})
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	until(t, "mail to flow", func() bool { return len(sink.all()) > total/6 })
	r.take(h)
	until(t, "the sessions of the source to end", func() bool { return !h.Enter() && w.dispatch.running() == 0 })
	before := len(sink.all())
	<-sent
	r.give("s2", 4, nil)
	until(t, "all of it", func() bool { return len(sink.all()) == total })
	until(t, "the queue to be empty", func() bool { return w.spool.Stats().Deliveries == 0 })
	for i, d := range sink.all() {
		if want := "n1.e1.s1.test"; i < before && d.ehlo != want {
			t.Errorf("message %d by %s", i, d.ehlo)
		}
		if want := "n1.e4.s2.test"; i >= before && d.ehlo != want {
			t.Errorf("message %d by %s after its source was taken away", i, d.ehlo)
		}
	}
	until(t, "the events", func() bool { return types(w.log(api.EventQuery{}))[message.EventDelivered] == total })
	if n := types(w.log(api.EventQuery{}))[message.EventDeferred]; n != 0 {
		t.Errorf("%d deliveries were charged for a source that went", n)
	}
}

// The deadline alone: nobody has told the node anything yet.
func TestDeadlineStopsMail(t *testing.T) {
	sink := receive(t, sink.Options{})
	w, r := ruledWorld(t, sink.Addr)
	r.node.UseGrants(control.Grants{Floor: exchange.FullShare})
	k, err := lease.New(time.Now(), 700*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.give("s1", 1, k)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := w.submit(mail{from: "s@s.test", to: []string{fmt.Sprintf("r%d@d%d.test", n, n%5)}}); err != nil {
				t.Error(err)
				break
			}
		}
		sent <- n
	}()
	until(t, "the deadline", func() bool { return !k.Holds(time.Now()) })
	until(t, "the sessions to end", func() bool { return w.dispatch.running() == 0 })
	before := len(sink.all())
	cancel()
	total := <-sent
	if before == 0 || before == total {
		t.Fatalf("%d of %d were sent before the deadline", before, total)
	}
	if n := w.dispatch.running(); n != 0 || len(sink.all()) != before {
		t.Errorf("%d sessions, %d messages after the deadline", n, len(sink.all())-before)
	}
	r.give("s1", 2, nil)
	until(t, "the rest", func() bool { return len(sink.all()) == total })
	for i, d := range sink.all()[before:] {
		if d.ehlo != "n1.e2.s1.test" {
			t.Fatalf("message %d by %s", before+i, d.ehlo)
		}
	}
}

// A transaction that hangs is cut off, and its mail goes by another source.
func TestSeveredTransaction(t *testing.T) {
	sink := receiveGated(t, sink.Options{})
	w, r := ruledWorld(t, sink.Addr, resource("default", &policy.Carrier{Retry: soon(10 * time.Millisecond)}))
	r.node.UseGrants(control.Grants{Floor: exchange.FullShare})
	h := r.give("s1", 1, nil)
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	sink.arrive(t)
	r.take(h)
	if n := w.dispatch.running(); n != 1 {
		t.Fatalf("%d sessions: the transaction was not left to its end", n)
	}
	h.Sever()
	until(t, "the session to end", func() bool { return w.dispatch.running() == 0 })
	r.give("s2", 1, nil)
	sink.arrive(t)
	sink.let(t) // the one that was cut off; nobody hears it
	sink.let(t)
	w.waitFor(id, message.EventDelivered, 1)
}

func TestRefusedNodeDoesNotServe(t *testing.T) {
	w := newWorld(t, nil)
	w.close()
	why := errors.New("the name is taken")
	w.cfg.Control = func(n control.Node, _ string) (Control, error) { return &ruler{node: n, refuse: why}, nil }
	n, err := New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); !errors.Is(err, why) {
		t.Errorf("Run: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestDrainRefusesNewMail(t *testing.T) {
	sink := receive(t, sink.Options{})
	w, r := ruledWorld(t, sink.Addr)
	r.node.UseGrants(control.Grants{Floor: exchange.FullShare})
	id := w.send(mail{from: "s@s.test", to: []string{"a@d.test"}})
	r.node.Drain(true)
	if err := w.Admit(policy.DefaultName); err == nil {
		t.Error("new mail is taken")
	}
	if len(w.NotReady()) == 0 {
		t.Error("load balancers are not told")
	}
	r.give("s1", 1, nil)
	w.waitFor(id, message.EventDelivered, 1) // what is here goes on
	r.node.Drain(false)
	if err := w.Admit(policy.DefaultName); err != nil {
		t.Error(err)
	}
}

// Grants end on the monotonic clock, even where that on the wall goes back.
func TestGrantsEndThoughTheWallClockGoesBack(t *testing.T) {
	sink := receive(t, sink.Options{})
	var back atomic.Int64
	r := &ruler{}
	w := newWorld(t, func(c *Config) {
		c.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		c.Control = func(n control.Node, _ string) (Control, error) { r.node = n; return r, nil }
	}, toSink(sink.Addr), resource("default", &policy.Tenant{Rate: &policy.Rate{N: 1000, Per: time.Second, Burst: 1000}, Networks: networks("127.0.0.0/8")}))
	r.give("default", 0, nil)
	grant := exchange.Grant{Scope: exchange.Scope{Kind: exchange.Tenant, Tenant: "default"}, Holding: exchange.Holding{Share: exchange.FullShare, Burst: 1000}}
	end := time.Now().Add(2 * time.Second)
	r.node.UseGrants(control.Grants{Until: end, List: []exchange.Grant{grant}})
	w.waitFor(w.send(mail{from: "s@s.test", to: []string{"a@d.test"}}), message.EventDelivered, 1)
	back.Store(int64(time.Hour))
	until(t, "the end of the grants", func() bool { return time.Now().After(end) })
	back.Store(int64(time.Second)) // before it on the wall, and later than what was
	id := w.send(mail{from: "s@s.test", to: []string{"b@d.test"}})
	until(t, "the dispatch to notice", func() bool { return w.cluster.grantsEnd.Load() == 0 })
	until(t, "the mail to wait for its budget", func() bool {
		var v scheduler.QueueView
		w.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { v, _ = s.QueueViewOf(now, w.deliveryOf(id, 0).Queue) })
		return v.State == scheduler.StateBudget
	})
	if n := sink.to("b@d.test"); n != 0 {
		t.Error("it went out by a grant that was over")
	}
	r.node.UseGrants(control.Grants{Until: time.Now().Add(time.Minute), List: []exchange.Grant{grant}})
	w.waitFor(id, message.EventDelivered, 1)
}
