package steer

import (
	"fmt"
	"math"
	"time"

	"hikyaku/controlplane/policy"
)

// What the controller of a rate does by itself; the rest is policy.Steer.
const (
	// settleLeast and settleMost bound how long after a decrease signs count as
	// those of mail that was sent before it. It ends as soon as attempts have come
	// down to the new rate.
	settleLeast = time.Second
	settleMost  = 6 * time.Second
	// roundTrip is the time from a step to the first signs of it: a second on the
	// node, one at the leader, one back, and that of the replies. A step is never
	// taken on a shorter look.
	roundTrip = 5 * time.Second
	// lookTicks is the look back for sudden signs.
	lookTicks = 5
	// nearKnee is the part of the knee that is gone back to at once, and plateau
	// the part at which the rate stays until the next probe.
	nearKnee, plateau = 0.9, 0.98
	// firstWait and lastWait are the time at the plateau before a probe, in spans of
	// Every: it doubles each time that the probe finds the limit where it was.
	firstWait, lastWait = 4, 32
	// fewMessages and sureMessages are what it takes to believe in a rate, far below
	// the knee and near it.
	fewMessages, sureMessages = 5, 20
	// wellKnown is the part that is kept of a knee that was measured on manyMessages,
	// where policy says nothing.
	wellKnown, manyMessages = 0.8, 30
	// worthCost is how much longer than the last probe cost the next one waits, up
	// to longestWait: so probes cost a twentieth, also where carriers punish them.
	worthCost   = 20
	longestWait = 6 * time.Hour
	// pastFor is how long a knee of before is worth going back to at once, when the
	// one after it does not hold.
	pastFor = 2 * time.Hour
	// mostBack is the largest step of such a return, in messages a second.
	mostBack = 2
	// burstMessages is what carriers let pass at once beyond their limit.
	burstMessages = 3
	// leastStep is that of rates so low that nothing smaller would be seen, and
	// freeStep one that is a message more before the control has come round.
	leastStep = 0.5 / 60
	freeStep  = 0.25
	// refusedAll is the part of signs that says that not the excess is refused, but
	// everything.
	refusedAll = 0.9
	// hitsToRest decreases with no calm between them make a rest.
	hitsToRest = 5
	// memory is how long a knee is believed without signs.
	memory     = 24 * time.Hour
	siteMemory = 2 * time.Hour // at a site of the default carrier
	// noise is the part of signs that chance makes: some carriers put off a few of
	// a thousand whatever the rate is. Where it is more, up to mostNoise, that shows
	// by a part that does not fall with the rate; it is believed for noiseFor.
	noise, mostNoise = 0.005, 0.1
	noiseFor         = 6 * time.Hour
	// longLook is how much evidence is gathered at most before it begins anew.
	longLook = 15 * time.Minute
)

// pilot is the control of one rate.
type pilot struct {
	perSecond float64 // 0 is not bounded
	knee      float64 // where the carrier last throttled; 0 is not known
	changed   instant
	clean     int64 // ticks up to here tell of mail before the change
	settling  bool
	hits      int     // decreases in a row
	lastSign  instant // that counted
	signAt    instant // the last one of all
	lastCut   instant
	probing   bool
	probeAt   instant
	heard     instant // of what other sources of ours found at the carrier
	wait      time.Duration
	step      float64 // the next one beyond the knee, in messages a second
	held      int     // steps beyond it that held
	told      float64 // the rate of the last raise that was recorded: not each is
	good      float64 // the highest rate that held since it was last too much
	past      float64 // the knee before one that is far lower, and until when
	pastAt    instant
	failed    bool          // the last probe, and the rate is not back where it was
	lost      time.Duration // what that has cost, in time at the knee
	cutShare  float64       // the part of signs at the last decrease, and the rate before it
	cutFrom   float64
	sameShare int     // times in a row that it was the same at a lower rate, and the
	sameFrom  float64 // rate before them
	noise     float64 // the part of signs that did not follow the rate
	noiseAt   instant
	trouble   bool    // the carrier's own, which the rate is lowered for
	ahead     float64 // the rate before that
	peak      float64 // and the attempts then
}

// excess reports whether so many signs among n are more than chance makes.
func excess(signs, n uint32, chance float64) bool {
	return signs >= 2 && float64(signs) > allowed(n, chance)
}

// allowed is how many signs among n chance makes: the mean, two standard
// deviations of a Poisson process, and one.
func allowed(n uint32, chance float64) float64 {
	mean := chance * float64(n)
	return 1 + mean + 2*math.Sqrt(mean)
}

// chance is the part of signs that does not follow the rate.
func (l *lane) chance(t instant) float64 {
	if l.noiseAt != 0 && t.since(l.noiseAt) < noiseFor {
		return max(noise, l.noise)
	}
	return noise
}

// isNoise reports whether signs came as often at a much higher rate: then it is
// not the rate that makes them.
func (l *lane) isNoise(t instant, share float64, n uint32) bool {
	if l.cutShare == 0 || n < 50 || share > mostNoise || l.perSecond > 0.85*l.cutFrom || share < 0.6*l.cutShare || share > 1.25*l.cutShare {
		l.sameShare = 0
		return false
	}
	if l.sameShare++; l.sameShare == 1 {
		l.sameFrom = l.cutFrom
	}
	if l.sameShare < 2 {
		return false // a limit that fell meanwhile looks the same, but not twice
	}
	l.noise, l.noiseAt, l.cutShare, l.sameShare = 1.5*share, t, 0, 0
	l.knee, l.wait = max(l.knee, l.sameFrom), 0 // what was taken for a limit was none
	return true
}

// change sets the rate. After a decrease signs do not count until it has taken
// hold.
func (l *lane) change(t instant, tick int64, to float64) {
	l.settling = l.perSecond == 0 || to < l.perSecond
	l.perSecond = to
	l.changed = t
	l.clean = tick
	l.seen = evidence{from: t}
}

// look counts this tick as evidence, if it is any.
func (l *lane) look(t instant, tick int64) {
	s := &l.ring[tick%ringSlots]
	fresh := s.tick == tick
	if l.settling {
		since := t.since(l.changed)
		slow := !fresh || float64(s.attempts) <= 1.25*l.perSecond*s.span.Seconds()+1
		if since < settleLeast || !slow && since < settleMost {
			return
		}
		l.settling = false
		l.clean = tick
		l.seen = evidence{from: t}
		return
	}
	if old := t.since(l.seen.from); l.perSecond == 0 && (old > 10*time.Minute || old > time.Minute && l.seen.attempts > 20) {
		l.seen = evidence{from: t}
	}
	if fresh {
		l.seen.add(s)
		if s.signs > 0 {
			l.signAt = t
		}
	}
}

// recent is what was seen in the last few ticks that count.
func (l *lane) recent(tick int64) (evidence, time.Duration) {
	return l.last(tick, max(0, min(lookTicks, tick-l.clean)))
}

// steerLane decides about one lane.
func (c *Controller) steerLane(e *laneEntry, t instant) {
	l := &e.value
	if l.at.mode == policy.ModeOff {
		return
	}
	switch l.state {
	case retired:
		return
	case resting, blockedOut:
		if l.failed {
			l.lost += c.span
		}
		if t >= l.until {
			c.tryAgain(e, t)
		}
		return
	}
	l.look(t, c.ticks)
	l.charge(c.span)
	c.valve(e, t)
	if l.settling {
		c.turnedAway(e, t)
		return
	}
	switch {
	case l.state == trial:
		c.judgeTrial(e, t)
	case l.quiet() || !c.hasRoom(e):
	case c.refuses(e, t):
	case c.outage(e, t):
	case c.tooFast(e, t):
	default:
		c.rise(e, t)
	}
}

// charge adds up what a failed probe costs.
func (l *lane) charge(span time.Duration) {
	if !l.failed || l.knee <= 0 {
		return
	}
	if part := l.perSecond / l.knee; part < nearKnee+0.05 {
		l.lost += time.Duration((1 - part) * float64(span))
	}
}

// turnedAway rests a lane of which everything is refused while a decrease takes
// hold: whenever it was sent, less of it would be refused too.
func (c *Controller) turnedAway(e *laneEntry, t instant) {
	l := &e.value
	s := &l.ring[c.ticks%ringSlots]
	if l.state == slowed && s.tick == c.ticks && s.delivered == 0 && s.signs >= 5 && 10*s.signs >= 9*s.attempts {
		l.lastSign, l.probeAt = t, 0
		c.rest(e, t, "refuses-all", fmt.Sprintf("%d of %d replies said too much, and none was delivered", s.signs, s.attempts))
	}
}

// quiet reports whether a lane has neither bounds nor signs: most have not.
func (l *lane) quiet() bool {
	if l.state != healthy {
		return false
	}
	v := l.seen
	return v.signs+v.blockeds+v.troubles == 0
}
