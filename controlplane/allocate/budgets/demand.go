package budgets

import (
	"math"
	"time"

	"hikyaku/controlplane/exchange"
)

// level is how the part of a scope that is no floor is split at the moment: each
// stake gets what it wants up to share (and conns), and the same spare on top.
// It is worked out over all stakes now and then, not for each report: with 1,000
// nodes it would be 1,000 times 1,000 a second. A level that is a little old
// gives less fair parts, but never too much: what is given is bounded by what
// the others may believe they have.
type level struct {
	levelAt      time.Time
	since        int // reports since
	share, conns int64
	spareShare   int64
	spareConns   int64
	total        int64 // of all targets of shares
	single       part  // stakes that need one of each thing, since their floor has none
}

// levelAge is how old a level may be.
const levelAge = 250 * time.Millisecond

// spareKept is the part of what nobody wants that stays free for newcomers.
const spareKept = 8

// headroom is by how much more than it used a node is let grow each exchange.
const headroom = 1.25

// reconsider works out what a stake wants, after a demand.
func (k *stake) reconsider(now time.Time) {
	k.want = part{}
	active := k.backlog > 0 || k.used > 0
	if active && k.whole.share > 0 {
		k.want.share = max(k.shareWanted()-k.floor.share, 0)
	}
	if active && k.limit.Connections > 0 {
		conns := k.open
		if k.backlog > 0 {
			conns += min(k.backlog, max(k.open, 2))
		}
		k.want.conns = max(min(max(conns, 1), k.limit.Connections)-k.floor.conns, 0)
	}
	k.takeTurn(now, active)
	k.scope.since++
}

// shareWanted is the part of the whole rate that a stake could use: what it
// used, with head room, and its backlog within a second.
func (k *stake) shareWanted() int64 {
	rate := k.used*headroom + float64(k.backlog)
	n, per := k.limit.N, k.limit.Per
	if n <= 0 || per <= 0 {
		// No rate of messages, so only connections are shared by rate; how many
		// of them a message needs nobody knows.
		return exchange.FullShare
	}
	parts := rate / float64(n)
	parts *= float64(per) / float64(time.Second)
	parts *= exchange.FullShare
	if !(parts < exchange.FullShare) {
		return exchange.FullShare
	}
	return int64(math.Ceil(parts))
}

// recent reports whether a stake has a part of the head room.
func (k *stake) recent(now time.Time) bool { return now.Sub(k.seen) < Recently }

// relevel works the level out, unless it is fresh enough.
func (s *scope) relevel(now time.Time) {
	fresh := !s.levelAt.IsZero() && now.Sub(s.levelAt) < levelAge
	if fresh && s.since*8 <= len(s.stakes) {
		return
	}
	s.levelAt, s.since = now, 0
	free := s.whole.sub(s.floors)
	var sharers, recents, singleBurst, singleLink, singleConns int64
	for _, k := range s.stakes {
		if !k.sends() || !k.recent(now) {
			continue
		}
		recents++
		if k.want.share > 0 {
			sharers++
		}
		singleBurst += one(k.floor.burst == 0)
		singleLink += one(k.floor.link == 0)
		singleConns += one(k.floor.conns == 0)
	}
	s.single = part{0, singleBurst, singleLink, singleConns}
	var left int64
	s.share, left = s.water(free.share, func(k *stake) int64 { return k.want.share })
	s.spareShare = spare(left, recents)
	s.conns, left = s.water(free.conns, func(k *stake) int64 { return k.want.conns })
	s.spareConns = spare(left, recents)
	s.total = 0
	for _, k := range s.stakes {
		s.total += k.targetShare(now)
	}
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}

// spare is each one's part of what is left over.
func spare(left, among int64) int64 {
	if left <= 0 || among == 0 {
		return 0
	}
	return (left - left/spareKept) / among
}

// water is the level up to which wants can be met: the sum over all of
// min(want, level) is at most free. left is what stays over when all are met;
// the level is then no bound.
func (s *scope) water(free int64, want func(*stake) int64) (upTo, left int64) {
	free = max(free, 0)
	met := int64(-1) // wants up to here are met
	for {
		var n, sum int64 // of those above
		below := int64(0)
		for _, k := range s.stakes {
			if !k.sends() {
				continue
			}
			switch w := want(k); {
			case w <= met || w == 0:
				below += w
			default:
				n++
				sum += w
			}
		}
		rest := free - below
		if n == 0 {
			return math.MaxInt64, max(rest, 0)
		}
		next := rest / n
		if next*n >= sum {
			return math.MaxInt64, rest - sum
		}
		// All that want no more than the even part are met; if there is none,
		// the even part is the level.
		if next <= met || !s.anyBetween(met, next, want) {
			return next, 0
		}
		met = next
	}
}

func (s *scope) anyBetween(over, upTo int64, want func(*stake) int64) bool {
	for _, k := range s.stakes {
		if w := want(k); w > max(over, 0) && w <= upTo && k.sends() {
			return true
		}
	}
	return false
}

// targetShare is what a stake should have above its floor.
func (k *stake) targetShare(now time.Time) int64 {
	if !k.sends() {
		return 0
	}
	t := min(k.want.share, k.level.share)
	if k.recent(now) {
		t += k.spareShare
	}
	return t
}

func (k *stake) targetConns(now time.Time) int64 {
	if !k.sends() {
		return 0
	}
	t := min(k.want.conns, k.level.conns)
	if k.recent(now) {
		t += k.spareConns
	}
	return t
}

// grant is what a stake gets in this answer.
func (l *Ledger) grant(now time.Time, k *stake) part {
	room := k.room()
	if !l.settled {
		// Nobody gets more than it has.
		return k.floor.add(k.held.max(k.cur).sub(k.floor).within(room))
	}
	k.relevel(now)
	t := part{share: k.targetShare(now), conns: k.targetConns(now)}
	if k.sends() && (k.recent(now) || t.share > 0) {
		// One of each thing that its floor lacks, and of the rest as of shares.
		free := k.whole.sub(k.floors)
		part := t.share
		if k.whole.share == 0 {
			part = 0
		}
		t.burst = one(k.floor.burst == 0 && k.whole.burst > 0) + portion(free.burst-k.single.burst, part, k.total)
		t.link = one(k.floor.link == 0 && k.whole.link > 0) + portion(free.link-k.single.link, part, k.total)
		if k.whole.conns > 0 {
			t.conns = max(t.conns, one(k.floor.conns == 0))
		}
	}
	g := k.floor.add(t.within(room))
	return k.useful(now, g)
}

// portion is the part of free that belongs to a share of all shares.
func portion(free, share, of int64) int64 {
	if free <= 0 || share <= 0 || of <= 0 {
		return 0
	}
	return int64(float64(free) * (float64(min(share, of)) / float64(of)))
}

// within is p bounded by what there is, and never negative.
func (p part) within(room part) part {
	return part{
		max(min(p.share, room.share), 0), max(min(p.burst, room.burst), 0),
		max(min(p.link, room.link), 0), max(min(p.conns, room.conns), 0),
	}
}

// useful takes back a grant with which nothing could be sent, since something
// that is needed is still with another node.
func (k *stake) useful(now time.Time, g part) part {
	if k.whole.burst > 0 && g.burst == 0 || k.whole.link > 0 && g.link == 0 || k.whole.conns > 0 && g.conns == 0 {
		return k.floor
	}
	if k.turn == holding && k.turnSince.IsZero() {
		k.turnSince = now
	}
	return g
}
