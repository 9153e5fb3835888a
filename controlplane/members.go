package controlplane

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// registered is the registration of a member, if it has one: of its name, with
// its node id.
func (t *tables) registered(name string) (*keyspace.Registration, bool) {
	r, ok := t.nodes[name]
	m, known := t.members[name]
	if !ok || !known || r.value.NodeID != m.value.NodeID {
		return nil, false
	}
	return &r.value, true
}

// live is that, if the node's version is understood too.
func (t *tables) live(name string) (*keyspace.Registration, bool) {
	r, ok := t.registered(name)
	if !ok || !understood(r) {
		return nil, false
	}
	return r, true
}

// understood reports whether the versions of the node and of this build meet.
func understood(r *keyspace.Registration) bool {
	return r.Protocol[0] <= keyspace.Protocol && r.Protocol[1] >= keyspace.MinProtocol
}

// fresh is a live member's last report in this term, if it is of the lease by
// which the member is registered now.
func (o *office) freshLocked(name string) *exchange.Report {
	n, ok := o.mu.nodes[name]
	r, live := o.mu.tables.live(name)
	if !ok || !live || n.report == nil || n.report.Lease != r.Lease {
		return nil
	}
	return n.report
}

// maxAlarms bounds what is said of the cluster as a whole.
const maxAlarms = 20

// decideMembers takes in nodes that have registered, moves floors, and ends
// drains.
//
// Floors are the ledger's decision, as are the daily counts: one falls only after
// the node has the lower one on its disk and what it has sent today without
// permits is counted in etcd.
func (o *office) decideMembers() (members, days []write) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.mu.tables
	clear(o.mu.alarms)
	for _, key := range slices.Sorted(maps.Keys(t.unreadable)) {
		if len(o.mu.alarms[""]) < maxAlarms {
			o.alarmLocked("", "%s cannot be read and is left alone: %v", key, t.unreadable[key])
		}
	}
	next := map[string]keyspace.Member{}
	why := map[string]string{}
	for name, r := range t.members {
		next[name] = r.value
	}
	for _, name := range slices.Sorted(maps.Keys(t.nodes)) {
		o.admitLocked(name, next, why)
	}
	days = o.dueLocked(time.Now(), next, why)
	holds := t.holds()
	for _, name := range slices.Sorted(maps.Keys(next)) {
		o.endDrainLocked(name, holds[name], next, why)
	}
	for _, name := range slices.Sorted(maps.Keys(why)) {
		w := putRecord(o.c.opt.Keys.Member(name), t.members[name].mod, next[name])
		w.node, w.why = name, why[name]
		members = append(members, w)
	}
	return members, days
}

// admitLocked makes a member of a node that registers for the first time.
func (o *office) admitLocked(name string, next map[string]keyspace.Member, why map[string]string) {
	t := o.mu.tables
	r := t.nodes[name].value
	m, known := next[name]
	switch {
	case !understood(&r):
		o.alarmLocked(name, "it speaks versions %d to %d, this control plane %d to %d", r.Protocol[0], r.Protocol[1], keyspace.MinProtocol, keyspace.Protocol)
	case known && m.NodeID != r.NodeID:
		o.alarmLocked(name, "the name belongs to node id %s, and a node of id %s has registered: remove the old one, if it will never come back, or give the new one another name", m.NodeID, r.NodeID)
	case !known && t.readable(o.c.opt.Keys.Member(name)):
		floor := int64(0)
		if len(next) == 0 {
			_, floor = o.mu.account.NewMember(time.Now()) // the first one of all may have everything
		}
		next[name] = keyspace.Member{Name: name, NodeID: r.NodeID, Joined: o.c.opt.Now().UTC(), Rank: freeRank(next), Floor: floor}
		why[name] = "the node has joined"
	}
}

func (o *office) alarmLocked(node, format string, a ...any) {
	o.mu.alarms[node] = append(o.mu.alarms[node], fmt.Sprintf(format, a...))
}

// freeRank is the lowest rank that no member has.
func freeRank(members map[string]keyspace.Member) int {
	taken := map[int]bool{}
	for _, m := range members {
		taken[m.Rank] = true
	}
	rank := 0
	for taken[rank] {
		rank++
	}
	return rank
}

func orWhy(have, why string) string {
	if have != "" {
		return have + "; " + why
	}
	return why
}

// endDrainLocked notes that a drain is over: the node holds no source that can
// move and has no mail left.
func (o *office) endDrainLocked(name string, holds int, next map[string]keyspace.Member, why map[string]string) {
	m := next[name]
	r := o.freshLocked(name)
	if m.Drain != keyspace.Draining || r == nil || !r.Draining || r.Queued > 0 || holds > 0 {
		return
	}
	m.Drain = keyspace.Drained
	next[name], why[name] = m, orWhy(why[name], "the drain is over: no source, no mail")
}

// holds counts the movable sources that each node has, may have, or must let go.
func (t *tables) holds() map[string]int {
	count := map[string]int{}
	for _, a := range t.sources {
		if a.value.State != keyspace.Free {
			count[a.value.Node]++
		}
	}
	return count
}
