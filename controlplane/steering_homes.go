package controlplane

import (
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// longRest is how much of a rest must be left for mail to go to another node for
// it. Nodes look for themselves when they are told (scheduler.SetRefuges); it is
// here so that they are not told of what they would not heed.
const longRest = time.Minute

// refugesLocked adds, for each pool and carrier where some node has only sources
// that rest for long, the nodes that have one that does not. Mail for that carrier
// goes there, and no other mail.
func (o *office) refugesLocked(set *policy.Set, homes []exchange.Home) []exchange.Home {
	x := set.Steering()
	if x == nil {
		return homes
	}
	at := o.c.opt.Now().Add(longRest)
	var carriers []string
	for _, name := range slices.Sorted(maps.Keys(o.mu.tables.steering)) {
		r := o.mu.tables.steering[name].value
		if slices.ContainsFunc(r.Lanes, func(l keyspace.SteeredLane) bool { return l.Site == "" && l.Resting(at) }) {
			carriers = append(carriers, name)
		}
	}
	if len(carriers) == 0 {
		return homes
	}
	for _, pool := range slices.Sorted(maps.Keys(set.Pools)) {
		held := o.holdersLocked(set, pool)
		for _, carrier := range carriers {
			if len(homes) >= exchange.MaxHomes {
				return homes
			}
			if nodes := refuge(set, held, carrier, at); len(nodes) > 0 {
				homes = append(homes, exchange.Home{Pool: pool, Carrier: carrier, Nodes: nodes})
			}
		}
	}
	return homes
}

// refuge names the nodes with a source that may be used at a carrier, if another
// node has only such as may not.
func refuge(set *policy.Set, held map[string][]string, carrier string, at time.Time) (good []string) {
	bad := false
	for _, node := range slices.Sorted(maps.Keys(held)) {
		if slices.ContainsFunc(held[node], func(source string) bool { return !set.CourseOf(carrier, "", source).Resting(at) }) {
			if len(good) < exchange.MaxHomeNodes {
				good = append(good, node)
			}
		} else {
			bad = true
		}
	}
	if !bad {
		return nil
	}
	return good
}

// holdersLocked are the sources of a pool that each node has that takes mail.
func (o *office) holdersLocked(set *policy.Set, pool string) map[string][]string {
	t := o.mu.tables
	held := map[string][]string{}
	takes := func(node string) bool {
		_, live := t.live(node)
		return live && t.members[node].value.Drain == keyspace.DrainNone
	}
	for _, m := range set.Pools[pool].Sources {
		s := set.Sources[m.Name]
		if s == nil || s.Disabled {
			continue
		}
		switch a := t.sources[m.Name].value; {
		case s.Pinned():
			if takes(s.Node) {
				held[s.Node] = append(held[s.Node], m.Name)
			}
		case s.Local():
			for node := range t.members {
				if takes(node) {
					held[node] = append(held[node], m.Name)
				}
			}
		case a.State == keyspace.Held && takes(a.Node):
			held[a.Node] = append(held[a.Node], m.Name)
		}
	}
	return held
}
