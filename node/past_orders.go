package node

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"hikyaku/spool"
	"hikyaku/spool/message"
)

// pastOrders remembers what was ordered to end, for mail that comes from another
// node after the order was carried out here. Without it a delivery could be
// nowhere: on its way when its sender looked, and not here yet when this node
// did.
type pastOrders struct {
	// arriving is held for reading from the moment an arrival looks for orders
	// until it is durable. An order takes it once when it is noted: what looked
	// before is then there to be found.
	arriving sync.RWMutex
	mu       struct {
		sync.Mutex
		orders []spool.Action // replaced, never edited; oldest first
	}
}

// note remembers an order, from before it begins.
func (p *pastOrders) note(a spool.Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(p.mu.orders), func(o spool.Action) bool { return o.ID == a.ID })
	if n := len(kept) - spool.PastOrders + 1; n > 0 {
		kept = kept[n:]
	}
	p.mu.orders = append(kept, a)
}

// forget drops an order that was taken back before it was through.
func (p *pastOrders) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.orders = slices.DeleteFunc(slices.Clone(p.mu.orders), func(o spool.Action) bool { return o.ID == id })
}

// settle returns when whatever arrived without seeing the newest order is there.
func (p *pastOrders) settle() {
	p.arriving.Lock()
	p.arriving.Unlock() //nolint:staticcheck // to have waited is all
}

type ordersKnown []spool.Action

func (p *pastOrders) snapshot() ordersKnown {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.orders
}

// verdict is what was ordered about a delivery that arrives.
func (os ordersKnown) verdict(ctx context.Context, d *message.Delivery, carriers *carrierMemo) *verdict {
	for i := range os {
		a := &os[i]
		if d.Accepted.After(a.Created) || !a.Scope.MatchesQueue(&d.Queue) {
			continue
		}
		if c := a.Scope.Carrier; c != "" && c != carriers.of(ctx, d.Queue.Destination) {
			continue
		}
		return verdictOf(a)
	}
	return nil
}

// restorePast reads the orders that were through before the start.
func (n *Node) restorePast() error {
	as, err := n.spool.PastActions()
	if err != nil {
		return fmt.Errorf("read past orders: %w", err)
	}
	for _, a := range as {
		n.mover.past.note(a)
	}
	return nil
}
