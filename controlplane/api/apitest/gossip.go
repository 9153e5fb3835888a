package apitest

import (
	"context"
	"fmt"
	"slices"

	"hikyaku/controlplane/state"
)

// GossipKeys is of state.GossipKeys.
func (c *Cluster) GossipKeys(context.Context) ([]state.GossipKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.keys), c.mu.err
}

// AddGossipKey is of state.GossipKeys.
func (c *Cluster) AddGossipKey(_ context.Context, author string) (state.GossipKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.err != nil:
		return state.GossipKey{}, c.mu.err
	case len(c.mu.keys) > 1:
		return state.GossipKey{}, state.Refuse("the change before is not at its end")
	}
	k := state.GossipKey{ID: "4e5f6a7b", Added: Epoch, Author: author}
	c.mu.keys = append(c.mu.keys, k)
	return k, nil
}

// UseGossipKey is of state.GossipKeys.
func (c *Cluster) UseGossipKey(_ context.Context, id, _ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil {
		return c.mu.err
	}
	if !slices.ContainsFunc(c.mu.keys, func(k state.GossipKey) bool { return k.ID == id }) {
		return fmt.Errorf("gossip key %s: %w", id, state.ErrNotFound)
	}
	for i := range c.mu.keys {
		c.mu.keys[i].InUse = c.mu.keys[i].ID == id
	}
	return nil
}

// RemoveGossipKey is of state.GossipKeys.
func (c *Cluster) RemoveGossipKey(_ context.Context, id, _ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.mu.keys, func(k state.GossipKey) bool { return k.ID == id })
	switch {
	case c.mu.err != nil:
		return c.mu.err
	case i < 0:
		return fmt.Errorf("gossip key %s: %w", id, state.ErrNotFound)
	case c.mu.keys[i].InUse:
		return state.Refuse("gossip key %s is in use", id)
	}
	c.mu.keys = slices.Delete(c.mu.keys, i, i+1)
	return nil
}
