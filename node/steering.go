package node

import (
	"sync"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// This file is what follows on a node from what the control plane decides about
// sources and tenants (policy.Steering): the scheduler heeds it at once, and mail
// that no source of this node may carry goes to one that has another.

// useSteering puts a set in force that differs from the one before in what was
// decided alone. It happens up to once a second, so it does no more than it
// must. The caller holds policyMu.
func (n *Node) useSteering(old, set *policy.Set) {
	if revisionOf(set) < revisionOf(old) {
		return // a newer one overtook it
	}
	changes := set.Steering().Since(old.Steering())
	n.policy.Store(set)
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.SetSteering(now, set, changes) })
}

func revisionOf(set *policy.Set) int64 {
	if x := set.Steering(); x != nil {
		return x.Revision
	}
	return 0
}

// hurry lets the leader hear of a block at once: until it has decided, other nodes
// know of it by hints alone.
func (n *Node) hurry() {
	if c := n.cluster.control; c != nil {
		c.Hurry()
	}
}

// refuges are the entries of homes that are about one carrier.
func refuges(homes []exchange.Home) map[scheduler.Refuge][]string {
	var at map[scheduler.Refuge][]string
	for i := range homes {
		if h := &homes[i]; h.Carrier != "" {
			if at == nil {
				at = map[scheduler.Refuge][]string{}
			}
			at[scheduler.Refuge{Pool: h.Pool, Carrier: h.Carrier}] = h.Nodes
		}
	}
	return at
}

// useRefuges tells the scheduler which mail may go elsewhere since other nodes
// have sources that do not rest: only nodes other than this one help.
func (n *Node) useRefuges(homes []exchange.Home) {
	elsewhere := map[scheduler.Refuge]bool{}
	for r, nodes := range refuges(homes) {
		for _, name := range nodes {
			if name != n.name {
				elsewhere[r] = true
			}
		}
	}
	if len(elsewhere) == 0 && !n.cluster.refuged.Load() {
		return
	}
	n.cluster.refuged.Store(len(elsewhere) > 0)
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) { s.SetRefuges(now, elsewhere) })
}

const (
	// stayFor is how long a delivery that has come from another node does not go
	// on to a third, or back, since sources rest: two nodes whose sources rest in
	// turn would hand it to and fro.
	stayFor = time.Minute
	// maxArrivals bounds how many of them are known; the oldest are forgotten.
	maxArrivals = 100_000
)

// arrivals are the deliveries that have come from other nodes a short while ago,
// in two halves, so that the older one can be forgotten as a whole. What is
// forgotten too early, or at a restart, may be moved once more.
type arrivals struct {
	mu struct {
		sync.Mutex
		young, old map[message.DeliveryID]struct{}
		turned     time.Time // when young became old
	}
}

func (a *arrivals) note(ds []*message.Delivery, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range ds {
		a.turnLocked(now)
		if a.mu.young == nil {
			a.mu.young = map[message.DeliveryID]struct{}{}
		}
		a.mu.young[d.ID] = struct{}{}
	}
}

// turnLocked forgets the older half when the younger one is old enough, or full.
func (a *arrivals) turnLocked(now time.Time) {
	since := now.Sub(a.mu.turned)
	if since < stayFor && len(a.mu.young) < maxArrivals/2 {
		return
	}
	a.mu.old, a.mu.young = a.mu.young, nil
	if since >= 2*stayFor {
		a.mu.old = nil
	}
	a.mu.turned = now
}

// recent reports whether a delivery has come within the last stayFor, or not
// much longer ago.
func (a *arrivals) recent(id message.DeliveryID, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turnLocked(now)
	if _, ok := a.mu.young[id]; ok {
		return true
	}
	_, ok := a.mu.old[id]
	return ok
}
