package controlplane_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
)

// sourcesPolicy has n movable sources m1…, one that is pinned to n1, and a pool of all.
func sourcesPolicy(n int) string {
	var b strings.Builder
	members := []string{"{name: pin}"}
	for i := range n {
		fmt.Fprintf(&b, "---\nkind: Source\nname: m%d\nspec: {address: 192.0.2.%d}\n", i+1, i+1)
		members = append(members, fmt.Sprintf("{name: m%d}", i+1))
	}
	fmt.Fprintf(&b, "---\nkind: Source\nname: pin\nspec: {address: 198.51.100.1, node: n1}\n")
	fmt.Fprintf(&b, "---\nkind: Pool\nname: bulk\nspec: {sources: [%s]}\n", strings.Join(members, ", "))
	return b.String()
}

// holders counts held sources by node.
func (c *cluster) holders(p *process) map[string]int {
	c.t.Helper()
	count := map[string]int{}
	list, err := p.Sources(c.t.Context())
	if err != nil {
		return count
	}
	for _, s := range list {
		if s.Mode == state.Movable && s.State == keyspace.Held {
			count[s.Node]++
		}
	}
	return count
}

func TestSourcesAreSpread(t *testing.T) {
	c := newCluster(t, sourcesPolicy(6))
	for _, n := range []string{"n1", "n2", "n3"} {
		c.join(n)
	}
	p := c.lead("c1")
	c.eventually("two sources on each node", func() bool {
		h := c.holders(p)
		return h["n1"] == 2 && h["n2"] == 2 && h["n3"] == 2
	})
	if _, mod := get[keyspace.Assignment](c, c.keys.Source("pin")); mod != 0 {
		t.Error("the pinned source was assigned")
	}
	list, err := p.Sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		switch {
		case s.Name == "pin":
			if s.Mode != state.Pinned || s.Node != "n1" || s.State != "" {
				t.Errorf("%+v", s)
			}
		case s.Name == "default":
			if s.Mode != state.Local || s.Node != "" {
				t.Errorf("%+v", s)
			}
		case s.Epoch != 1 || s.Lease == 0 || s.Reason == "" || s.Since.IsZero() || len(s.Pools) != 1 || s.Address == "":
			t.Errorf("%+v", s)
		}
	}
	m := p.Metrics()
	if m.Sources[keyspace.Held] != 6 || m.Written < 9 || m.Transactions == 0 || m.Decisions == 0 || m.DecisionTime == 0 {
		t.Errorf("%+v", m)
	}
	leases, err := p.Leases(t.Context())
	if err != nil || len(leases) != 4 || leases[0].Holder != "leader" || leases[1].Sources != 2 || leases[0].TTL != 1 || leases[1].TTL != 1 {
		t.Errorf("leases %+v, %v", leases, err)
	}
}

func TestDeadNodesSourcesMoveAfterQuarantine(t *testing.T) {
	c := newCluster(t, sourcesPolicy(2))
	a := c.join("n1")
	p := c.lead("c1")
	c.eventually("all on n1", func() bool { return c.holders(p)["n1"] == 2 })
	c.join("n2").joined(p)
	crashed := time.Now()
	a.crash()
	var gone time.Time
	c.eventually("etcd removes the registration", func() bool {
		_, mod := get[keyspace.Registration](c, c.keys.Node("n1"))
		gone = time.Now()
		return mod == 0
	})
	c.eventually("quarantine", func() bool {
		s := c.assignment("m1").State
		return s == keyspace.Quarantined || s == keyspace.Held && c.assignment("m1").Node == "n2"
	})
	c.eventually("all on n2", func() bool { return c.holders(p)["n2"] == 2 })
	moved := time.Now()
	if rest := moved.Sub(gone); rest < fast.Quarantine-50*time.Millisecond {
		t.Errorf("moved %s after the registration was gone, with a quarantine of %s", rest, fast.Quarantine)
	}
	t.Logf("moved %s after the crash", moved.Sub(crashed).Round(time.Millisecond))
	if e := c.assignment("m1"); e.Epoch != 2 || e.Address != "192.0.2.1" {
		t.Errorf("%+v", e)
	}
}

// The process is killed and started again before its lease has run out: the same
// data directory proves that it is dead, and nobody waits.
func TestNextIncarnationKeepsItsSources(t *testing.T) {
	c := newCluster(t, sourcesPolicy(2))
	a := c.join("n1")
	p := c.lead("c1", func(o *controlplane.Options) { o.Timing.Quarantine = time.Hour })
	c.eventually("all on n1", func() bool { return c.holders(p)["n1"] == 2 })
	a.crash()
	b := c.join("n1", func(r *keyspace.Registration) { r.Replaces = int64(a.lease) })
	c.eventually("all on the new incarnation", func() bool {
		x := c.assignment("m1")
		return x.State == keyspace.Held && x.Lease == int64(b.lease) && x.Epoch == 2
	})
	if status := a.exchange(p); status != http.StatusConflict {
		t.Errorf("the old incarnation is answered with %d", status)
	}
	b.joined(p)
}

func TestNodeOfAnotherIdentityIsKeptOut(t *testing.T) {
	c := newCluster(t, sourcesPolicy(1))
	a := c.join("n1")
	p := c.lead("c1")
	c.eventually("on n1", func() bool { return c.holders(p)["n1"] == 1 })
	a.crash()
	c.eventually("etcd removes the registration", func() bool {
		_, mod := get[keyspace.Registration](c, c.keys.Node("n1"))
		return mod == 0
	})
	b := c.join("n1", func(r *keyspace.Registration) { r.NodeID = "another" })
	if status := b.exchange(p); status != http.StatusConflict {
		t.Errorf("answered with %d", status)
	}
	c.eventually("an alarm says so", func() bool {
		nodes, err := p.Nodes(t.Context())
		return err == nil && len(nodes) == 1 && !nodes[0].Live && len(nodes[0].Alarms) == 1 && strings.Contains(nodes[0].Alarms[0], "another")
	})
	order := state.Order{Node: "n1", Author: "test", Reason: "its disk is broken"}
	c.eventually("it can be removed", func() bool {
		err := p.Remove(t.Context(), order)
		if err != nil && !errors.Is(err, state.ErrRefused) {
			t.Fatal(err)
		}
		return err == nil
	})
	b.joined(p)
	c.eventually("the new one gets the source", func() bool {
		x := c.assignment("m1")
		return x.State == keyspace.Held && x.Lease == int64(b.lease)
	})
}

func TestDrain(t *testing.T) {
	c := newCluster(t, sourcesPolicy(4))
	a, b := c.join("n1"), c.join("n2")
	p := c.lead("c1")
	other := c.start("c2")
	c.eventually("two each", func() bool { h := c.holders(p); return h["n1"] == 2 && h["n2"] == 2 })
	a.joined(p)
	b.joined(p)
	mail := int64(1)
	a.fill = func(r *exchange.Report) { r.Queued = mail }
	order := state.Order{Node: "n1", Author: "admin", Reason: "new kernel"}
	c.eventually("the other process passes the order on", func() bool { return other.Drain(t.Context(), order) == nil })
	if err := p.Drain(t.Context(), order); err != nil {
		t.Errorf("ordered twice: %v", err)
	}
	c.eventually("the node is asked to let go", func() bool {
		h := c.holders(p)
		return h["n1"] == 0 && h["n2"] == 2
	})
	node := func() state.Node {
		list, err := p.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	if n := node(); n.Drain != keyspace.Draining || n.SourcesLeft != 2 || n.DrainAt.IsZero() {
		t.Errorf("%+v", n)
	}
	// It says it has let go with its next report, and has mail left for a while.
	c.eventually("all on n2", func() bool {
		a.exchange(p)
		return c.holders(p)["n2"] == 4
	})
	if !a.answer.Drain {
		t.Error("the node was not told")
	}
	a.exchange(p)
	decisions := p.Metrics().Decisions
	c.eventually("more decisions", func() bool { return p.Metrics().Decisions > decisions+3 })
	if n := node(); n.Drain != keyspace.Draining || n.Queued != 1 || n.SourcesLeft != 0 {
		t.Errorf("with mail left: %+v", n)
	}
	mail = 0
	c.eventually("drained", func() bool {
		a.exchange(p)
		return node().Drain == keyspace.Drained
	})
	if err := other.Undrain(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	if n := node(); n.Drain != "" || !n.DrainAt.IsZero() {
		t.Errorf("%+v", n)
	}
	if err := other.Drain(t.Context(), state.Order{Node: "none", Author: "admin"}); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("an unknown node: %v", err)
	}
}

func TestMoveByHand(t *testing.T) {
	c := newCluster(t, sourcesPolicy(2))
	a := c.join("n1")
	p := c.lead("c1")
	c.eventually("all on n1", func() bool { return c.holders(p)["n1"] == 2 })
	a.joined(p)
	b := c.join("n2").joined(p)
	c.join("n3").joined(p)
	for _, m := range []state.Move{{Source: "m1", Node: "n2", Author: "admin", Reason: "routing"}, {Source: "m1", Node: "n2", Author: "admin"}} {
		if err := p.Move(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if s := c.assignment("m1"); s.State != keyspace.Releasing || s.To != "n2" {
		t.Errorf("%+v", s)
	}
	c.eventually("on n2", func() bool {
		a.exchange(p)
		s := c.assignment("m1")
		return s.State == keyspace.Held && s.Node == "n2" && s.Lease == int64(b.lease) && s.Epoch == 2 && s.To == ""
	})
	for _, tt := range []struct {
		m    state.Move
		want error
	}{
		{state.Move{Source: "none", Node: "n2"}, state.ErrNotFound},
		{state.Move{Source: "pin", Node: "n2"}, state.ErrRefused},
		{state.Move{Source: "m2", Node: "none"}, state.ErrRefused},
		{state.Move{Source: "m1", Node: "n2"}, nil},
	} {
		if err := p.Move(t.Context(), tt.m); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt.m, err)
		}
	}
	if s := c.assignment("m1"); s.Epoch != 2 {
		t.Errorf("a move to its holder changed %+v", s)
	}
}

// Policy gives the address of one source to another while the first is held: two
// names, one address, and still one node.
func TestAddressIsNotGivenTwice(t *testing.T) {
	c := newCluster(t, "---\nkind: Source\nname: s1\nspec: {address: 192.0.2.1}\n")
	a := c.join("n1")
	p := c.lead("c1")
	c.eventually("on n1", func() bool { return c.holders(p)["n1"] == 1 })
	a.joined(p)
	a.refused["s1"] = true
	c.join("n2").joined(p)
	c.apply("---\nkind: Source\nname: s1\nspec: {address: 192.0.2.1, disabled: true}\n---\nkind: Source\nname: s2\nspec: {address: 192.0.2.1}\n")
	c.eventually("the first is asked for", func() bool { return c.assignment("s1").State == keyspace.Releasing })
	decisions := p.Metrics().Decisions
	c.eventually("more decisions", func() bool { a.exchange(p); return p.Metrics().Decisions > decisions+3 })
	if s := c.assignment("s2"); s.State == keyspace.Held {
		t.Fatalf("the address is with n1 and was given to %s", s.Node)
	}
	delete(a.refused, "s1")
	c.eventually("the second is given", func() bool { a.exchange(p); return c.assignment("s2").State == keyspace.Held })
	if s := c.assignment("s1"); s.State != keyspace.Free {
		t.Errorf("%+v", s)
	}
}

// A source's address is changed while it is held: it is taken back under the old
// one before it is given with the new one.
func TestAddressChangesHandsLikeASource(t *testing.T) {
	c := newCluster(t, "---\nkind: Source\nname: s1\nspec: {address: 192.0.2.1}\n")
	a := c.join("n1")
	p := c.lead("c1")
	c.eventually("on n1", func() bool { return c.holders(p)["n1"] == 1 })
	a.joined(p)
	c.apply("---\nkind: Source\nname: s1\nspec: {address: 192.0.2.9}\n")
	c.eventually("asked for", func() bool {
		s := c.assignment("s1")
		return s.State == keyspace.Releasing && s.Address == "192.0.2.1" && s.Reason == "its address has changed"
	})
	c.eventually("given anew", func() bool {
		a.exchange(p)
		s := c.assignment("s1")
		return s.State == keyspace.Held && s.Address == "192.0.2.9" && s.Epoch == 2
	})
}

func TestFaultySourceIsTriedElsewhere(t *testing.T) {
	c := newCluster(t, sourcesPolicy(1))
	a := c.join("n1")
	a.faults["m1"] = "192.0.2.1 is not on this machine"
	p := c.lead("c1")
	c.eventually("on n1", func() bool { return c.holders(p)["n1"] == 1 })
	a.joined(p)
	c.eventually("the fault is shown", func() bool {
		list, err := p.Sources(t.Context())
		return err == nil && list[1].Name == "m1" && list[1].Fault == a.faults["m1"]
	})
	c.join("n2").joined(p)
	c.eventually("on n2", func() bool { a.exchange(p); return c.holders(p)["n2"] == 1 })
}

// A record that cannot be read is left alone, and said.
func TestUnreadableRecordIsLeftAlone(t *testing.T) {
	c := newCluster(t, sourcesPolicy(2))
	if _, err := c.client.Put(t.Context(), c.keys.Source("m1"), "garbage"); err != nil {
		t.Fatal(err)
	}
	c.join("n1")
	p := c.lead("c1")
	c.eventually("the other one is given", func() bool { return c.holders(p)["n1"] == 1 })
	got, err := c.client.Get(t.Context(), c.keys.Source("m1"))
	if err != nil || string(got.Kvs[0].Value) != "garbage" {
		t.Errorf("%v, %v", got, err)
	}
	if n := p.Metrics().Unreadable; n != 1 {
		t.Errorf("%d unreadable records counted", n)
	}
	if l, err := p.Leader(t.Context()); err != nil || len(l.Alarms) != 1 || !strings.Contains(l.Alarms[0], c.keys.Source("m1")) {
		t.Errorf("alarms %q, %v", l.Alarms, err)
	}
}

// A node that lives keeps what it holds, though this control plane cannot make
// sense of it: its lease is not gone.
func TestNodeThatIsNotUnderstoodKeepsItsSources(t *testing.T) {
	for name, tt := range map[string]struct {
		record string // of the registration; %d is the lease
		want   string
	}{
		"a newer version": {`{"name":"n1","node_id":"id-n1","lease":%d,"protocol":[98,99]}`, keyspace.Releasing},
		"garbage":         {`garbage %d`, keyspace.Held},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, sourcesPolicy(1))
			a := c.join("n1")
			p := c.lead("c1")
			c.eventually("on n1", func() bool { return c.holders(p)["n1"] == 1 })
			c.join("n2").joined(p)
			if _, err := c.client.Put(t.Context(), c.keys.Node("n1"), fmt.Sprintf(tt.record, a.lease), clientv3.WithLease(a.lease)); err != nil {
				t.Fatal(err)
			}
			// Longer than a quarantine, and many decisions.
			until := time.Now().Add(2 * fast.Quarantine)
			decisions := p.Metrics().Decisions
			c.eventually("time has passed", func() bool { return time.Now().After(until) && p.Metrics().Decisions > decisions+5 })
			if s := c.assignment("m1"); s.State != tt.want || s.Node != "n1" || s.Epoch != 1 {
				t.Errorf("%+v", s)
			}
			if err := p.Remove(t.Context(), state.Order{Node: "n1", Author: "test"}); !errors.Is(err, state.ErrRefused) {
				t.Errorf("removed while it lives: %v", err)
			}
			a.crash()
			c.eventually("on n2", func() bool { return c.holders(p)["n2"] == 1 })
		})
	}
}
