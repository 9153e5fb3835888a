package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
)

// Drain is of state.Cluster.
func (c *Control) Drain(ctx context.Context, order state.Order) error {
	return c.order(ctx, "drain", order, func(o *office) error { return o.drain(ctx, order, keyspace.Draining) })
}

// Undrain is of state.Cluster.
func (c *Control) Undrain(ctx context.Context, order state.Order) error {
	return c.order(ctx, "undrain", order, func(o *office) error { return o.drain(ctx, order, keyspace.DrainNone) })
}

// Remove is of state.Cluster.
func (c *Control) Remove(ctx context.Context, order state.Order) error {
	return c.order(ctx, "remove", order, func(o *office) error { return o.remove(ctx, order) })
}

// Move is of state.Cluster.
func (c *Control) Move(ctx context.Context, m state.Move) error {
	return c.order(ctx, "move", m, func(o *office) error { return o.move(ctx, m) })
}

// order carries an order out here, or has the leader do it.
func (c *Control) order(ctx context.Context, path string, order any, here func(*office) error) error {
	o := c.lead()
	if o == nil {
		_, err := askLeader[struct{}](ctx, c, path, order)
		return err
	}
	o.orders.Lock()
	defer o.orders.Unlock()
	return here(o)
}

// orderTries is how often an order is tried when a decision is faster.
const orderTries = 5

// amend changes one record by hand: make says how, from the tables as they are
// (the lock is held), and nothing if there is nothing to change.
func (o *office) amend(ctx context.Context, make func() (*write, error)) error {
	for try := 1; ; try++ {
		if err := o.ready(); err != nil {
			return err
		}
		w, err := make()
		o.mu.Unlock()
		if w == nil || err != nil {
			return err
		}
		err = o.commitAll(ctx, []write{*w})
		switch {
		case errors.Is(err, errDeposed):
			return fmt.Errorf("%w: it has just been lost", state.ErrNoLeader)
		case errors.Is(err, errConflict) && try < orderTries:
			pause(ctx, 10*time.Millisecond) // of a removal the watch brings word by itself
			continue
		}
		return err
	}
}

func said(author, reason string) string {
	if reason == "" {
		return "ordered by " + author
	}
	return "ordered by " + author + ": " + reason
}

func (o *office) drain(ctx context.Context, order state.Order, to string) error {
	return o.amend(ctx, func() (*write, error) {
		r, ok := o.mu.tables.members[order.Node]
		if !ok {
			return nil, fmt.Errorf("node %s: %w", order.Node, state.ErrNotFound)
		}
		m := r.value
		if m.Drain == to || to == keyspace.Draining && m.Drain == keyspace.Drained {
			return nil, nil
		}
		why := "back to work, "
		m.Drain, m.DrainAt = to, time.Time{}
		if to == keyspace.Draining {
			m.DrainAt, why = o.c.opt.Now().UTC(), "drain, "
		}
		w := putRecord(o.c.opt.Keys.Member(order.Node), r.mod, m)
		w.node, w.why = order.Node, why+said(order.Author, order.Reason)
		return &w, nil
	})
}

func (o *office) remove(ctx context.Context, order state.Order) error {
	return o.amend(ctx, func() (*write, error) {
		t := o.mu.tables
		r, ok := t.members[order.Node]
		if !ok {
			return nil, fmt.Errorf("node %s: %w", order.Node, state.ErrNotFound)
		}
		if _, live := t.registered(order.Node); live || !t.readable(o.c.opt.Keys.Node(order.Node)) {
			return nil, state.Refuse("node %s is live: drain it and stop it first", order.Node)
		}
		if n := t.holds()[order.Node]; n > 0 {
			return nil, state.Refuse("%d sources of node %s are not free yet: wait out the quarantine", n, order.Node)
		}
		// What this leader or the one before has granted it must have run out.
		last := o.began
		if n := o.mu.nodes[order.Node]; n != nil && n.at.After(last) {
			last = n.at
		}
		if left := exchange.GrantTTL - time.Since(last); left > 0 {
			return nil, state.Refuse("grants of node %s may hold for another %s", order.Node, left.Round(100*time.Millisecond))
		}
		w := write{key: o.c.opt.Keys.Member(order.Node), mod: r.mod, node: order.Node, why: "removed, " + said(order.Author, order.Reason)}
		return &w, nil
	})
}

// mayTakeLocked says why a node may not be given a movable source; otherwise it
// is the node's registration.
func (o *office) mayTakeLocked(set *policy.Set, source, node string) (*keyspace.Registration, error) {
	s := set.Sources[source]
	r, live := o.mu.tables.live(node)
	switch {
	case s == nil:
		return nil, fmt.Errorf("source %s: %w", source, state.ErrNotFound)
	case !s.Movable() || s.Disabled:
		return nil, state.Refuse("source %s is not one that can be moved", source)
	case !live:
		return nil, state.Refuse("node %s is not live", node)
	case o.mu.tables.members[node].value.Drain != keyspace.DrainNone:
		return nil, state.Refuse("node %s drains", node)
	case !s.MayBeOn(node, r.Labels):
		return nil, state.Refuse("node %s does not have the labels that source %s asks for", node, source)
	}
	return r, nil
}

// move has the holder let go; the next decision gives the source to the node
// that the record names. One that is about to be released or in quarantine only
// gets another goal.
func (o *office) move(ctx context.Context, m state.Move) error {
	return o.amend(ctx, func() (*write, error) {
		if _, err := o.mayTakeLocked(o.mu.policy, m.Source, m.Node); err != nil {
			return nil, err
		}
		r, ok := o.mu.tables.sources[m.Source]
		if !ok {
			return nil, state.Refuse("source %s has not been given to any node yet", m.Source)
		}
		a := r.value
		switch {
		case a.State == keyspace.Held && a.Node == m.Node:
			return nil, nil
		case a.State == keyspace.Held:
			a.State, a.Since = keyspace.Releasing, o.c.opt.Now().UTC()
		}
		a.To, a.Reason = m.Node, "to node "+m.Node+", "+said(m.Author, m.Reason)
		w := putRecord(o.c.opt.Keys.Source(m.Source), r.mod, a)
		w.source, w.node, w.why = m.Source, m.Node, "move "+a.Reason
		return &w, nil
	})
}
