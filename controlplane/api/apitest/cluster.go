package apitest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"hikyaku/controlplane/state"
)

// Epoch is the time in the cluster.
var Epoch = time.Date(2026, 11, 22, 10, 15, 0, 0, time.UTC)

// Cluster implements state.Cluster: three nodes, of which osaka-1 is down.
type Cluster struct {
	mu struct {
		sync.Mutex
		nodes    []state.Node
		sources  []state.Source
		err      error
		revision map[string]int64 // of policy, by node; without an entry the newest
		newest   func() int64
		asked    []string
		keys     []state.GossipKey

		decisions []state.Decision
		lanes     []state.Lane
	}
}

var _ state.GossipKeys = (*Cluster)(nil)

// New returns the cluster with its stock; newest is the newest policy revision.
func New(newest func() int64) *Cluster {
	c := &Cluster{}
	age := 0.4
	node := func(name string, rank int, live bool) state.Node {
		n := state.Node{Name: name, NodeID: name + "-id", Live: live, Joined: Epoch.Add(-24 * time.Hour), Version: "v1", Rank: rank, Floor: 3.3, FloorConfirmed: 3.3, Labels: map[string]string{"site": "tokyo"}}
		if live {
			n.Started, n.Lease, n.ExchangeAge, n.Queued, n.PerSecond, n.Sources = Epoch.Add(-time.Hour), int64(0x10+rank), &age, 120020, 1000, 1
		} else {
			n.Alarms = []string{"down for 3m"}
		}
		return n
	}
	c.mu.nodes = []state.Node{node("osaka-1", 2, false), node("tokyo-1", 0, true), node("tokyo-2", 1, true)}
	c.mu.sources = []state.Source{
		{Name: "a1", Address: "198.51.100.1", Pools: []string{"p1"}, Mode: state.Movable, State: "held", Node: "tokyo-1", Lease: 0x10, Epoch: 3, Since: Epoch.Add(-time.Minute), Reason: "spread"},
		{Name: "a2", Address: "198.51.100.2", Pools: []string{"p1", "p2"}, Mode: state.Movable, State: "quarantined", Node: "osaka-1", Epoch: 7, Since: Epoch.Add(-time.Second), Reason: "its node is down"},
		{Name: "default", Mode: state.Local},
	}
	c.mu.keys = []state.GossipKey{{ID: "0a1b2c3d", InUse: true, Added: Epoch.Add(-48 * time.Hour), Author: "ann"}}
	c.mu.decisions, c.mu.lanes = decisions(), lanes()
	c.mu.newest, c.mu.revision = newest, map[string]int64{}
	return c
}

// Peer sets where a node is reached.
func (c *Cluster) Peer(node, address string) {
	c.change(node, func(n *state.Node) { n.Peer = address })
}

// Live says whether a node lives.
func (c *Cluster) Live(node string, live bool) {
	c.change(node, func(n *state.Node) { n.Live = live })
}

// Fail makes every question fail; nil ends that.
func (c *Cluster) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.err = err
}

// Revision sets the policy revision of a node; 0 is the newest again.
func (c *Cluster) Revision(node string, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.mu.revision, node); revision != 0 {
		c.mu.revision[node] = revision
	}
}

// Asked are the orders that were given.
func (c *Cluster) Asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.asked)
}

func (c *Cluster) change(node string, fn func(*state.Node)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.mu.nodes {
		if c.mu.nodes[i].Name == node {
			fn(&c.mu.nodes[i])
		}
	}
}

// Nodes implements state.Cluster, as the rest does.
func (c *Cluster) Nodes(context.Context) ([]state.Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.nodes), c.mu.err
}

// Sources lists sources.
func (c *Cluster) Sources(context.Context) ([]state.Source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.sources), c.mu.err
}

// Grants lists grants.
func (c *Cluster) Grants(context.Context) ([]state.Grant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on := func(node string, share float64) state.Grant {
		return state.Grant{Scope: state.Scope{Kind: "carrier", Carrier: "docomo"}, Node: node, Limit: "100/s", Share: share, Rate: fmt.Sprintf("%.0f/s", share), Burst: 5, Connections: 10, Open: 4, Demand: 1200, Used: share, Outstanding: share, ExpiresIn: 4.2}
	}
	return []state.Grant{on("tokyo-1", 60), on("tokyo-2", 36.7)}, c.mu.err
}

// Leases lists leases.
func (c *Cluster) Leases(context.Context) ([]state.Lease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []state.Lease{{ID: 1, Holder: "leader", Name: "tokyo-1", TTL: 5, Left: 4}, {ID: 0x10, Holder: "node", Name: "tokyo-1", TTL: 10, Left: 9, Sources: 1}}, c.mu.err
}

// Leader shows the leader.
func (c *Cluster) Leader(context.Context) (state.Leader, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return state.Leader{Name: "tokyo-1", Address: "127.0.0.1:7000", Since: Epoch, Version: "v1", Term: 42, Revision: c.mu.newest(), Members: 3, Live: 2, Scopes: 12, Exchanges: 2, LastDecision: 0.001, EtcdWrites: 5}, c.mu.err
}

// Applied says which nodes have a revision.
func (c *Cluster) Applied(_ context.Context, revision int64) (state.Applied, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := state.Applied{Revision: revision}
	for _, n := range c.mu.nodes {
		x := state.AppliedNode{Node: n.Name, Live: n.Live}
		if n.Live {
			x.Revision = c.mu.newest()
			if behind, ok := c.mu.revision[n.Name]; ok {
				x.Revision = behind
			}
			a.Live++
		}
		if x.Applied = n.Live && x.Revision >= revision; x.Applied {
			a.Applied++
		}
		a.Nodes = append(a.Nodes, x)
	}
	return a, c.mu.err
}

// ordered notes an order about a node that must exist.
func (c *Cluster) ordered(verb string, o state.Order, fn func(*state.Node) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil {
		return c.mu.err
	}
	for i := range c.mu.nodes {
		if c.mu.nodes[i].Name == o.Node {
			if err := fn(&c.mu.nodes[i]); err != nil {
				return err
			}
			c.mu.asked = append(c.mu.asked, fmt.Sprintf("%s %s by %s: %s", verb, o.Node, o.Author, o.Reason))
			return nil
		}
	}
	return fmt.Errorf("node %q: %w", o.Node, state.ErrNotFound)
}

// Drain drains at once.
func (c *Cluster) Drain(_ context.Context, o state.Order) error {
	return c.ordered("drain", o, func(n *state.Node) error {
		n.Drain, n.DrainAt, n.Queued, n.Sources = "drained", Epoch, 0, 0
		return nil
	})
}

// Undrain takes it back.
func (c *Cluster) Undrain(_ context.Context, o state.Order) error {
	return c.ordered("undrain", o, func(n *state.Node) error {
		n.Drain, n.DrainAt = "", time.Time{}
		return nil
	})
}

// Remove removes a node that is down.
func (c *Cluster) Remove(_ context.Context, o state.Order) error {
	err := c.ordered("remove", o, func(n *state.Node) error {
		if n.Live {
			return state.Refuse("node %s is live; stop it first, or drain it", n.Name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.nodes = slices.DeleteFunc(c.mu.nodes, func(n state.Node) bool { return n.Name == o.Node })
	return nil
}

// Move moves at once.
func (c *Cluster) Move(_ context.Context, m state.Move) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil {
		return c.mu.err
	}
	for i := range c.mu.sources {
		s := &c.mu.sources[i]
		if s.Name != m.Source {
			continue
		}
		if s.Mode != state.Movable || !slices.ContainsFunc(c.mu.nodes, func(n state.Node) bool { return n.Name == m.Node && n.Live }) {
			return state.Refuse("%s cannot go to %s", m.Source, m.Node)
		}
		s.Node, s.State, s.Epoch = m.Node, "held", s.Epoch+1
		c.mu.asked = append(c.mu.asked, fmt.Sprintf("move %s to %s by %s: %s", m.Source, m.Node, m.Author, m.Reason))
		return nil
	}
	return fmt.Errorf("source %q: %w", m.Source, state.ErrNotFound)
}
