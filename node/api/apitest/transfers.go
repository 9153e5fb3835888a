package apitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hikyaku/node/api"
)

// GoneSpool is the id of the spool that the stuck one of StockTransfers was
// offered to.
const GoneSpool = "00000000deadbeef00000000deadbeef"

// StockTransfers are two transfers whose outcome is not known: one to a node that
// does not answer, one to a node that has another spool now.
func StockTransfers() []api.Transfer {
	return []api.Transfer{
		{Number: 6, To: "tokyo-2", Spool: "11111111111111111111111111111111", Created: Epoch.Add(-time.Minute), Deliveries: 3, Recipients: 4, Why: "node tokyo-2: no answer"},
		{Number: 7, To: "osaka-1", Spool: GoneSpool, Created: Epoch.Add(-time.Hour), Deliveries: 12, Recipients: 15, Why: "node osaka-1 has another spool now", Stuck: true},
	}
}

// OpenTransfers implements api.Node.
func (n *Node) OpenTransfers(context.Context) ([]api.Transfer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.mu.transfers), n.Err
}

// SetTransfers gives it open transfers.
func (n *Node) SetTransfers(ts []api.Transfer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.transfers = ts
}

// Reclaim implements api.Node.
func (n *Node) Reclaim(_ context.Context, number uint64, r *api.ReclaimRequest) (*api.Reclaimed, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.mu.transfers, func(t api.Transfer) bool { return t.Number == number })
	if i < 0 {
		return nil, fmt.Errorf("transfer %d: %w", number, api.ErrNotFound)
	}
	t := n.mu.transfers[i]
	if t.Spool != r.Spool {
		return nil, fmt.Errorf("transfer %d was offered to spool %s, not to %s: %w", number, t.Spool, r.Spool, api.ErrConflict)
	}
	n.mu.transfers = slices.Delete(n.mu.transfers, i, i+1)
	return &api.Reclaimed{Transfer: t, Author: r.Author}, n.Err
}
