package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
)

// An operator who looks at queues at night may do so because there is no leader.
// So the list of nodes, through which all of them are asked, comes from etcd then,
// and without etcd from memory: less is known of each, but none is missing.

// leaderlessWait bounds asking etcd in the leader's place.
const leaderlessWait = 2 * time.Second

// Nodes is of state.Cluster. Without a leader it says who is registered, with an
// alarm that says so.
func (c *Control) Nodes(ctx context.Context) (ns []state.Node, err error) {
	if o := c.lead(); o != nil {
		ns, err = o.nodes(ctx)
	} else {
		ns, err = askLeader[[]state.Node](ctx, c, "nodes", nil)
	}
	switch {
	case err == nil:
		c.remember(ns)
		return ns, nil
	case !errors.Is(err, state.ErrNoLeader):
		return nil, err
	}
	ns, why := c.registered(ctx)
	if why != nil {
		if ns = c.remembered(); len(ns) == 0 {
			return nil, errors.Join(err, why)
		}
		err = fmt.Errorf("%w, and etcd does not answer: this is from memory", err)
	} else {
		c.remember(ns)
	}
	for i := range ns {
		ns[i].Alarms = append(slices.Clone(ns[i].Alarms), err.Error())
	}
	return ns, nil
}

func (c *Control) remember(ns []state.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.nodes = slices.Clone(ns)
}

func (c *Control) remembered() []state.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.nodes)
}

// registered reads members and registrations from etcd.
func (c *Control) registered(ctx context.Context) ([]state.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderlessWait)
	defer cancel()
	nodes := map[string]*state.Node{}
	at := func(name string) *state.Node {
		if nodes[name] == nil {
			nodes[name] = &state.Node{Name: name}
		}
		return nodes[name]
	}
	err := each(ctx, c.opt.Client, c.opt.Keys.Member(""), func(name string, m keyspace.Member) {
		n := at(name)
		n.NodeID, n.Joined, n.Drain, n.DrainAt, n.Rank, n.Floor = m.NodeID, m.Joined, m.Drain, m.DrainAt, m.Rank, percent(m.Floor)
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, c.opt.Client, c.opt.Keys.Node(""), func(name string, r keyspace.Registration) {
		n := at(name)
		n.Live, n.NodeID, n.Version, n.Started, n.Peer, n.Gossip = true, r.NodeID, r.Version, r.Started, r.Peer, r.Gossip
		n.Labels, n.Capacity, n.Lease = r.Labels, max(r.Capacity, 1), r.Lease
	})
	if err != nil {
		return nil, err
	}
	var out []state.Node
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		out = append(out, *nodes[name])
	}
	return out, nil
}

// each decodes the records under a prefix. One that cannot be read is as good as
// none here: the leader raises an alarm about it.
func each[T any](ctx context.Context, client *clientv3.Client, prefix string, fn func(name string, v T)) error {
	got, err := client.Get(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("read %s: %w", prefix, err)
	}
	for _, kv := range got.Kvs {
		var v T
		if json.Unmarshal(kv.Value, &v) == nil {
			fn(strings.TrimPrefix(string(kv.Key), prefix), v)
		}
	}
	return nil
}

// Succeed ends the office of an earlier process of this name, which the caller
// knows to be dead: it holds the lock of that process' data. Without it a lone
// process that was killed waits for its own lease to run out. The grants of the
// dead leader are waited for all the same.
func (c *Control) Succeed(ctx context.Context) error {
	got, err := c.opt.Client.Get(ctx, c.opt.Keys.Leader())
	if err != nil {
		return fmt.Errorf("look for the leader before us: %w", err)
	}
	if len(got.Kvs) == 0 {
		return nil
	}
	kv := got.Kvs[0]
	var l keyspace.Leader
	if err := json.Unmarshal(kv.Value, &l); err != nil || l.Name != c.opt.Name || kv.Lease == 0 {
		return nil // somebody else's, and theirs to end
	}
	if _, err := c.opt.Client.Revoke(ctx, clientv3.LeaseID(kv.Lease)); err != nil {
		return fmt.Errorf("end the lease of the leader before us: %w", err)
	}
	return nil
}
