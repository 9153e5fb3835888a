package control_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/bench/fault"
	"hikyaku/controlplane/keyspace"
	"hikyaku/node/control"
)

func TestRegistersAndLeaves(t *testing.T) {
	w := newWorld(t)
	o := w.options("a", "spool-a")
	o.Labels, o.Gossip, o.Capacity = map[string]string{"site": "fra"}, "127.0.0.1:2", 3
	m := w.start(o)
	r := w.registration("a")
	if r == nil || r.NodeID != "spool-a" || r.Lease != m.Status().Lease || r.Replaces != 0 || r.TTL != testTTL || r.Capacity != 3 ||
		r.Labels["site"] != "fra" || r.Protocol != [2]int{keyspace.MinProtocol, keyspace.Protocol} || r.Gossip != o.Gossip || r.Peer != o.Peer {
		t.Fatalf("registered as %+v", r)
	}
	until(t, "the pinned source and the node-local one are held", func() bool { return m.node.hold("pinned") != nil && m.node.hold("default") != nil })
	if h := m.node.hold("pinned"); h.Epoch != 0 || !h.MayUse(time.Now().Add(time.Hour)) {
		t.Error("a pinned source needs a lease")
	}
	until(t, "the lease is renewed", func() bool { return m.Metrics().Renewals >= 2 })
	m.stop()
	if r := w.registration("a"); r != nil {
		t.Errorf("after its end: %+v", r)
	}
}

func TestRefused(t *testing.T) {
	other := keyspace.Registration{Name: "a", NodeID: "spool-b", Peer: "192.0.2.1:7", Protocol: [2]int{1, 1}, Version: "9", Started: time.Now()}
	future := other
	future.Name, future.Protocol = "b", [2]int{keyspace.Protocol + 1, keyspace.Protocol + 2}
	foreign, _ := keyspace.NewKey()
	for name, c := range map[string]struct {
		prepare func(*world)
		change  func(*control.Options)
		why     string
	}{
		"name taken":    {func(w *world) { w.put(w.keys.Node("a"), other) }, nil, `node "a" is alive with another spool (spool-b) at 192.0.2.1:7`},
		"too old":       {func(w *world) { w.put(w.keys.Node("b"), future) }, nil, "understands protocols"},
		"another key":   {nil, func(o *control.Options) { o.Key = foreign }, "not the key of cluster"},
		"other cluster": {nil, func(o *control.Options) { remember(t, o.DataDir) }, "belongs to 000102030405060708090a0b0c0d0e0f"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.prepare != nil {
				c.prepare(w)
			}
			o := w.options("a", "spool-a")
			if c.change != nil {
				c.change(&o)
			}
			m, err := control.New(o)
			if err != nil {
				t.Fatal(err)
			}
			if err = m.Join(t.Context()); !errors.Is(err, control.ErrRefused) || !contains(err, c.why) {
				t.Errorf("joined with %v, want ErrRefused and %q", err, c.why)
			}
			if r := w.registration("a"); r != nil && r.NodeID == "spool-a" {
				t.Error("it is registered")
			}
		})
	}
}

func remember(t *testing.T, dir string) {
	t.Helper()
	if err := keyspace.RememberCluster(dir, "000102030405060708090a0b0c0d0e0f"); err != nil {
		t.Fatal(err)
	}
}

func TestNextIncarnationReplaces(t *testing.T) {
	w := newWorld(t)
	lease, err := w.etcd.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	old := keyspace.Registration{Name: "a", NodeID: "spool-a", Lease: int64(lease.ID), Protocol: [2]int{1, 1}}
	putWithLease(w, w.keys.Node("a"), old, lease.ID)
	w.assign("s1", "a", old.Lease, 3, keyspace.Held)
	m := w.start(w.options("a", "spool-a"))
	r := w.registration("a")
	if r.Replaces != old.Lease || r.Lease == old.Lease || r.Lease != m.Status().Lease {
		t.Fatalf("registered as %+v", r)
	}
	until(t, "the old lease is gone", func() bool {
		left, err := w.etcd.TimeToLive(t.Context(), lease.ID)
		return err == nil && left.TTL < 0
	})
	if w.registration("a") == nil {
		t.Fatal("the registration went with the old lease")
	}
	until(t, "sources are known", func() bool { return m.node.hold("pinned") != nil })
	if m.node.hold("s1") != nil {
		t.Error("what the old incarnation held is used")
	}
	m.given("s1", 4)
}

// Without etcd the node starts with what needs no lease.
func TestStartsWithoutEtcd(t *testing.T) {
	w := newWorld(t)
	o := w.options("a", "spool-a")
	p := proxied(t, &o)
	p.Set(fault.Weather{Refuse: true})
	o.JoinWait = 300 * time.Millisecond
	m := w.start(o)
	until(t, "the pinned source is used", func() bool { return m.node.hold("pinned") != nil })
	if s := m.Status(); s.Registered || len(s.Alarms) == 0 {
		t.Errorf("status %+v", s)
	}
	p.Set(fault.Weather{})
	until(t, "it registers when etcd is there", func() bool { return m.Status().Registered })
	m.given("s1", 1)
}

func proxied(t testing.TB, o *control.Options) *fault.Proxy {
	t.Helper()
	p, err := fault.NewProxy(etcdAt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	o.Client = dial(t, p.Addr())
	return p
}

// partition cuts a node off so that its client takes answers for later than
// they were asked for (safety.md 0.3): first answers are late, then requests do
// not arrive any more. It returns when the source was last seen usable, and when
// etcd dropped the registration: from then on others may be given it.
func partition(t *testing.T, unsafe control.Unsafe) (used, dropped time.Time, m *member) {
	w := newWorld(t)
	o := w.options("a", "spool-a")
	o.Unsafe = unsafe
	p := proxied(t, &o)
	m = w.start(o)
	h := m.given("s1", 1)
	gone := make(chan time.Time, 1)
	go func() {
		for r := range w.etcd.Watch(t.Context(), w.keys.Node("a")) {
			for _, e := range r.Events {
				if e.Type == mvccpb.DELETE {
					gone <- time.Now()
					return
				}
			}
		}
	}()
	before := m.Metrics().Renewals
	p.Set(fault.Weather{Down: 2 * time.Second})
	until(t, "two late answers, or no lease", func() bool { return m.Metrics().Renewals >= before+2 || !h.MayUse(time.Now()) })
	p.Set(fault.Weather{Up: time.Hour, Down: 2 * time.Second})
	var last atomic.Int64
	began := time.Now()
	until(t, "the registration is dropped and the source is not used", func() bool {
		now := time.Now()
		if h.MayUse(now) {
			last.Store(int64(now.Sub(began)))
		} else if dropped.IsZero() {
			select {
			case dropped = <-gone:
			default:
			}
		} else {
			return true
		}
		return false
	})
	p.Set(fault.Weather{})
	return began.Add(time.Duration(last.Load())), dropped, m
}

func TestLateAnswersDoNotKeepASource(t *testing.T) {
	t.Parallel()
	used, dropped, m := partition(t, control.Unsafe{})
	if !used.Before(dropped) {
		t.Errorf("the source was used %s after etcd had dropped the registration", used.Sub(dropped))
	}
	until(t, "registered anew", func() bool { return m.Status().Registered })
	if m.Metrics().Losses == 0 {
		t.Error("the loss was not counted")
	}
	if m.node.hold("s1") != nil {
		t.Error("the source is held by the lease that was lost")
	}
	m.given("s1", 2)
}

// The negative control: what the client says is late.
func TestSessionAloneKeepsASourceTooLong(t *testing.T) {
	t.Parallel()
	used, dropped, _ := partition(t, control.Unsafe{TrustSession: true})
	if !used.After(dropped) {
		t.Errorf("with its fencing switched off the source was still given up %s before etcd dropped the registration", dropped.Sub(used))
	}
}

// Another node takes the name while this one is cut off: an alarm, not an end.
func TestNameTakenDuringPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options("a", "spool-a")
	p := proxied(t, &o)
	m := w.start(o)
	h := m.given("s1", 1)
	p.Set(fault.Weather{Cut: true})
	until(t, "the lease is lost", func() bool { return !m.Status().Registered })
	if h.MayUse(time.Now()) {
		t.Error("the source may still be used")
	}
	until(t, "the registration is dropped", func() bool { return w.registration("a") == nil })
	w.put(w.keys.Node("a"), keyspace.Registration{Name: "a", NodeID: "spool-b", Peer: "192.0.2.9:1", Protocol: [2]int{1, 1}})
	p.Set(fault.Weather{})
	until(t, "an alarm", func() bool { return containsAny(m.Status().Alarms, "192.0.2.9:1") })
	if m.node.hold("pinned") == nil {
		t.Error("the pinned source went with it")
	}
	if _, err := w.etcd.Delete(t.Context(), w.keys.Node("a")); err != nil {
		t.Fatal(err)
	}
	until(t, "registered again", func() bool { return m.Status().Registered && !containsAny(m.Status().Alarms, "192.0.2.9:1") })
}

func putWithLease(w *world, key string, v any, id clientv3.LeaseID) {
	w.t.Helper()
	if _, err := w.etcd.Put(w.t.Context(), key, encode(w.t, v), clientv3.WithLease(id)); err != nil {
		w.t.Fatal(err)
	}
}
