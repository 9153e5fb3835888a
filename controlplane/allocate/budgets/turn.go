package budgets

import (
	"slices"
	"time"
)

// turnState is where a stake stands that has not one of each thing as its floor:
// a part of the burst, of that of connections, a connection.
type turnState uint8

const (
	idle turnState = iota
	queued
	holding
)

// turns are those of a scope. Every stake without a full set of floors must
// hold one of its sets to send. Where there are enough sets nobody waits.
//
// INVARIANT: queue has the stakes that are queued, the one that waits longest
// first; holders counts those that hold.
type turns struct {
	queue   []*stake
	holders int64
}

// sets is how many whole sets there are for stakes without.
func (s *scope) sets() int64 {
	sets := int64(1) << 40
	free := s.whole.sub(s.floors)
	for _, d := range [...][2]int64{{s.whole.burst, free.burst}, {s.whole.link, free.link}, {s.whole.conns, free.conns}} {
		if d[0] > 0 {
			sets = min(sets, d[1])
		}
	}
	return max(sets, 0)
}

// needsTurn reports whether the floor lacks something that sending needs.
func (k *stake) needsTurn() bool {
	return k.whole.burst > 0 && k.floor.burst == 0 || k.whole.link > 0 && k.floor.link == 0 || k.whole.conns > 0 && k.floor.conns == 0
}

// sends reports whether a stake may send at all at the moment.
func (k *stake) sends() bool { return k.turn == holding || !k.needsTurn() }

// takeTurn looks after a stake's turn, after a demand.
func (k *stake) takeTurn(now time.Time, active bool) {
	if !k.needsTurn() {
		k.leaveTurns()
		return
	}
	if k.turn == holding {
		k.giveUpTurn(now, active)
	}
	if k.turn == idle && active {
		k.turn = queued
		k.queue = append(k.queue, k)
	}
	if k.turn != queued {
		return
	}
	if !active {
		k.leaveTurns()
		return
	}
	if free := k.sets() - k.holders; free > 0 && slices.Index(k.queue[:min(int64(len(k.queue)), free)], k) >= 0 {
		k.leaveTurns()
		k.turn, k.turnSince = holding, time.Time{} // it begins with the first grant
		k.holders++
		k.levelAt = time.Time{}
	}
}

// giveUpTurn ends a turn that is over while others wait.
func (k *stake) giveUpTurn(now time.Time, active bool) {
	waiting := int64(len(k.queue)) - max(k.sets()-k.holders, 0)
	if k.holders > k.sets() {
		waiting = max(waiting, 1) // policy has less than it had
	}
	if waiting <= 0 {
		if !active && !k.recent(now) {
			k.leaveTurns()
		}
		return
	}
	if !active || !k.turnSince.IsZero() && now.Sub(k.turnSince) >= k.turnLength() {
		k.leaveTurns()
	}
}

// turnLength is Turn, or the time of a few messages where that is longer: a
// bucket begins empty, so a shorter turn would end before the first.
func (s *scope) turnLength() time.Duration {
	length := Turn
	for _, r := range [...]struct {
		n   int64
		per time.Duration
	}{{s.limit.N, s.limit.Per}, {s.limit.LinkN, s.limit.LinkPer}} {
		if r.n > 0 && r.per > 0 {
			each := float64(r.per) / float64(r.n) * float64(max(s.holders, 1))
			length = max(length, time.Duration(min(each*turnMessages, float64(maxTurn))))
		}
	}
	return length
}

// leaveTurns takes a stake out of the queue, or its turn.
func (k *stake) leaveTurns() {
	switch k.turn {
	case idle:
		return
	case queued:
		k.queue = slices.DeleteFunc(k.queue, func(o *stake) bool { return o == k })
	case holding:
		k.holders--
		k.levelAt = time.Time{}
	}
	k.turn, k.turnSince = idle, time.Time{}
}
