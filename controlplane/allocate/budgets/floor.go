package budgets

import (
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// dayMemory is how long what a removed member has counted by day matters.
const dayMemory = slotCounts * time.Second

// FloorChange is a member's new floor, to be written to etcd.
type FloorChange struct {
	Name  string
	Floor int64
}

// DayChange is a daily count to be written, under Keys.Day(Key). Revision is the
// mod revision that it must still have, 0 if it must not exist. A record without
// slots may be deleted instead.
type DayChange struct {
	Scope    exchange.Scope
	Key      string
	Revision int64
	Day      keyspace.Day
}

// Due is what has to be written. It is told again by each call of Due until
// SetMembers or SetDay have told that it stands in etcd: a write whose fate is
// not known is simply made again, and one of the two fails on its revision.
type Due struct {
	Floors []FloorChange
	Days   []DayChange
}

// Due says what has to be written.
func (l *Ledger) Due(now time.Time) (d Due) {
	for _, s := range l.list {
		if l.propose(now, s); s.pending != nil {
			d.Days = append(d.Days, DayChange{s.id, DayKey(s.id), s.dayRevision, *s.pending})
		}
	}
	want := l.fairFloor()
	for _, m := range l.members {
		switch {
		case m.recorded > want && m.lowered(want) && m.imported():
			d.Floors = append(d.Floors, FloorChange{m.Name, want})
		case m.Floor > m.recorded && l.fits(now):
			d.Floors = append(d.Floors, FloorChange{m.Name, m.Floor})
		}
	}
	return d
}

// NewMember is rank and floor of a member to be. The first one has everything;
// others begin with nothing, since somebody else may have it.
func (l *Ledger) NewMember(now time.Time) (rank, floor int64) {
	used := map[int64]bool{}
	for _, m := range l.members {
		used[m.Rank] = true
	}
	for used[rank] {
		rank++
	}
	if len(l.members)+len(l.ghosts) > 0 {
		return rank, 0
	}
	for _, s := range l.list {
		if given(s.slots, l.wall(now)) > 0 {
			return rank, 0
		}
	}
	return rank, exchange.FullShare
}

// fairFloor is the floor that each member should have.
func (l *Ledger) fairFloor() int64 {
	if n := int64(len(l.members)); n > 1 {
		return exchange.FullShare / 10 / n
	}
	return exchange.FullShare
}

// floorFor is the floor that a node is told: never more than etcd has for it,
// and no more than it has before nobody else has a grant for it any more.
func (l *Ledger) floorFor(now time.Time, m *member) int64 {
	floor := min(m.recorded, l.fairFloor())
	if floor > m.said && !l.fits(now) {
		floor = min(m.said, m.recorded)
	}
	m.toldLast, m.told = floor, max(m.told, floor)
	return floor
}

// lowered reports whether nothing above a floor is on the node's disk, nor on
// its way there: it has said so, and confirmed the last answer that was higher.
func (m *member) lowered(to int64) bool {
	return m.settled && m.hasSaid && m.said <= to && m.told <= to
}

// sure is the part of a floor that the node may have on its disk. What is
// counted for it may be more: it is to be raised.
func (k *stake) sure() part {
	has := k.m.Member
	has.Floor = min(has.Floor, max(k.m.said, k.m.told))
	return k.floorOf(&has)
}

// beginFloors sets the bound of all floors for the beginning. A member that was
// removed yesterday may have counted against daily limits what is its floor's
// part, and nobody knows of it any more; so floors do not grow as a whole until
// that is a day ago.
func (l *Ledger) beginFloors() {
	l.ceiling = 0
	for _, m := range l.members {
		l.ceiling += m.recorded
	}
	if len(l.members) == 0 {
		l.ceiling = exchange.FullShare
	}
}

// planFloors decides whose floor is to be raised. What is planned is taken from
// what may be granted at once, and written when nobody holds it any more.
func (l *Ledger) planFloors(now time.Time) {
	if !l.policy.Daily || now.Sub(l.shrunk) >= dayMemory {
		l.ceiling = exchange.FullShare
	}
	want := l.fairFloor()
	free := l.ceiling
	for _, m := range l.members {
		free -= m.Floor
	}
	for _, m := range l.members {
		switch {
		case m.Floor > m.recorded && m.Floor != want:
			free += m.Floor - m.recorded // planned for another number of members
			l.changeFloor(m, m.recorded, m.Rank)
			fallthrough
		case m.Floor < want:
			if add := want - m.Floor; add > 0 && add <= free && l.dayRoom(now, m, want) {
				free -= add
				l.changeFloor(m, want, m.Rank)
			}
		}
	}
}

// planned is what a member's floor is to be raised to, or has.
func (l *Ledger) planned(m *member) int64 {
	if m.Floor > m.recorded && m.Floor <= l.fairFloor() {
		return m.Floor
	}
	return 0
}

// dayRoom reports whether every daily budget has room for a larger floor: its
// part may be counted at once, beside all permits that were given.
func (l *Ledger) dayRoom(now time.Time, m *member, floor int64) bool {
	wall := l.wall(now)
	for _, s := range l.list {
		if s.limit.PerDay > 0 && s.dayFree(wall)-s.stock < s.dayFloorOf(floor)-s.dayFloorOf(m.Floor) {
			return false
		}
	}
	return true
}

// fits reports whether all floors, as planned, and all that is granted above
// them are within every budget.
func (l *Ledger) fits(now time.Time) bool {
	wall := l.wall(now)
	for _, s := range l.list {
		free := s.whole.sub(s.floors).sub(s.above)
		if free.share < 0 || free.burst < 0 || free.link < 0 || free.conns < 0 || s.limit.PerDay > 0 && s.dayFree(wall) < 0 {
			return false
		}
	}
	return l.settled
}

// imported reports whether what a node has counted beyond its new floor stands
// in etcd.
func (m *member) imported() bool {
	for _, k := range m.list {
		if k.limit.PerDay > 0 && k.beyond() > k.taken[m.Name] {
			return false
		}
	}
	return true
}
