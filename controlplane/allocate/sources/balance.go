package sources

import (
	"slices"
	"time"
)

// pace bounds moves for balance: a bucket that begins empty.
type pace struct {
	last  time.Time
	nanos int64 // saved up; a move costs a minute's part
}

// allow is how many moves may be asked for now, at the given number a minute.
// A tenth of a minute's worth is saved up at most, and at least two: an exchange.
func (p *pace) allow(now time.Time, perMinute int) int {
	cost := int64(time.Minute) / int64(perMinute)
	p.nanos += max(int64(now.Sub(p.last)), 0)
	p.nanos = min(p.nanos, max(2*cost, int64(time.Minute)/10))
	p.last = now
	return int(p.nanos / cost)
}

func (p *pace) spend(moves, perMinute int) {
	p.nanos -= int64(moves) * int64(time.Minute) / int64(perMinute)
}

// balance moves sources from nodes that have more than their part to nodes that
// have less, and spreads pools. While anything has no holder it waits: what is
// placed next may even things out.
func (s *stepState) balance() {
	perMinute := s.a.cfg.MovesPerMinute
	if perMinute <= 0 {
		perMinute = max(len(s.a.sources)/100, 10)
	}
	moves := s.a.pace.allow(s.now, perMinute)
	moves -= s.askAgain()
	if moves <= 0 || s.out.Quarantined > 0 || len(s.nodes) < 2 {
		return
	}
	var done int
	for c := range s.a.classes {
		for done < moves && s.evenOut(int32(c)) {
			done++
		}
	}
	if done == 0 && moves > 0 {
		done = s.spread(moves)
	}
	s.a.pace.spend(done, perMinute)
}

// askAgain repeats the moves that were asked for and are not in etcd yet, so
// that calling Step twice for the same news does not ask for twice as many.
func (s *stepState) askAgain() (repeated int) {
	for i := range s.a.sources {
		if !s.firm[i] {
			continue
		}
		st := &s.a.sources[i].stay
		if st.target == "" {
			continue
		}
		t, ok := s.byNode[st.target]
		if ok && st.asked == s.recs[i].Revision && s.mayHold(int32(i), t) {
			s.move(int32(i), t)
			repeated++
		} else {
			st.target = ""
		}
	}
	return repeated
}

// mayMove reports whether a source may be moved for balance.
func (s *stepState) mayMove(i int32) bool {
	return s.firm[i] && s.now.Sub(s.a.sources[i].since) >= s.a.cfg.MinHold
}

// mayTake reports whether a node may be given this source for balance.
func (s *stepState) mayTake(i, n int32) bool {
	st := &s.a.sources[i].stay
	return s.nodes[n].settled && s.mayHold(i, n) && (st.bad != s.nodes[n].Name || !s.now.Before(st.badUntil))
}

// move asks the holder of a source to let it go for another node.
func (s *stepState) move(i, to int32) {
	rec := s.recs[i]
	st := &s.a.sources[i].stay
	st.target, st.asked = s.nodes[to].Name, rec.Revision
	s.release(rec, "moved to "+st.target+" for balance", true)
	s.firm[i] = false
	s.shift(i, s.at[i], -1)
	s.settle(i, to)
}

// lighter reports whether one thing less at d and one more at r makes the sum
// of squares smaller: x things at d, y at r.
func lighter(x, capD, y, capR int64) bool { return (2*y+1)*capD < (2*x-1)*capR }

// evenOut makes the best move for the number of sources per node among the
// sources of one class, if there is one.
func (s *stepState) evenOut(c int32) bool {
	to := none
	for _, n := range s.eligible[c] {
		nd := &s.nodes[n]
		if nd.settled && (to == none || s.weight[n] < s.weight[to]) {
			to = n
		}
	}
	if to == none {
		return false
	}
	r := &s.nodes[to]
	heavy := slices.ContainsFunc(s.eligible[c], func(n int32) bool {
		return lighter(s.nodes[n].load, s.nodes[n].cap, r.load, r.cap)
	})
	if !heavy {
		return false // the usual case, without a look at any source
	}
	best := none
	for i := range s.a.sources {
		i := int32(i)
		if s.a.sources[i].class != c || !s.mayMove(i) || !s.mayTake(i, to) {
			continue
		}
		d := &s.nodes[s.at[i]]
		if lighter(d.load, d.cap, r.load, r.cap) && (best == none || s.betterToMove(i, best, to)) {
			best = i
		}
	}
	if best == none {
		return false
	}
	s.move(best, to)
	return true
}

// betterToMove prefers the heavier node, then the pool that has more there than
// where it goes.
func (s *stepState) betterToMove(i, than, to int32) bool {
	x, y := &s.nodes[s.at[i]], &s.nodes[s.at[than]]
	if a, b := (2*x.load-1)*y.cap, (2*y.load-1)*x.cap; a != b {
		return a > b
	}
	return s.same(i, s.at[i])-s.same(i, to) > s.same(than, s.at[than])-s.same(than, to)
}

// same counts the sources of a source's pools on a node.
func (s *stepState) same(i, n int32) (count int64) {
	for _, p := range s.a.sources[i].pools {
		count += int64(s.count[int(p)*len(s.nodes)+int(n)])
	}
	return count
}

// spread makes up to so many moves that bring pools to more nodes, without
// making nodes uneven: where a plain move would, two nodes exchange sources.
func (s *stepState) spread(moves int) (done int) {
	groups := make([][]int32, s.a.groups)
	for i := range s.a.sources {
		if s.mayMove(int32(i)) {
			g := s.a.sources[i].group
			groups[g] = append(groups[g], int32(i))
		}
	}
	for _, group := range groups {
		if done >= moves {
			break
		}
		done += s.spreadGroup(group, groups, moves-done)
	}
	return done
}

func (s *stepState) spreadGroup(group []int32, groups [][]int32, moves int) int {
	from, to := none, none // a source, a node
	for _, i := range group {
		if s.firm[i] && (from == none || s.same(i, s.at[i])*s.nodes[s.at[from]].cap > s.same(from, s.at[from])*s.nodes[s.at[i]].cap) {
			from = i
		}
	}
	if from == none || len(s.a.sources[from].pools) == 0 {
		return 0
	}
	for _, n := range s.eligible[s.a.sources[from].class] {
		if s.mayTake(from, n) && (to == none || s.same(from, n)*s.nodes[to].cap < s.same(from, to)*s.nodes[n].cap) {
			to = n
		}
	}
	if to == none || to == s.at[from] || s.poolChange(from, none, to) >= 0 {
		return 0
	}
	d, r := &s.nodes[s.at[from]], &s.nodes[to]
	if (2*r.load+1)*d.cap <= (2*d.load-1)*r.cap {
		s.move(from, to)
		return 1
	}
	if moves < 2 {
		return 0
	}
	for _, other := range groups {
		for _, b := range other {
			if s.firm[b] && s.at[b] == to && s.mayTake(b, s.at[from]) && s.poolChange(from, b, to) < 0 {
				home := s.at[from]
				s.move(from, to)
				s.move(b, home)
				return 2
			}
		}
	}
	return 0
}

// poolChange is what becomes of the sum of squares of sources per pool and node
// if a goes to node r and b (or none) comes from there in exchange, times both
// capacities.
func (s *stepState) poolChange(a, b, r int32) (change int64) {
	d := s.at[a]
	capD, capR := s.nodes[d].cap, s.nodes[r].cap
	of := func(i int32) []int32 {
		if i == none {
			return nil
		}
		return s.a.sources[i].pools
	}
	at := func(p, n int32) int64 { return int64(s.count[int(p)*len(s.nodes)+int(n)]) }
	for _, p := range of(a) {
		if !slices.Contains(of(b), p) {
			change += (2*at(p, r)+1)*capD - (2*at(p, d)-1)*capR
		}
	}
	for _, p := range of(b) {
		if !slices.Contains(of(a), p) {
			change += (2*at(p, d)+1)*capR - (2*at(p, r)-1)*capD
		}
	}
	return change
}
