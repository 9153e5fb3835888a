package controlplane_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane"
	"hikyaku/controlplane/keyspace"
)

// Who looks at queues at night may do so because nobody leads.
func TestNodesAreListedWithoutALeader(t *testing.T) {
	c := newCluster(t, "")
	p := c.lead("c1")
	c.join("n1", func(r *keyspace.Registration) { r.Peer = "127.0.0.1:7" }).joined(p)
	if _, err := p.Nodes(t.Context()); err != nil { // so that there is something to remember
		t.Fatal(err)
	}
	p.stop()
	look := func(ctx context.Context, want string) {
		t.Helper()
		ns, err := p.Nodes(ctx)
		if err != nil || len(ns) != 1 || ns[0].Name != "n1" || !ns[0].Live || ns[0].Peer != "127.0.0.1:7" {
			t.Fatalf("%+v, %v", ns, err)
		}
		if a := strings.Join(ns[0].Alarms, " "); !strings.Contains(a, "no leader") || !strings.Contains(a, want) {
			t.Errorf("alarms %q, want them to say that there is no leader, and %q", a, want)
		}
	}
	look(t.Context(), "")
	gone, cancel := context.WithCancel(t.Context())
	cancel() // as when etcd does not answer in time
	look(gone, "from memory")
}

// A lone process that was killed does not wait for its own lease.
func TestSucceedEndsTheOfficeOfTheDead(t *testing.T) {
	c := newCluster(t, "")
	dead, _ := c.client.Grant(t.Context(), 600)
	other, _ := c.client.Grant(t.Context(), 600)
	for _, tt := range []struct {
		name  string
		lease int64
		gone  bool
	}{{"c1", int64(dead.ID), true}, {"somebody", int64(other.ID), false}} {
		record, err := json.Marshal(keyspace.Leader{Name: tt.name, Address: "127.0.0.1:1", Since: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.client.Put(t.Context(), c.keys.Leader(), string(record), clientv3.WithLease(clientv3.LeaseID(tt.lease))); err != nil {
			t.Fatal(err)
		}
		p, err := controlplane.New(controlplane.Options{Client: c.client, Keys: c.keys, Name: "c1", Address: "127.0.0.1:2", Store: c.store})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Succeed(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := c.client.Get(t.Context(), c.keys.Leader())
		if err != nil || (len(got.Kvs) == 0) != tt.gone {
			t.Errorf("leader %s: %v, %v", tt.name, got, err)
		}
	}
}

// An order about mail asks all nodes. One that has registered takes mail at once,
// and is a member only when the leader has decided so.
func TestNodesThatAreNotMembersYetAreListed(t *testing.T) {
	c := newCluster(t, "")
	p := c.lead("c1", func(o *controlplane.Options) { o.Timing.Decide, o.Timing.Tick = time.Hour, time.Hour })
	c.join("late", func(r *keyspace.Registration) { r.Peer = "127.0.0.1:7" })
	ns, err := p.Nodes(t.Context())
	if err != nil || len(ns) != 1 || ns[0].Name != "late" || !ns[0].Live || ns[0].Peer == "" || ns[0].NodeID == "" || !ns[0].Joined.IsZero() {
		t.Errorf("%+v, %v", ns, err)
	}
}
