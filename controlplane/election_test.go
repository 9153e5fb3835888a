package controlplane_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
)

func TestNewRefuses(t *testing.T) {
	c := newCluster(t, "")
	good := controlplane.Options{Client: c.client, Keys: c.keys, Name: "c1", Address: "127.0.0.1:1", Store: c.store}
	for name, change := range map[string]func(*controlplane.Options){
		"no client":       func(o *controlplane.Options) { o.Client = nil },
		"no keys":         func(o *controlplane.Options) { o.Keys = keyspace.Keys{} },
		"no name":         func(o *controlplane.Options) { o.Name = "" },
		"no address":      func(o *controlplane.Options) { o.Address = "" },
		"no store":        func(o *controlplane.Options) { o.Store = nil },
		"half a second":   func(o *controlplane.Options) { o.Timing.LeaderTTL = 500 * time.Millisecond },
		"margin of TTL":   func(o *controlplane.Options) { o.Timing.LeaderMargin = 5 * time.Second },
		"tick too quick":  func(o *controlplane.Options) { o.Timing.Tick = time.Millisecond },
		"negative settle": func(o *controlplane.Options) { o.Timing.Quarantine = -1 },
	} {
		o := good
		change(&o)
		if _, err := controlplane.New(o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := controlplane.New(good); err != nil {
		t.Error(err)
	}
}

func TestOneLeadsAndOthersSayWho(t *testing.T) {
	c := newCluster(t, "")
	a := c.lead("c1")
	b := c.start("c2")
	record, _ := get[keyspace.Leader](c, c.keys.Leader())
	if record.Name != "c1" || record.Address != a.address {
		t.Errorf("the leader's record is %+v", record)
	}
	n := c.join("n1").joined(a)
	c.eventually("the other one knows the leader", func() bool { return n.exchange(b) == http.StatusMisdirectedRequest })
	l, err := b.Leader(t.Context())
	if err != nil || l.Name != "c1" || l.Term == 0 || l.Members != 1 || l.Live != 1 {
		t.Errorf("c2 says of the leader %+v, %v", l, err)
	}
	nodes, err := b.Nodes(t.Context())
	if err != nil || len(nodes) != 1 || nodes[0].Name != "n1" || !nodes[0].Live || nodes[0].Floor != 100 {
		t.Errorf("c2 says of the nodes %+v, %v", nodes, err)
	}
	if a.Leading() == b.Leading() {
		t.Error("not exactly one leads")
	}
	if m := a.Metrics(); !m.Leader || m.Elections != 1 || m.Exchanges == 0 || m.ExchangeBytes == 0 || m.Members != 1 || m.Live != 1 {
		t.Errorf("metrics of the leader: %+v", m)
	}
	if m := b.Metrics(); m.Leader || m.Elections != 0 || m.Term != l.Term {
		t.Errorf("metrics of the other one: %+v", m)
	}
}

func TestResignationIsAtOnce(t *testing.T) {
	c := newCluster(t, "")
	// With this TTL a take-over in time can only be a resignation.
	slow := func(o *controlplane.Options) { o.Timing.LeaderTTL = 60 * time.Second }
	a := c.lead("c1", slow)
	b := c.start("c2", slow)
	n := c.join("n1").joined(a)
	before, _ := a.Leader(t.Context())
	a.stop()
	if status := n.exchange(a); status != http.StatusServiceUnavailable {
		t.Errorf("who has resigned answers with %d", status)
	}
	n.joined(b)
	if after, err := b.Leader(t.Context()); err != nil || after.Name != "c2" || after.Term <= before.Term {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	if _, err := a.Leader(t.Context()); !errors.Is(err, state.ErrNoLeader) {
		t.Errorf("a process that has ended says %v", err)
	}
}

// The leader is cut off: another takes over when its lease has run out, and by
// then it has stopped by its own clock. What it sends late changes nothing.
func TestStaleLeaderIsRefused(t *testing.T) {
	c := newCluster(t, "")
	a := c.lead("c1")
	b := c.start("c2")
	n := c.join("n1").joined(a)

	a.wire.hold(true)
	c.eventually("the other one leads", func() bool { return b.Leading() })
	if a.Leading() {
		t.Fatal("two lead")
	}
	if status := n.exchange(a); status == http.StatusOK {
		t.Error("a leader that is cut off gave an answer after its deadline")
	}
	n.joined(b)
	member, mod := get[keyspace.Member](c, c.keys.Member("n1"))
	if member.Name != "n1" {
		t.Fatalf("%+v", member)
	}
	a.wire.hold(false)
	c.eventually("the old one knows who leads", func() bool {
		l, err := a.Leader(t.Context())
		return err == nil && l.Name == "c2"
	})
	if _, again := get[keyspace.Member](c, c.keys.Member("n1")); again != mod {
		t.Error("the old leader wrote")
	}
	if !b.Leading() || a.Leading() {
		t.Error("the office went back")
	}
}

// Whatever a process believes, a write goes through only in the term that it was
// decided in, and on the record as it was read.
func TestWritesAreGuarded(t *testing.T) {
	c := newCluster(t, "")
	ctx := t.Context()
	key := c.keys.Source("s1")
	p, err := controlplane.New(controlplane.Options{Client: c.client, Keys: c.keys, Name: "c1", Address: "127.0.0.1:1", Store: c.store})
	if err != nil {
		t.Fatal(err)
	}
	if err := controlplane.WriteAs(ctx, p, 1, key, 0, "{}"); !errors.Is(err, controlplane.ErrDeposed) {
		t.Errorf("without a leader: %v", err)
	}
	put, err := c.client.Put(ctx, c.keys.Leader(), "{}")
	if err != nil {
		t.Fatal(err)
	}
	term := put.Header.Revision
	for _, tt := range []struct {
		name string
		term int64
		mod  int64 // -1: as it is
		want error
	}{
		{"the term before", term - 1, 0, controlplane.ErrDeposed},
		{"a later term", term + 1, 0, controlplane.ErrDeposed},
		{"a record that is not there", term, 7, controlplane.ErrConflict},
		{"its own term, a new record", term, 0, nil},
		{"new once more", term, 0, controlplane.ErrConflict},
		{"the record as it is, the wrong term", term - 1, -1, controlplane.ErrDeposed},
		{"the record as it is", term, -1, nil},
	} {
		_, have := get[keyspace.Assignment](c, key)
		mod := tt.mod
		if mod < 0 {
			mod = have
		}
		err := controlplane.WriteAs(ctx, p, tt.term, key, mod, "{}")
		_, after := get[keyspace.Assignment](c, key)
		if !errors.Is(err, tt.want) || (after != have) != (tt.want == nil) {
			t.Errorf("%s: %v, from revision %d to %d", tt.name, err, have, after)
		}
	}
	if n := p.Metrics().Conflicts; n != 6 {
		t.Errorf("%d conflicts counted", n)
	}
}

// The key is another's while the lease lives: the term ends at once.
func TestLeaderThatIsNotInEtcdEnds(t *testing.T) {
	c := newCluster(t, "")
	a := c.lead("c1", func(o *controlplane.Options) { o.Timing.LeaderTTL = 60 * time.Second })
	n := c.join("n1").joined(a)
	ctx := t.Context()
	_, mod := get[keyspace.Member](c, c.keys.Member("n1"))
	if _, err := c.client.Delete(ctx, c.keys.Leader()); err != nil {
		t.Fatal(err)
	}
	put, err := c.client.Put(ctx, c.keys.Leader(), `{"name":"c9","address":"127.0.0.1:9"}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Drain(ctx, state.Order{Node: "n1", Author: "test"}); !errors.Is(err, state.ErrNoLeader) {
		t.Errorf("a drain by a stale leader: %v", err)
	}
	if m, again := get[keyspace.Member](c, c.keys.Member("n1")); again != mod || m.Drain != "" {
		t.Errorf("the stale leader wrote %+v", m)
	}
	c.eventually("it knows who leads", func() bool { return a.Metrics().Term == put.Header.Revision })
	if status := n.exchange(a); status != http.StatusMisdirectedRequest {
		t.Errorf("the stale leader answers with %d", status)
	}
}

// etcd is gone for a while: the only control plane stops answering with its
// lease, and takes the office up again when etcd is back.
func TestLossOfEtcd(t *testing.T) {
	c := newCluster(t, budgetPolicy)
	a := c.lead("c1")
	n := c.join("n1").joined(a)
	a.wire.hold(true)
	a.wire.cut()
	c.eventually("it stops answering", func() bool { return n.exchange(a) == http.StatusServiceUnavailable })
	if _, err := a.Sources(t.Context()); !errors.Is(err, state.ErrNoLeader) {
		t.Errorf("sources: %v", err)
	}
	a.wire.hold(false)
	n.joined(a)
	if m := a.Metrics(); m.Elections != 2 || m.EtcdErrors == 0 {
		t.Errorf("%+v", m)
	}
}

// The connection to etcd breaks, and what happened meanwhile has been compacted
// away when it is back: everything is read again, in the same term.
func TestCompactionWhileTheWatchIsAway(t *testing.T) {
	c := newCluster(t, sourcesPolicy(1))
	a := c.lead("c1", func(o *controlplane.Options) {
		o.Timing.LeaderTTL, o.Timing.Quarantine = 60*time.Second, time.Millisecond
	})
	n := c.join("n1").joined(a)
	c.eventually("on n1", func() bool { return c.holders(a)["n1"] == 1 })
	a.wire.hold(true)
	a.wire.cut()
	n.crash()
	if _, err := c.client.Revoke(t.Context(), n.lease); err != nil {
		t.Fatal(err)
	}
	c.join("n2")
	put, err := c.client.Put(t.Context(), c.keys.Day("carrier/docomo/"), `{"slots":[]}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Compact(t.Context(), put.Header.Revision); err != nil {
		t.Fatal(err)
	}
	a.wire.hold(false)
	c.eventually("on n2", func() bool { return c.holders(a)["n2"] == 1 })
	if m := a.Metrics(); m.Elections != 1 || m.Members != 2 || m.Live != 1 {
		t.Errorf("%+v", m)
	}
}

// etcd takes the leader's lease away.
func TestLeaderWhoseLeaseIsGoneStandsAgain(t *testing.T) {
	c := newCluster(t, "")
	a := c.lead("c1")
	before, _ := a.Leader(t.Context())
	got, err := c.client.Get(t.Context(), c.keys.Leader())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Revoke(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	c.eventually("it leads again, in another term", func() bool {
		l, err := a.Leader(t.Context())
		return err == nil && l.Term > before.Term
	})
	if n := a.Metrics().Elections; n != 2 {
		t.Errorf("%d elections", n)
	}
}
