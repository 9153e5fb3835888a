package budgets

import (
	"slices"
	"time"

	"hikyaku/controlplane/exchange"
)

// part is what a node has of a scope, or what there is of it.
type part struct {
	share, burst, link, conns int64
}

func (p part) max(o part) part {
	return part{max(p.share, o.share), max(p.burst, o.burst), max(p.link, o.link), max(p.conns, o.conns)}
}

func (p part) add(o part) part {
	return part{p.share + o.share, p.burst + o.burst, p.link + o.link, p.conns + o.conns}
}

func (p part) sub(o part) part {
	return part{p.share - o.share, p.burst - o.burst, p.link - o.link, p.conns - o.conns}
}

func partOf(h *exchange.Holding) part {
	return part{max(h.Share, 0), max(h.Burst, 0), max(h.LinkBurst, 0), max(h.Connections, 0)}
}

// scope is one budget.
//
// INVARIANT: floors is the sum of floorOf over all members, and above that of
// out - floor over all stakes; floors + above is at most whole, unless policy
// has lowered it or a node has more connections open than it may.
type scope struct {
	id     exchange.Scope
	limit  Limit
	whole  part
	floors part
	above  part
	// dayFloors is what members may count by day without permits.
	dayFloors int64

	stakes []*stake
	seen   time.Time // a demand named it

	level
	turns
	day
}

// stake is one node's part in one scope.
type stake struct {
	*scope
	m     *member
	floor part
	// What answers gave above all: old holds everything before the one before
	// the last one, prev that one, cur the last. Confirmed ones make the older
	// ones void.
	old, prev, cur part
	held           part // what it said is in force, in its first report to this leader
	out            part // the largest of all these: what it may believe it has
	open           int64

	seen    time.Time // used or wanted
	listed  uint64    // serial of the report that named it last
	used    float64   // messages a second, smoothed
	backlog int64
	want    part // above its floor; share and conns only

	turn      turnState
	turnSince time.Time

	permits
}

// member is a Member and its exchange. Its Floor is what is counted for it: what
// stands in etcd, or what it is to be raised to.
type member struct {
	Member
	recorded int64 // in etcd
	said     int64 // Report.Floor: what its disk has
	hasSaid  bool
	// told is the highest Answer.Floor that may reach its disk yet, toldLast
	// that of the last answer.
	told, toldLast int64

	at      time.Time // of the last report
	serial  uint64
	adopted bool // has reported under this lease to this leader
	heard   bool // has reported to this leader
	settled bool

	// The last two answers, by the serial of their reports, and when the last
	// one runs out. rich is when the last that gave more than floors does, and
	// confirmed when it last confirmed one.
	last, before uint64
	expires      time.Time
	rich         time.Time
	confirmed    time.Time

	fallen bool // its grants have run out since its last report
	stakes map[*scope]*stake
	list   []*stake // the same, in the order they came
	order  []*stake // as they came in the last report; nil where a demand has none
}

// newLease is a new registration: its serials begin anew, and what the one
// before was given holds until it runs out.
func (m *member) newLease(lease int64) {
	for _, k := range m.list {
		k.old = k.old.max(k.prev).max(k.cur)
		k.prev, k.cur = part{}, part{}
		k.permits = permits{} // what it had of them is spent for us
		k.listed = 0
	}
	m.Lease = lease
	m.serial, m.last, m.before = 0, 0, 0
	m.adopted, m.hasSaid, m.told, m.toldLast = false, false, 0, 0
}

// floorOf is a member's own part of a scope. A share without any burst to send
// with is of no use to it, and counts as none.
func (s *scope) floorOf(m *Member) (p part) {
	l := &s.limit
	if l.Per > 0 {
		p.burst = exchange.FloorOf(l.Burst, m.Floor, m.Rank)
	}
	if l.LinkPer > 0 {
		p.link = exchange.FloorOf(l.LinkBurst, m.Floor, m.Rank)
	}
	if p.burst > 0 || p.link > 0 {
		p.share = m.Floor
	}
	if l.Connections > 0 {
		p.conns = exchange.FloorOf(l.Connections, m.Floor, m.Rank)
	}
	return p
}

// dayFloorOf is what a node with this floor may count by day without permits.
// What is counted on a source that moves goes with it, so there it is nothing,
// unless the node is alone.
func (s *scope) dayFloorOf(floor int64) int64 {
	if s.id.Kind == exchange.CarrierSource && floor < exchange.FullShare {
		return 0
	}
	return exchange.PartOf(s.limit.PerDay, floor)
}

// reckon works out a scope's sums from its limit and all members.
func (l *Ledger) reckon(s *scope) {
	s.whole = part{}
	if s.limit.Per > 0 || s.limit.LinkPer > 0 {
		s.whole = part{exchange.FullShare, s.limit.Burst, s.limit.LinkBurst, 0}
	}
	s.whole.conns = s.limit.Connections
	s.floors, s.above, s.dayFloors = part{}, part{}, 0
	for _, m := range l.members {
		s.floors = s.floors.add(s.floorOf(&m.Member))
		s.dayFloors += s.dayFloorOf(m.Floor)
	}
	for _, k := range s.stakes {
		k.floor, k.out = s.floorOf(&k.m.Member), part{}
		k.out = k.floor
		k.recount()
	}
	s.levelAt = time.Time{}
}

// changeFloor changes what is counted as a member's floor, in all scopes.
func (l *Ledger) changeFloor(m *member, floor int64, rank int64) {
	if m.Floor == floor && m.Rank == rank {
		return
	}
	to := m.Member
	to.Floor, to.Rank = floor, rank
	for _, s := range l.list {
		old, next := s.floorOf(&m.Member), s.floorOf(&to)
		s.floors = s.floors.sub(old).add(next)
		s.dayFloors += s.dayFloorOf(floor) - s.dayFloorOf(m.Floor)
		s.levelAt = time.Time{}
		if k := m.stakes[s]; k != nil {
			s.above = s.above.sub(k.out.sub(old))
			k.floor, k.out = next, next
			k.recount()
		}
	}
	m.Floor, m.Rank = floor, rank
}

// recount brings out, and the scope's sum of it, up to date.
func (k *stake) recount() {
	out := k.floor.max(k.old).max(k.prev).max(k.cur).max(k.held)
	out.conns = max(out.conns, k.open)
	if out != k.out {
		k.above = k.above.add(out.sub(k.out))
		k.out = out
	}
}

// room is what could be given to a stake above its floor without taking from
// anybody.
func (k *stake) room() part {
	others := k.above.sub(k.out.sub(k.floor))
	return k.whole.sub(k.floors).sub(others)
}

func (l *Ledger) newScope(now time.Time, id exchange.Scope, limit Limit) *scope {
	if len(l.list) >= maxScopes {
		return nil
	}
	s := &scope{id: id, limit: limit, seen: now}
	l.scopes[id] = s
	l.list = append(l.list, s)
	l.reckon(s)
	return s
}

// stakeOf is a member's stake in a scope; nil if the scope has no limit that is
// shared, or there are too many.
func (l *Ledger) stakeOf(now time.Time, m *member, id exchange.Scope) *stake {
	s := l.scopes[id]
	if s == nil {
		limit := l.policy.Limit(id).sane()
		if limit.IsZero() {
			return nil
		}
		if s = l.newScope(now, id, limit); s == nil {
			l.metrics.Crowded++
			return nil
		}
	}
	if s.limit.IsZero() {
		return nil
	}
	k := m.stakes[s]
	if k == nil {
		k = &stake{scope: s, m: m, floor: s.floorOf(&m.Member), seen: now}
		k.out = k.floor
		m.stakes[s] = k
		m.list = append(m.list, k)
		s.stakes = append(s.stakes, k)
	}
	return k
}

// drop forgets a stake that has nothing above its floor.
func (k *stake) drop() {
	k.leaveTurns()
	k.above = k.above.sub(k.out.sub(k.floor))
	delete(k.m.stakes, k.scope)
	k.m.list = slices.DeleteFunc(k.m.list, func(o *stake) bool { return o == k })
	k.scope.stakes = slices.DeleteFunc(k.scope.stakes, func(o *stake) bool { return o == k })
	k.m.order = nil
	k.levelAt = time.Time{}
}

// expire takes back what a silent node was granted: all but its connections at
// once, those when they cannot be open any more.
func (l *Ledger) expire(now time.Time, m *member) {
	if m.expires.IsZero() || now.Before(m.expires) {
		return
	}
	if !m.fallen {
		m.fallen, m.last, m.before, m.rich = true, 0, 0, time.Time{}
		l.metrics.Expired++
		for _, k := range m.list {
			// It may have opened all that it was allowed.
			k.open = max(k.open, k.old.conns, k.prev.conns, k.cur.conns, k.held.conns)
			k.fall()
		}
	}
	if now.Sub(m.expires) >= ConnectionLinger {
		m.expires = time.Time{}
		for _, k := range slices.Clone(m.list) {
			k.open = 0
			k.recount()
			k.drop()
		}
	}
}

// fall takes a stake to its floor.
func (k *stake) fall() {
	k.old, k.prev, k.cur, k.held = part{}, part{}, part{}, part{}
	k.want, k.used, k.backlog = part{}, 0, 0
	k.leaveTurns()
	k.recount()
	k.levelAt = time.Time{}
}

// sweep forgets what nobody has spoken of for a while.
func (l *Ledger) sweep(now time.Time) {
	for _, m := range l.members {
		for _, k := range slices.Clone(m.list) {
			if now.Sub(k.seen) >= Forget && k.listed != m.serial && k.out == k.floor && k.unspent() == 0 {
				k.drop()
			}
		}
	}
	l.list = slices.DeleteFunc(l.list, func(s *scope) bool {
		s.retireStock(now, l.wall(now))
		if len(s.stakes) > 0 || now.Sub(s.seen) < Forget || s.keepsDay(l.wall(now)) {
			return false
		}
		delete(l.scopes, s.id)
		return true
	})
}
