package sources

import (
	"cmp"
	"slices"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// MaxHomes bounds the nodes that Homes names for one pool. A pool on a thousand
// nodes does not need all of them told to a node that has mail for it.
const MaxHomes = 8

// Homes says which live nodes hold sources of each pool, best first: those with
// the least mail of it waiting for each source, then those with most sources.
func Homes(in Input) []exchange.Home {
	type home struct {
		node    *Node
		sources int64
	}
	nodes := make(map[string]*Node, len(in.Nodes))
	for i := range in.Nodes {
		nodes[in.Nodes[i].Name] = &in.Nodes[i]
	}
	pools := make(map[string][]string, len(in.Sources))
	for _, s := range in.Sources {
		if s.Movable {
			pools[s.Name] = s.Pools
		}
	}
	homes := map[string]map[string]*home{}
	for i := range in.Assigned {
		r := &in.Assigned[i]
		n := nodes[r.Node]
		if r.State != keyspace.Held || n == nil || n.Lease != r.Lease || n.Drain {
			continue
		}
		for _, p := range pools[r.Source] {
			if homes[p] == nil {
				homes[p] = map[string]*home{}
			}
			h := homes[p][r.Node]
			if h == nil {
				h = &home{node: n}
				homes[p][r.Node] = h
			}
			h.sources++
		}
	}
	out := make([]exchange.Home, 0, len(homes))
	for p, byNode := range homes {
		list := make([]*home, 0, len(byNode))
		for _, h := range byNode {
			list = append(list, h)
		}
		slices.SortFunc(list, func(x, y *home) int {
			return cmp.Or(
				cmp.Compare(x.node.Backlog[p]*y.sources, y.node.Backlog[p]*x.sources),
				cmp.Compare(y.sources, x.sources),
				cmp.Compare(x.node.Name, y.node.Name))
		})
		h := exchange.Home{Pool: p}
		for _, l := range list[:min(len(list), MaxHomes)] {
			h.Nodes = append(h.Nodes, l.node.Name)
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(x, y exchange.Home) int { return cmp.Compare(x.Pool, y.Pool) })
	return out
}
