package sources

import (
	"cmp"
	"container/heap"
	"slices"

	"hikyaku/controlplane/keyspace"
)

// place gives every source that nobody holds to a node. Sources of one group
// (same labels, same pools) see the same nodes in the same order, so each group
// has one heap of them: with 10,000 sources and 1,000 nodes this is what keeps a
// full decision far below 100 ms.
func (s *stepState) place() {
	slices.SortStableFunc(s.free, func(x, y waiting) int {
		return cmp.Compare(s.a.sources[x.source].group, s.a.sources[y.source].group)
	})
	// Those that go back to their node first: they fill their own place, and
	// the others are spread knowing it.
	rest := s.free[:0]
	for _, w := range s.free {
		if w.prefer != none && !s.barred(w, w.prefer) {
			s.give(w, w.prefer)
		} else {
			rest = append(rest, w)
		}
	}
	for len(rest) > 0 {
		group := s.a.sources[rest[0].source].group
		n := 1
		for n < len(rest) && s.a.sources[rest[n].source].group == group {
			n++
		}
		s.placeGroup(rest[:n])
		rest = rest[n:]
	}
}

func (s *stepState) placeGroup(list []waiting) {
	src := &s.a.sources[list[0].source]
	h := nodeHeap{s: s, nodes: slices.Clone(s.eligible[src.class]), rank: make([]ranked, len(s.nodes))}
	for _, n := range h.nodes {
		h.rank[n] = s.rankOf(src, n)
	}
	heap.Init(&h)
	for _, w := range list {
		n := h.best()
		if n != none && s.barred(w, n) {
			n = s.secondBest(w)
		}
		if n == none {
			s.homeless(w)
			continue
		}
		s.give(w, n)
		h.rank[n] = s.rankOf(src, n)
		if h.nodes[0] == n {
			heap.Fix(&h, 0)
		} else {
			heap.Init(&h)
		}
	}
}

// barred reports whether a node could not use this source just now.
func (s *stepState) barred(w waiting, n int32) bool {
	st := s.a.stays[s.a.sources[w.source].Name]
	return st != nil && st.bad == s.nodes[n].Name && s.now.Before(st.badUntil) && len(s.eligible[s.a.sources[w.source].class]) > 1
}

// secondBest is for the source that the best node cannot use.
func (s *stepState) secondBest(w waiting) int32 {
	src := &s.a.sources[w.source]
	best, rank := none, ranked{}
	for _, n := range s.eligible[src.class] {
		if r := s.rankOf(src, n); !s.barred(w, n) && (best == none || r.before(rank)) {
			best, rank = n, r
		}
	}
	return best
}

// homeless leaves a source without a holder, and says so in its record once.
func (s *stepState) homeless(w waiting) {
	s.out.Homeless++
	if w.rec != nil && w.rec.State != keyspace.Free {
		s.set(w.rec, keyspace.Free, "no live node may hold it")
	}
}

// ranked is how well a node suits a source.
type ranked struct {
	load, cap int64 // of the node
	same      int64 // sources of the same pools
	backlog   int64 // mail of these pools
	node      int32 // its place in the order of names
}

func (s *stepState) rankOf(src *source, n int32) ranked {
	nd := &s.nodes[n]
	r := ranked{load: nd.load, cap: nd.cap, node: n}
	for _, p := range src.pools {
		r.same += int64(s.count[int(p)*len(s.nodes)+int(n)])
		if len(nd.Backlog) > 0 {
			r.backlog += nd.Backlog[s.a.pools[p]]
		}
	}
	return r
}

// before orders nodes: where one more source weighs least, then where the pool
// has fewest, then where its mail is.
func (r ranked) before(o ranked) bool {
	if x, y := (2*r.load+1)*o.cap, (2*o.load+1)*r.cap; x != y {
		return x < y
	}
	if x, y := r.same*o.cap, o.same*r.cap; x != y {
		return x < y
	}
	if r.backlog != o.backlog {
		return r.backlog > o.backlog
	}
	return r.node < o.node
}

// nodeHeap has the node that suits best on top.
type nodeHeap struct {
	s     *stepState
	nodes []int32
	rank  []ranked // by node
}

func (h *nodeHeap) best() int32 {
	if len(h.nodes) == 0 {
		return none
	}
	return h.nodes[0]
}

func (h *nodeHeap) Len() int           { return len(h.nodes) }
func (h *nodeHeap) Less(i, j int) bool { return h.rank[h.nodes[i]].before(h.rank[h.nodes[j]]) }
func (h *nodeHeap) Swap(i, j int)      { h.nodes[i], h.nodes[j] = h.nodes[j], h.nodes[i] }
func (h *nodeHeap) Push(x any)         { h.nodes = append(h.nodes, x.(int32)) }
func (h *nodeHeap) Pop() any {
	last := h.nodes[len(h.nodes)-1]
	h.nodes = h.nodes[:len(h.nodes)-1]
	return last
}
