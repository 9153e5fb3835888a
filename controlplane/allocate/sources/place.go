package sources

import (
	"cmp"
	"math"
	"slices"

	"hikyaku/controlplane/keyspace"
)

// place gives every source that nobody holds to a node.
func (s *stepState) place() {
	// Sources of the same pools come one after another, so that they go to
	// different nodes.
	slices.SortStableFunc(s.free, func(x, y waiting) int {
		return cmp.Compare(s.a.sources[x.source].group, s.a.sources[y.source].group)
	})
	// Those that go back to their node first: they fill their own place, and
	// the others are spread knowing it.
	rest := s.free[:0]
	for _, w := range s.free {
		if w.prefer != none && !s.barred(w.source, w.prefer) {
			s.give(w, w.prefer)
		} else {
			rest = append(rest, w)
		}
	}
	for _, w := range rest {
		if n := s.best(w.source); n != none {
			s.give(w, n)
		} else {
			s.homeless(w)
		}
	}
}

// barred reports whether a node could not use this source just now, and another
// may.
func (s *stepState) barred(i, n int32) bool {
	src := &s.a.sources[i]
	return src.bad != "" && src.bad == s.nodes[n].Name && s.now.Before(src.badUntil) && len(s.eligible[src.class]) > 1
}

// best is the node that suits a source best; none if no node may hold it. It
// looks at the weight of every node for every source, 10,000,000 times in the
// largest cluster that we plan for, and at little else.
func (s *stepState) best(i int32) int32 {
	eligible := s.eligible[s.a.sources[i].class]
	least := int64(math.MaxInt64)
	for _, n := range eligible {
		least = min(least, s.weight[n])
	}
	best, same, mail := none, int64(0), int64(0)
	for _, n := range eligible {
		if s.weight[n] != least {
			continue
		}
		if s.barred(i, n) {
			return s.secondBest(i)
		}
		c, b := s.same(i, n), s.mail(i, n)
		if best == none || s.closer(n, c, b, best, same, mail) {
			best, same, mail = n, c, b
		}
		if same == 0 && len(s.backlog) == 0 {
			break // none is better
		}
	}
	return best
}

// secondBest is for the source that one of the lightest nodes cannot use.
func (s *stepState) secondBest(i int32) int32 {
	best := none
	for _, n := range s.eligible[s.a.sources[i].class] {
		if !s.barred(i, n) && (best == none || s.weight[n] < s.weight[best]) {
			best = n
		}
	}
	return best
}

// closer reports whether node x suits better than y, where one source more
// weighs the same on both: fewer sources of the same pools, or more mail for
// them. Else the first one stays, in the order of names.
func (s *stepState) closer(x int32, same, mail int64, y int32, sameY, mailY int64) bool {
	if a, b := same*s.nodes[y].cap, sameY*s.nodes[x].cap; a != b {
		return a < b
	}
	return mail > mailY
}

// mail counts what waits on a node for a source's pools.
func (s *stepState) mail(i, n int32) (count int64) {
	if len(s.backlog) == 0 {
		return 0
	}
	for _, p := range s.a.sources[i].pools {
		count += s.backlog[int(p)*len(s.nodes)+int(n)]
	}
	return count
}

// homeless leaves a source without a holder, and says so in its record once.
func (s *stepState) homeless(w waiting) {
	s.out.Homeless++
	if w.rec != nil && w.rec.State != keyspace.Free {
		s.set(w.rec, keyspace.Free, "no live node may hold it")
	}
}
