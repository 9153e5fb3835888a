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

// levelAge is how old a level may be, and fewStakes how many there may be for it
// to be worked out more often.
const (
	levelAge  = 500 * time.Millisecond
	fewStakes = 32
)

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
func (l *Ledger) relevel(now time.Time, s *scope) {
	fresh := !s.levelAt.IsZero() && now.Sub(s.levelAt) < levelAge
	if fresh && (s.since*8 <= len(s.stakes) || len(s.stakes) > fewStakes) {
		return
	}
	s.levelAt, s.since = now, 0
	var recents int64
	s.single = part{}
	l.shares, l.conns = l.shares[:0], l.conns[:0]
	for _, k := range s.stakes {
		if !k.sends() {
			continue
		}
		if k.want.share > 0 {
			l.shares = append(l.shares, k.want.share)
		}
		if k.want.conns > 0 {
			l.conns = append(l.conns, k.want.conns)
		}
		if k.recent(now) {
			recents++
			s.single = s.single.add(part{0, one(k.floor.burst == 0), one(k.floor.link == 0), one(k.floor.conns == 0)})
		}
	}
	free := s.whole.sub(s.floors)
	var left int64
	s.share, left = water(free.share, l.shares)
	s.spareShare = spare(left, recents)
	s.total = max(free.share-left, 0) + s.spareShare*recents
	s.conns, left = water(free.conns, l.conns)
	s.spareConns = spare(left, recents)
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
// the level is then no bound. It changes the order of wants.
func water(free int64, wants []int64) (level, left int64) {
	free = max(free, 0)
	for len(wants) > 0 {
		even := free / int64(len(wants))
		above := wants[:0]
		for _, w := range wants {
			if w <= even {
				free -= w
			} else {
				above = append(above, w)
			}
		}
		if len(above) == len(wants) {
			return even, 0
		}
		wants = above
	}
	return math.MaxInt64, free
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
		return k.atLeastSure(k.floor.add(k.held.max(k.cur).sub(k.floor).within(room)))
	}
	l.relevel(now, k.scope)
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
	if !l.counted {
		t.conns = min(t.conns, max(k.held.conns, k.cur.conns, k.open)-k.floor.conns)
	}
	return k.useful(now, k.atLeastSure(k.floor.add(t.within(room))))
}

// within is p bounded by what there is. That may be less than nothing, where
// policy has lowered the limit or somebody's floor is to be raised.
func (p part) within(room part) part { return p.max(part{}).min(room) }

// atLeastSure is g, or what the node has without asking anybody.
func (k *stake) atLeastSure(g part) part {
	if g == g.max(k.floor) {
		return g // the usual case
	}
	return g.max(k.sure())
}

func (p part) min(o part) part {
	return part{min(p.share, o.share), min(p.burst, o.burst), min(p.link, o.link), min(p.conns, o.conns)}
}

// portion is the part of free that belongs to a share of all shares.
func portion(free, share, of int64) int64 {
	if free <= 0 || share <= 0 || of <= 0 {
		return 0
	}
	return int64(float64(free) * (float64(min(share, of)) / float64(of)))
}

// useful takes back a grant with which nothing could be sent, since something
// that is needed is still with another node.
func (k *stake) useful(now time.Time, g part) part {
	if k.whole.burst > 0 && g.burst == 0 || k.whole.link > 0 && g.link == 0 || k.whole.conns > 0 && g.conns == 0 {
		return k.floor.min(g)
	}
	if k.turn == holding && k.turnSince.IsZero() {
		k.turnSince = now
	}
	return g
}
