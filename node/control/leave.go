package control

import (
	"context"
	"time"
)

// leaveWithin is how long a node that ends waits for the leader to take note
// that its sources are free. Without that they are in quarantine first.
const leaveWithin = 3 * time.Second

// leave ends all use of sources, lets the leader hear of it, and gives the lease
// back.
func (c *Control) leave(ctx context.Context) {
	c.mu.Lock()
	c.mu.leaving = true
	for _, t := range c.mu.tenures {
		c.finishLocked(t, "the node ends", time.Now())
	}
	c.mu.Unlock()
	c.look()
	wait, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	for !c.left() && sleep(wait, leastPause) {
		nudge(c.report)
	}
	c.mu.Lock()
	reg := c.mu.reg
	c.mu.reg = nil
	busy := 0
	for _, t := range c.mu.tenures {
		if t.phase != released {
			busy++
		}
	}
	c.mu.Unlock()
	if reg == nil {
		return
	}
	reg.keeper.GiveUp()
	if busy > 0 {
		// Revoked, the lease would say that nothing is in use.
		c.log.Warn("the lease is left to expire: sources are still in use", "lease", reg.lease, "sources", busy)
		return
	}
	c.revoke(reg.lease)
}

// left reports whether there is nothing more to wait for.
func (c *Control) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.mu.tenures {
		if t.phase != released {
			return false
		}
	}
	if c.mu.reg == nil || c.mu.leader.term == 0 {
		return true
	}
	for _, a := range c.mu.assigned {
		if a.Lease == c.mu.reg.lease {
			return false
		}
	}
	return true
}
