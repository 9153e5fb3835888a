package controlplane

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// The allocator (controlplane/allocate/sources) decides on names. What it does
// not know is done here, and only ever takes away: an address stays with one
// node though policy has moved it to another name, and a source that a person
// has moved goes where that person said.

// decideSources asks the allocator.
func (o *office) decideSources() (ws []write, next time.Time) {
	o.mu.Lock()
	set := o.mu.policy
	if set == nil {
		o.mu.Unlock()
		return nil, time.Time{}
	}
	in, changed := o.inputLocked(set)
	o.mu.Unlock()

	d := o.allocator.Step(time.Now(), in)
	o.c.metrics.homeless.Store(int64(d.Homeless))

	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.mu.tables.addresses()
	for i := range d.Changes {
		if w, ok := o.changeLocked(set, &d.Changes[i], taken, changed); ok {
			ws = append(ws, w)
		}
	}
	o.mu.homes = o.refugesLocked(set, homes(set, o.mu.tables, in))
	return ws, d.Next
}

// inputLocked is the world as the allocator wants it. changed are sources whose
// address is no longer the one that is held.
func (o *office) inputLocked(set *policy.Set) (in sources.Input, changed map[string]bool) {
	t := o.mu.tables
	pools := poolsOf(set)
	changed = map[string]bool{}
	for name, a := range t.sources {
		if s := set.Sources[name]; s != nil && a.value.State != keyspace.Free && a.value.Address != "" && address(a.value.Address) != address(s.Address) {
			changed[name] = true
		}
		in.Assigned = append(in.Assigned, sources.Assigned{Revision: a.mod, Assignment: a.value})
	}
	slices.SortFunc(in.Assigned, func(x, y sources.Assigned) int { return cmp.Compare(x.Source, y.Source) })
	if len(changed) == 0 && len(t.unreadable) == 0 {
		in.Policy = set.Revision
	}
	for _, name := range slices.Sorted(maps.Keys(set.Sources)) {
		s := set.Sources[name]
		if !t.readable(o.c.opt.Keys.Source(name)) {
			continue
		}
		in.Sources = append(in.Sources, sources.Source{
			Name: name, Movable: s.Movable() && !s.Disabled && !changed[name], Labels: s.Labels, Pools: pools[name],
		})
	}
	for _, name := range slices.Sorted(maps.Keys(t.members)) {
		r, ok := t.registered(name)
		if !ok {
			continue
		}
		// One whose version is not understood is given nothing, but it lives: what
		// it holds is its own until its lease ends.
		n := sources.Node{
			Name: name, Lease: r.Lease, Replaces: r.Replaces, Labels: r.Labels, Capacity: r.Capacity,
			Drain: t.members[name].value.Drain != keyspace.DrainNone || !understood(r), Backlog: map[string]int64{},
		}
		if report := o.freshLocked(name); report != nil {
			n.Drain = n.Drain || report.Draining // it ends, or is about to
			for _, h := range report.Sources {
				in.Words = append(in.Words, sources.Word{Source: h.Source, Node: name, Lease: report.Lease, Epoch: h.Epoch, Released: h.Released, Fault: h.Fault})
				for _, p := range pools[h.Source] {
					n.Backlog[p] += h.Backlog
				}
			}
		}
		in.Nodes = append(in.Nodes, n)
	}
	return in, changed
}

// poolsOf are the pools that each source is in.
func poolsOf(set *policy.Set) map[string][]string {
	pools := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(set.Pools)) {
		for _, m := range set.Pools[name].Sources {
			pools[m.Name] = append(pools[m.Name], name)
		}
	}
	return pools
}

// addresses says which source stands on each address that is not free.
func (t *tables) addresses() map[netip.Addr]string {
	taken := map[netip.Addr]string{}
	for name, a := range t.sources {
		if a.value.State != keyspace.Free && a.value.Address != "" {
			taken[address(a.value.Address)] = name
		}
	}
	return taken
}

// address is a text of policy as an address, so that one written in two ways is
// one. Policy has checked it.
func address(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// silencedLocked reports whether a node may well live, and hold what it holds, though
// its records cannot be read.
func (o *office) silencedLocked(node string) bool {
	return node != "" && !(o.mu.tables.readable(o.c.opt.Keys.Node(node)) && o.mu.tables.readable(o.c.opt.Keys.Member(node)))
}

// changeLocked turns what the allocator wants into a write, if it may be.
func (o *office) changeLocked(set *policy.Set, c *sources.Change, taken map[netip.Addr]string, changed map[string]bool) (write, bool) {
	a := c.New
	a.Since = o.c.opt.Now().UTC()
	old := o.mu.tables.sources[a.Source]
	if o.silencedLocked(old.value.Node) {
		return write{}, false
	}
	switch a.State {
	case keyspace.Held:
		s := set.Sources[a.Source]
		if s == nil {
			return write{}, false // policy has changed since; the next decision is on the new one
		}
		if by, ok := taken[address(s.Address)]; ok && by != a.Source {
			return write{}, false // the address is still with the holder of another name
		}
		o.obeyMoveLocked(set, &a, old.value.To)
		a.Address = s.Address
		taken[address(s.Address)] = a.Source
	case keyspace.Free:
		a.Address, a.To = "", ""
	default:
		if a.State == keyspace.Releasing && changed[a.Source] {
			a.Reason = "its address has changed"
		}
	}
	w := putRecord(o.c.opt.Keys.Source(a.Source), c.Revision, a)
	w.source, w.node, w.why = a.Source, a.Node, a.State+": "+a.Reason
	return w, true
}

// obeyMoveLocked gives a source to the node that a person has named for it, if
// that may still have it.
func (o *office) obeyMoveLocked(set *policy.Set, a *keyspace.Assignment, to string) {
	a.To = ""
	if to == "" || to == a.Node {
		return
	}
	if r, err := o.mayTakeLocked(set, a.Source, to); err == nil {
		a.Node, a.Lease = to, r.Lease
		a.Reason = "moved by hand"
	}
}

// homes names for each pool the nodes that have sources of it: those that hold
// them by lease, best first, then those that some are bound to.
func homes(set *policy.Set, t *tables, in sources.Input) []exchange.Home {
	out := sources.Homes(in)
	at := map[string]int{}
	for i := range out {
		at[out[i].Pool] = i
	}
	for _, pool := range slices.Sorted(maps.Keys(set.Pools)) {
		for _, m := range set.Pools[pool].Sources {
			s := set.Sources[m.Name]
			if s == nil || s.Disabled || !s.Pinned() {
				continue
			}
			if _, live := t.live(s.Node); !live || t.members[s.Node].value.Drain != keyspace.DrainNone {
				continue
			}
			i, ok := at[pool]
			if !ok {
				i = len(out)
				at[pool] = i
				out = append(out, exchange.Home{Pool: pool})
			}
			if h := &out[i]; len(h.Nodes) < exchange.MaxHomeNodes && !slices.Contains(h.Nodes, s.Node) {
				h.Nodes = append(h.Nodes, s.Node)
			}
		}
	}
	return out[:min(len(out), exchange.MaxHomes)]
}
