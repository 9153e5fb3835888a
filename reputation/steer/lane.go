package steer

import (
	"time"

	"hikyaku/controlplane/policy"
)

// state is that of a source at a carrier; the words are policy's. Whether it is
// warming stands beside it (warmup.go).
type state uint8

const (
	healthy state = iota
	slowed
	resting
	blockedOut
	trial
	retired
)

var stateWords = [...]string{policy.StateHealthy, policy.StateSlowed, policy.StateResting, policy.StateBlocked, policy.StateTrial, policy.StateRetired}

func (s state) String() string { return stateWords[s] }

// isSign says which replies may mean that the source is too fast or not liked.
var isSign = [classes]bool{rate: true, connections: true, blocked: true, disliked: true, greylist: true, network: true, theirs: true}

// lane is what is known of one source at one carrier, or site.
type lane struct {
	touched bool
	cur     counts // since the last Decide
	at      *carrier
	nth     int64  // of all lanes
	node    string // that last told of a sign
	win     *window
	ring    [ringSlots]second
	seen    evidence // since the last change, but for what was under way then
	seenCon evidence // the same for connections
	// row and blockRow are the attempts in trouble, and those that were refused
	// for the source's reputation, since the last delivery.
	row, blockRow uint32
	fineAt        int64 // the tick of that

	state   state
	bound   bool  // in Controller.bound
	steered int64 // the last tick
	pilot         // the rate
	valve         // the connections
	penalty       // rests and blocks
	warm    *warming
	today   today

	decision, reason string // the last in force
}

// second is what one Decide saw.
type second struct {
	tick      int64
	span      time.Duration
	attempts  uint32
	delivered uint32
	signs     uint32 // of too much
	disliked  uint32 // those of them that speak of reputation
	soft      uint32 // those of them that speak of the carrier's own trouble
	conns     uint32
	blocked   uint32
	trouble   uint32 // of the network, or theirs
}

// inARow attempts in trouble and none delivered are an outage and not a sign.
const inARow = 5

// meetTrouble tells trouble that meets everything from trouble that meets a part
// of the mail. The latter is a reason to go slower whatever it is: some carriers
// say "service not available" to what is too fast. That it comes at any rate
// shows (isNoise).
func (l *lane) meetTrouble(s *second, theirs uint32) {
	if s.delivered > 0 {
		l.row, l.blockRow, l.fineAt = 0, 0, s.tick
	} else {
		l.row = min(l.row+s.trouble, maxSeen)
		l.blockRow = min(l.blockRow+s.blocked, maxSeen)
	}
	if theirs > 0 && l.row < inARow && (s.attempts < 10 || 2*theirs <= s.attempts) {
		s.signs += theirs
		s.soft += theirs
		s.trouble -= theirs
	}
}

// ringSlots is how many of them are kept: the longest look back is shorter.
const ringSlots = 16

// evidence is a sum of seconds.
type evidence struct {
	from                                                                  instant
	attempts, delivered, signs, disliked, soft, conns, blockeds, troubles uint32
}

func (v *evidence) add(s *second) {
	if v.attempts > maxSeen {
		return
	}
	v.attempts += s.attempts
	v.delivered += s.delivered
	v.signs += s.signs
	v.disliked += s.disliked
	v.soft += s.soft
	v.conns += s.conns
	v.blockeds += s.blocked
	v.troubles += s.trouble
}

// fold takes what came since the last Decide into the windows and the ring.
func (l *lane) fold(t instant, tick int64, span time.Duration) {
	n := l.cur
	l.cur = counts{}
	if l.win == nil {
		l.win = newWindow(l.nth)
	}
	l.win.add(t, &n)
	s := &l.ring[tick%ringSlots]
	*s = second{
		tick: tick, span: span, attempts: n.replies(), delivered: n[delivered],
		signs: n[rate] + n[disliked], disliked: n[disliked], conns: n[connections], blocked: n[blocked], trouble: n[network] + n[theirs],
	}
	if g := n[greylist]; g > 0 && l.greylistedForRepute() {
		s.signs += g
	}
	if g := n[rcptRate]; g > 0 && l.manyRcpts() {
		s.signs += g
	}
	l.meetTrouble(s, n[theirs])
	l.at.saw(s)
}

// greylistedForRepute tells greylisting that punishes from that of first
// contact: the source was known here, and now most of its mail is put off.
func (l *lane) greylistedForRepute() bool {
	minutes, hours := l.win.total(0), l.win.total(1)
	before, now := hours.replies()-minutes.replies(), minutes.replies()
	return before >= 200 && hours[greylist]-minutes[greylist] < before/10 && now >= 20 && minutes[greylist] > now/2
}

// manyRcpts tells recipients who get too much from a source that is too fast:
// then it is said of many.
func (l *lane) manyRcpts() bool {
	n := l.win.total(0)
	return n[rcptRate] >= 3 && 20*uint64(n[rcptRate]) >= uint64(n.replies())
}

// last sums the ring over at most so many ticks before and with this one.
func (l *lane) last(tick int64, ticks int64) (v evidence, span time.Duration) {
	for i := tick; i > tick-min(ticks, ringSlots) && i > 0; i-- {
		if s := &l.ring[i%ringSlots]; s.tick == i {
			v.add(s)
			span += s.span
		} else {
			span += time.Second
		}
	}
	return v, span
}

// accepted is the rate that the carrier took while it complained: since the
// first second with a sign in the ring. That is its limit, if it refuses only
// what is above it.
//
// of is the number of messages that it was measured on, as far as they were at one
// rate; 0 where they were few and it is a guess.
func (l *lane) accepted(t instant, tick int64) (perSecond float64, of uint32) {
	first := tick
	for i := tick; i > tick-8 && i > 0; i-- {
		if s := &l.ring[i%ringSlots]; s.tick == i && s.signs+s.blocked+s.trouble+s.conns > 0 {
			first = i
		}
	}
	v, span := l.last(tick, tick-first+1)
	if v.attempts >= 10 {
		return float64(v.delivered) / span.Seconds(), v.attempts
	}
	// Few messages: the last minutes, as many as it takes to have ten, but not those
	// in which nothing was wanted.
	took := l.win.pace(t, 10)
	if v := &l.seen; v.attempts >= 8 { // all of them at the rate in force
		took = max(took, float64(v.delivered)/max(t.since(v.from).Seconds(), 1))
	}
	if l.perSecond > 0 {
		// What a lane asked for may have been far less than it might.
		return min(max(took, l.perSecond/4), l.perSecond), 0
	}
	return took, 0
}

// carrier is what holds for all sources at a carrier.
type carrier struct {
	name    string
	cfg     *policy.Steer
	mode    string
	ceiling float64 // 0 is none
	conns   int
	floor   float64
	start   float64 // 0 is none
	most    float64 // Steer.Ceiling, where it is below the carrier's own limit; 0 is none
	// fineAt is the tick in which a source got through the last time.
	fineAt  int64
	risen   instant             // when it last took clearly more from a source than it did
	bound   int                 // lanes in Controller.bound
	replies map[string]*replies // by source
}

// saw notes what one source met in a tick.
func (k *carrier) saw(s *second) {
	if s.delivered > 0 {
		k.fineAt = s.tick
	}
}

// patience is how long a lane without a delivery waits for that of another
// source, which tells whether it is the carrier that has trouble.
const patience = 3

// verdict tells a source that is cut off from a carrier that has trouble: others
// have got through since.
func (l *lane) verdict(tick int64) (cutOff, carrierInTrouble bool) {
	if l.at.fineAt > l.fineAt+1 && tick-l.at.fineAt < troubleTicks {
		return true, false
	}
	return false, tick-l.fineAt >= patience
}

// troubleTicks is how long a delivery from another source counts.
const troubleTicks = 60

func perSecond(r *policy.Rate) float64 {
	if r == nil || r.Per <= 0 {
		return 0
	}
	return float64(r.N) / r.Per.Seconds()
}
