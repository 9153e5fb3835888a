package controlplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
)

// quietNode is for how long a live node may make no exchange before that is an
// alarm.
const quietNode = 5 * time.Second

// lowSpool is the free part of a spool's disk below which that is an alarm.
const lowSpool = 0.1

// Sources is of state.Cluster.
func (c *Control) Sources(ctx context.Context) ([]state.Source, error) {
	if o := c.lead(); o != nil {
		return o.sources()
	}
	return askLeader[[]state.Source](ctx, c, "sources", nil)
}

// Grants is of state.Cluster.
func (c *Control) Grants(ctx context.Context) ([]state.Grant, error) {
	if o := c.lead(); o != nil {
		return o.grants()
	}
	return askLeader[[]state.Grant](ctx, c, "grants", nil)
}

// Leases is of state.Cluster.
func (c *Control) Leases(ctx context.Context) ([]state.Lease, error) {
	if o := c.lead(); o != nil {
		return o.leases(ctx)
	}
	return askLeader[[]state.Lease](ctx, c, "leases", nil)
}

// Leader is of state.Cluster.
func (c *Control) Leader(ctx context.Context) (state.Leader, error) {
	if o := c.lead(); o != nil {
		return o.self()
	}
	return askLeader[state.Leader](ctx, c, "leader", nil)
}

// Applied is of state.Cluster.
func (c *Control) Applied(ctx context.Context, revision int64) (state.Applied, error) {
	if o := c.lead(); o != nil {
		return o.applied(revision)
	}
	return askLeader[state.Applied](ctx, c, "applied", &revision)
}

// ready locks the office if it has read everything; unlock it after use.
func (o *office) ready() error {
	o.mu.Lock()
	if o.mu.tables == nil || o.mu.policy == nil || o.mu.over {
		o.mu.Unlock()
		return fmt.Errorf("%w: it has only just been elected", state.ErrNoLeader)
	}
	return nil
}

func percent(share int64) float64 { return float64(share) * 100 / exchange.FullShare }

// newsWithin is how long a list of nodes waits for the watch to catch up.
const newsWithin = 500 * time.Millisecond

// nodes lists members, and who has registered and is about to be one: an order
// about mail must not miss a node that takes mail already. So the list is as new
// as etcd, if etcd says in time how new that is.
func (o *office) nodes(ctx context.Context) ([]state.Node, error) {
	ask, cancel := context.WithTimeout(ctx, newsWithin)
	if last, err := o.c.opt.Client.Get(ask, o.c.opt.Keys.Node(""), clientv3.WithLastRev()...); err == nil && len(last.Kvs) > 0 {
		_ = o.reach(ask, last.Kvs[0].ModRevision) // else what is known has to do
	}
	cancel()
	if err := o.ready(); err != nil {
		return nil, err
	}
	defer o.mu.Unlock()
	names := map[string]bool{}
	for name := range o.mu.tables.members {
		names[name] = true
	}
	for name := range o.mu.tables.nodes {
		names[name] = true
	}
	out := make([]state.Node, 0, len(names))
	now, holds := time.Now(), o.mu.tables.holds()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		v := o.nodeLocked(name, now)
		v.SourcesLeft = holds[name]
		out = append(out, v)
	}
	return out, nil
}

func (o *office) nodeLocked(name string, now time.Time) state.Node {
	m := o.mu.tables.members[name].value
	v := state.Node{
		Name: name, NodeID: m.NodeID, Joined: m.Joined, Drain: m.Drain, DrainAt: m.DrainAt,
		Rank: m.Rank, Floor: percent(m.Floor),
		Alarms: slices.Clone(o.mu.alarms[name]),
	}
	reg, live := o.mu.tables.live(name)
	if _, member := o.mu.tables.members[name]; !member {
		r := o.mu.tables.nodes[name].value
		reg, live = &r, understood(&r)
	}
	if live {
		v.NodeID = reg.NodeID
		v.Live, v.Version, v.Started, v.Peer, v.Gossip = true, reg.Version, reg.Started, reg.Peer, reg.Gossip
		v.Labels, v.Capacity, v.Lease = reg.Labels, max(reg.Capacity, 1), reg.Lease
	}
	n := o.mu.nodes[name]
	if n == nil || n.at.IsZero() {
		if live && now.Sub(o.began) > quietNode {
			v.Alarms = append(v.Alarms, "it is registered and has made no exchange with this leader")
		}
		return v
	}
	r, age := n.report, now.Sub(n.at)
	seconds := age.Seconds()
	v.ExchangeAge, v.Revision, v.Queued, v.Stranded, v.PerSecond = &seconds, r.Revision, r.Queued, r.Stranded, r.PerSecond
	v.SpoolFreePart, v.Sources, v.Scopes, v.FloorConfirmed = r.SpoolFreePart, len(r.Sources), len(r.Demands), percent(r.Floor)
	if !live {
		return v
	}
	if age > quietNode {
		v.Alarms = append(v.Alarms, fmt.Sprintf("it is registered and has made no exchange for %s", age.Round(time.Second)))
	}
	if r.SpoolFreePart < lowSpool {
		v.Alarms = append(v.Alarms, fmt.Sprintf("its spool's disk has %.0f %% left", r.SpoolFreePart*100))
	}
	if r.Stranded > 0 && len(o.mu.tables.members) > 1 {
		v.Alarms = append(v.Alarms, fmt.Sprintf("%d deliveries wait for a source that it does not have", r.Stranded))
	}
	for _, s := range r.Sources {
		if s.Fault != "" {
			v.Alarms = append(v.Alarms, fmt.Sprintf("source %s: %s", s.Source, s.Fault))
		}
	}
	return v
}

func (o *office) sources() ([]state.Source, error) {
	if err := o.ready(); err != nil {
		return nil, err
	}
	defer o.mu.Unlock()
	set, t := o.mu.policy, o.mu.tables
	pools := poolsOf(set)
	said := o.saidLocked()
	var out []state.Source
	names := map[string]bool{}
	for name := range set.Sources {
		names[name] = true
	}
	for name, a := range t.sources {
		if a.value.State != keyspace.Free {
			names[name] = true // one that has left the policy and is not free yet
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		v := state.Source{Name: name, Pools: pools[name], Mode: state.Movable}
		if s := set.Sources[name]; s != nil {
			v.Address, v.Disabled, v.Mode = s.Address, s.Disabled, modeOf(s)
			if s.Pinned() {
				v.Node = s.Node
			}
		}
		if a, ok := t.sources[name]; ok && (v.Mode == state.Movable || a.value.State != keyspace.Free) {
			v.State, v.Node, v.Lease, v.Epoch, v.Since, v.Reason = a.value.State, a.value.Node, a.value.Lease, a.value.Epoch, a.value.Since, a.value.Reason
			if a.value.Address != "" {
				v.Address = a.value.Address
			}
		}
		for _, h := range said[name] {
			v.Backlog += h.Backlog
			if h.node == v.Node {
				v.Fault = h.Fault
			}
		}
		out = append(out, v)
	}
	return out, nil
}

func modeOf(s *policy.Source) string {
	switch {
	case s.Local():
		return state.Local
	case s.Pinned():
		return state.Pinned
	}
	return state.Movable
}

// saidOf is what a node has said of a source.
type saidOf struct {
	exchange.HeldSource
	node string
}

func (o *office) saidLocked() map[string][]saidOf {
	said := map[string][]saidOf{}
	for name := range o.mu.nodes {
		if r := o.freshLocked(name); r != nil {
			for _, h := range r.Sources {
				said[h.Source] = append(said[h.Source], saidOf{h, name})
			}
		}
	}
	return said
}

func (o *office) self() (state.Leader, error) {
	stuck := o.steering.stuck()
	if err := o.ready(); err != nil {
		return state.Leader{}, err
	}
	defer o.mu.Unlock()
	m := &o.c.metrics
	v := state.Leader{
		Name: o.leader.Name, Address: o.leader.Address, Since: o.leader.Since, Version: o.leader.Version, Term: o.term,
		Revision: o.mu.policy.Revision, Members: len(o.mu.tables.members), Scopes: o.mu.account.Scopes(),
		LastDecision: time.Duration(m.lastDecision.Load()).Seconds(), EtcdWrites: m.txns.Load() - o.txnsBefore, Conflicts: m.conflicts.Load() - o.conflictsBefore,
	}
	v.Alarms = slices.Clone(o.mu.alarms[""])
	if n := m.homeless.Load(); n > 0 {
		v.Alarms = append(v.Alarms, fmt.Sprintf("%d sources have no live node that may hold them", n))
	}
	v.Alarms = append(v.Alarms, atMost(append(o.steeringAlarmsLocked(), stuck...), maxAlarms)...)
	now := time.Now()
	for name := range o.mu.tables.members {
		if _, ok := o.mu.tables.live(name); ok {
			v.Live++
		}
		if n := o.mu.nodes[name]; n != nil && n.before > 0 && now.Sub(n.at) < quietNode {
			v.Exchanges += 1 / n.before.Seconds()
		}
	}
	return v, nil
}

func (o *office) applied(revision int64) (state.Applied, error) {
	if err := o.ready(); err != nil {
		return state.Applied{}, err
	}
	defer o.mu.Unlock()
	if revision == 0 {
		revision = o.mu.policy.Revision
	}
	v := state.Applied{Revision: revision, Nodes: []state.AppliedNode{}}
	for _, name := range slices.Sorted(maps.Keys(o.mu.tables.members)) {
		n := state.AppliedNode{Node: name}
		_, n.Live = o.mu.tables.live(name)
		if r := o.freshLocked(name); r != nil {
			n.Revision = r.Revision
		}
		n.Applied = n.Live && n.Revision >= revision
		if n.Live {
			v.Live++
		}
		if n.Applied {
			v.Applied++
		}
		v.Nodes = append(v.Nodes, n)
	}
	return v, nil
}

// leases asks etcd how long each still has.
func (o *office) leases(ctx context.Context) ([]state.Lease, error) {
	if err := o.ready(); err != nil {
		return nil, err
	}
	out := []state.Lease{{ID: int64(o.leaseID), Holder: "leader", Name: o.leader.Name}}
	held := map[int64]int{}
	for _, a := range o.mu.tables.sources {
		if a.value.State != keyspace.Free {
			held[a.value.Lease]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.mu.tables.nodes)) {
		r := o.mu.tables.nodes[name].value
		out = append(out, state.Lease{ID: r.Lease, Holder: "node", Name: name, Sources: held[r.Lease]})
	}
	o.mu.Unlock()
	for i := range out {
		r, err := o.c.opt.Client.TimeToLive(ctx, clientv3.LeaseID(out[i].ID))
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
		case err != nil:
			return nil, fmt.Errorf("ask how long lease %x has: %w", out[i].ID, err)
		default:
			out[i].TTL, out[i].Left = float64(r.GrantedTTL), float64(max(r.TTL, 0)) // -1 is one that has just ended
		}
	}
	return out, nil
}
