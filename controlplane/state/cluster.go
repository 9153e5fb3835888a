package state

import (
	"context"
	"errors"
	"fmt"
)

// Cluster is what the admin API asks and orders. Safe for concurrent use; each
// control plane process answers, by asking the leader where it is not the leader
// itself. Lists are sorted by name.
type Cluster interface {
	Nodes(ctx context.Context) ([]Node, error)
	Sources(ctx context.Context) ([]Source, error)
	// Grants are those of the nodes that have made an exchange with this leader.
	Grants(ctx context.Context) ([]Grant, error)
	Leases(ctx context.Context) ([]Lease, error)
	Leader(ctx context.Context) (Leader, error)
	// Applied says which nodes have a revision of policy; 0 asks for the newest
	// that the leader knows.
	Applied(ctx context.Context, revision int64) (Applied, error)

	// Drain takes the node's movable sources away and tells it to hand over its
	// mail; Undrain lets it take part again. Ordered twice, they do nothing.
	Drain(ctx context.Context, o Order) error
	Undrain(ctx context.Context, o Order) error
	// Remove ends a node's membership: its floor goes to the others. A live
	// node is refused with ErrRefused, and a dead one until nothing that it held
	// can be in use any more.
	Remove(ctx context.Context, o Order) error
	// Move hands a movable source to a live node that may hold it.
	Move(ctx context.Context, m Move) error
}

// Order is an order about one node, with who gave it and why.
type Order struct {
	Node   string `json:"node"`
	Author string `json:"author"`
	Reason string `json:"reason,omitempty"`
}

// Move is an order to hand a source over.
type Move struct {
	Source string `json:"source"`
	Node   string `json:"node" doc:"The new holder."`
	Author string `json:"author"`
	Reason string `json:"reason,omitempty"`
}

// Errors of Cluster, for errors.Is.
var (
	// ErrNoLeader: there is no leader that can be asked at the moment.
	ErrNoLeader = errors.New("no leader")
	// ErrNotFound: there is no such node or source.
	ErrNotFound = errors.New("not found")
	// ErrRefused: the order makes no sense as things stand.
	ErrRefused = errors.New("refused")
)

// Refuse is an ErrRefused that says why.
func Refuse(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
}

// GossipKeys is the ring of keys with which gossip is encrypted, as an operator
// turns it: add a key, wait until all nodes have it, use it, wait, remove the
// one before. It needs no leader.
type GossipKeys interface {
	GossipKeys(ctx context.Context) ([]GossipKey, error)
	// AddGossipKey makes a new random key; the first one of all is used at once.
	AddGossipKey(ctx context.Context, author string) (GossipKey, error)
	// UseGossipKey has all nodes encrypt with a key of the ring.
	UseGossipKey(ctx context.Context, id, author string) error
	// RemoveGossipKey takes a key off the ring; not the one in use.
	RemoveGossipKey(ctx context.Context, id, author string) error
}
