package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// phase is where a tenure stands:
//
//	attaching → ready → ending → released
//	        └───────────┘
type phase uint8

const (
	attaching phase = iota
	ready           // may be used, unless there is a fault
	ending          // its Hold has ended; uses fade, then the address is detached
	released        // nothing of it is left
)

// tenure is a source that is, or was, this node's to use.
type tenure struct {
	source string
	fixed  bool  // pinned or node-local: no lease, no epoch
	epoch  int64 // of the assignment
	lease  int64 // by which it is held
	policy *policy.Source
	hold   *Hold
	phase  phase
	fault  string

	address sync.Mutex // one at a time puts it on the machine or takes it off; taken before Control.mu
}

// watchSources follows the assignments.
func (c *Control) watchSources(ctx context.Context) {
	prefix := c.opt.Keys.Source("")
	c.follow(ctx, &follower{what: "sources", key: prefix, opts: []clientv3.OpOption{clientv3.WithPrefix()},
		reset: func(all *clientv3.GetResponse) {
			c.mu.Lock()
			defer c.mu.Unlock()
			clear(c.mu.assigned)
			clear(c.mu.others)
			c.mu.loaded = true
			for _, kv := range all.Kvs {
				c.assignedLocked(strings.TrimPrefix(string(kv.Key), prefix), kv.Value)
			}
			c.look()
		},
		changed: func(events []*clientv3.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, e := range events {
				c.assignedLocked(strings.TrimPrefix(string(e.Kv.Key), prefix), e.Kv.Value)
			}
			c.look()
		},
	})
}

// assignedLocked notes what etcd says about a source: this node's, and of
// others the address.
func (c *Control) assignedLocked(source string, value []byte) {
	m := &c.mu
	delete(m.assigned, source)
	delete(m.others, source)
	if len(value) == 0 {
		return // deleted
	}
	var a keyspace.Assignment
	if err := json.Unmarshal(value, &a); err != nil {
		c.alarmLocked("assignment", fmt.Sprintf("the assignment of source %q cannot be read: %v", source, err))
		return
	}
	addr, _ := netip.ParseAddr(a.Address)
	switch {
	case len(m.assigned)+len(m.others) >= exchange.MaxSources:
		c.alarmLocked("assignment", fmt.Sprintf("more than %d sources are assigned", exchange.MaxSources))
	case a.Node == c.opt.Name:
		m.assigned[source] = a
	case a.Node != "" && a.State != keyspace.Free && addr.IsValid():
		m.others[source] = addr
	}
}

// fixedHere says that no lease is needed: the source has no address, or is
// pinned to this node.
func (c *Control) fixedHere(s *policy.Source) bool {
	return s != nil && !s.Movable() && s.MayBeOn(c.opt.Name, c.opt.Labels)
}

// movableHere says that the source can be assigned to this node, with this
// address ("" for any).
func (c *Control) movableHere(s *policy.Source, address string) bool {
	return s != nil && s.Movable() && s.MayBeOn(c.opt.Name, c.opt.Labels) && (address == "" || sameAddress(address, s.Address))
}

func sameAddress(a, b string) bool {
	x, err := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err == nil && err2 == nil && x.Unmap() == y.Unmap()
}

// othersLocked are the addresses that other nodes hold. A source that policy
// pins to this node begins when the node that held its address has let go.
func (c *Control) othersLocked() map[netip.Addr]bool {
	taken := make(map[netip.Addr]bool, len(c.mu.others))
	for _, a := range c.mu.others {
		taken[a.Unmap()] = true
	}
	return taken
}

// sourceLoop brings what is in use into line with policy, assignments and
// lease. It alone tells the node, so that what it is told comes in order.
func (c *Control) sourceLoop(ctx context.Context) {
	var told map[string]*Hold
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		}
		usable := c.lookAgain(time.Now())
		if told == nil || !maps.Equal(told, usable) {
			c.opt.Node.UseSources(usable)
			told = maps.Clone(usable)
		}
	}
}

// lookAgain is one look; it returns what may be used.
func (c *Control) lookAgain(now time.Time) map[string]*Hold {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.mu
	for _, t := range m.tenures {
		c.checkLocked(t, now)
	}
	if !m.leaving && m.set != nil {
		c.beginFixedLocked()
		if c.alive(m.reg, now) {
			for name, a := range m.assigned {
				c.beginLocked(name, a)
			}
		}
	}
	c.forgetEndedLocked()
	usable := make(map[string]*Hold, len(m.tenures))
	for name, t := range m.tenures {
		if t.phase == ready && t.fault == "" {
			usable[name] = t.hold
		}
	}
	return usable
}

// forgetEndedLocked bounds what is kept of sources that came and went. One that
// etcd still has here is kept: its old record may be shown once more.
func (c *Control) forgetEndedLocked() {
	if len(c.mu.ended) <= 2*exchange.MaxSources {
		return
	}
	for name := range c.mu.ended {
		if _, is := c.mu.assigned[name]; !is && c.mu.tenures[name] == nil {
			delete(c.mu.ended, name)
		}
	}
}

// checkLocked ends a tenure that is not ours any more, and forgets one that is
// over and that nobody waits to hear of.
func (c *Control) checkLocked(t *tenure, now time.Time) {
	m := &c.mu
	src := (*policy.Source)(nil)
	if m.set != nil {
		src = m.set.Sources[t.source]
	}
	if t.fixed {
		if !c.fixedHere(src) || changed(src, t.policy) {
			c.finishLocked(t, "policy has changed", now.Add(c.opt.Quarantine/2))
		}
		if t.phase == released {
			delete(m.tenures, t.source)
			c.look() // it may begin anew, in another way
		}
		return
	}
	a, is := m.assigned[t.source]
	mine := is && a.Epoch == t.epoch && a.Lease == t.lease && m.reg != nil && m.reg.lease == t.lease
	switch {
	case !mine:
		if m.reg != nil && m.reg.lease == t.lease { // else the lease was lost, which has a later end
			c.finishLocked(t, "it was taken away", now)
		}
		if t.phase == released {
			delete(m.tenures, t.source)
		}
	case a.State != keyspace.Held:
		c.finishLocked(t, "it is to be released", now.Add(c.opt.Quarantine/2))
	case !c.movableHere(src, a.Address) || changed(src, t.policy):
		c.finishLocked(t, "policy has changed", now.Add(c.opt.Quarantine/2))
	}
}

// changed reports whether policy has changed so that a source cannot stay as
// it is on the machine. The leader hears of a movable one that it was released,
// and assigns it anew.
func changed(now, was *policy.Source) bool {
	return now.Address != was.Address || now.Attach != was.Attach || now.Interface != was.Interface || now.PrefixLength != was.PrefixLength ||
		!slices.Equal(now.AttachCommand, was.AttachCommand) || !slices.Equal(now.DetachCommand, was.DetachCommand)
}

// beginFixedLocked begins the use of what needs no lease. At a start without
// etcd it is used at once; else etcd must have told who else has its address.
func (c *Control) beginFixedLocked() {
	m := &c.mu
	known := m.loaded || m.reg == nil
	var taken map[netip.Addr]bool
	for name, src := range m.set.Sources {
		if _, is := m.tenures[name]; is || !c.fixedHere(src) {
			continue
		}
		if !src.Local() {
			if taken == nil {
				taken = c.othersLocked()
			}
			if addr, err := netip.ParseAddr(src.Address); err != nil || !known || taken[addr.Unmap()] {
				continue
			}
		}
		t := &tenure{source: name, fixed: true, policy: src, hold: NewHold(name, 0, nil)}
		m.tenures[name] = t
		c.attachLocked(t)
	}
}

// beginLocked begins the use of what was assigned to this very lease.
func (c *Control) beginLocked(name string, a keyspace.Assignment) {
	m := &c.mu
	if _, is := m.tenures[name]; is || a.Lease != m.reg.lease {
		return
	}
	src := m.set.Sources[name]
	t := &tenure{source: name, epoch: a.Epoch, lease: a.Lease, policy: src}
	keeper := m.reg.keeper
	if c.opt.Unsafe.TrustSession {
		keeper = nil
	}
	t.hold = NewHold(name, a.Epoch, keeper)
	switch {
	case a.Epoch <= m.ended[name], a.State == keyspace.Releasing:
		// Never again under this epoch, whatever etcd says. That it is not in
		// use can be said at once.
		t.phase = released
		t.hold.End()
		m.ended[name] = max(m.ended[name], a.Epoch)
		m.tenures[name] = t
		nudge(c.report)
	case a.State == keyspace.Held && c.movableHere(src, a.Address):
		m.tenures[name] = t
		c.attachLocked(t)
	}
	// Else policy does not know it, or not so; it comes on another watch and
	// may be on its way.
}

// finishLocked ends the use of a tenure, once: at cutAt at the latest nothing
// of it is open.
func (c *Control) finishLocked(t *tenure, why string, cutAt time.Time) {
	if t.phase == ending || t.phase == released {
		return
	}
	t.hold.End()
	t.phase = ending
	if !t.fixed {
		c.mu.ended[t.source] = max(c.mu.ended[t.source], t.epoch)
	}
	c.log.Info("a source is used no more", "source", t.source, "epoch", t.epoch, "why", why, "open", t.hold.uses())
	src := t.policy
	c.job(func(ctx context.Context) {
		c.fade(ctx, t.hold, cutAt)
		c.detach(ctx, t, src)
		c.mu.Lock()
		t.phase = released
		c.mu.Unlock()
		c.look()
		nudge(c.report)
	})
}

// fade waits for the end of all uses, and cuts them off at the given time.
func (c *Control) fade(ctx context.Context, h *Hold, cutAt time.Time) {
	timer := time.NewTimer(time.Until(cutAt))
	defer timer.Stop()
	select {
	case <-h.empty:
		return
	case <-ctx.Done():
	case <-timer.C:
	}
	if n := h.uses(); n > 0 {
		c.count.cut.Add(uint64(n))
		c.log.Warn("connections of a source that is not ours any more are cut off", "source", h.Source, "epoch", h.Epoch, "open", n)
	}
	h.Sever()
	<-h.empty
}
