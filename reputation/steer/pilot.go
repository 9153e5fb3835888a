package steer

import (
	"fmt"
	"math"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// What the controller of a rate does by itself; the rest is policy.Steer.
const (
	// settleLeast and settleMost bound how long after a decrease signs count as
	// those of mail that was sent before it. It ends as soon as attempts have come
	// down to the new rate.
	settleLeast = time.Second
	settleMost  = 6 * time.Second
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
	// worthCost is how much longer than the last probe cost the next one waits, up
	// to longestWait: so probes cost a twentieth, also where carriers punish them.
	worthCost   = 20
	longestWait = 6 * time.Hour
	// pastFor is how long a knee of before is worth going back to at once, when the
	// one after it does not hold.
	pastFor = 2 * time.Hour
	// leastStep is that of rates so low that nothing smaller would be seen.
	leastStep = 0.5 / 60
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
	lastCut   instant
	probing   bool
	probeAt   instant
	wait      time.Duration
	step      float64 // the next one beyond the knee, in messages a second
	held      int     // steps beyond it that held
	told      float64 // the rate of the last raise that was recorded
	good      float64 // the highest rate that held since it was last too much
	past      float64 // the knee before one that is far lower, and until when
	pastAt    instant
	lost      time.Duration // what falling below the knee has cost, in time at the knee
	cutShare  float64       // the part of signs at the last decrease, and the rate before it
	cutFrom   float64
	sameShare int     // times in a row that it was the same at a lower rate
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
	if l.cutShare == 0 || n < 100 || share > mostNoise || l.perSecond > 0.85*l.cutFrom || share < 0.6*l.cutShare || share > 1.25*l.cutShare {
		l.sameShare = 0
		return false
	}
	if l.sameShare++; l.sameShare < 2 {
		return false // a limit that fell meanwhile looks the same, but not twice
	}
	l.noise, l.noiseAt, l.cutShare, l.sameShare = 1.5*share, t, 0, 0
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
	if fresh {
		l.seen.add(s)
	}
	if old := t.since(l.seen.from); l.perSecond == 0 && (old > 10*time.Minute || old > time.Minute && l.seen.attempts > 20) {
		l.seen = evidence{from: t}
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
		l.lost += c.span
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

// charge adds up what it costs to be below the knee.
func (l *lane) charge(span time.Duration) {
	if l.knee <= 0 || l.state == healthy {
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

// tooFast slows a lane whose signs are more than chance.
func (c *Controller) tooFast(e *laneEntry, t instant) bool {
	l := &e.value
	chance := l.chance(t)
	v, _ := l.recent(c.ticks)
	if !excess(v.signs, v.attempts, chance) {
		v = l.seen
		if !excess(v.signs, v.attempts, chance) {
			return false
		}
	}
	share := float64(v.signs) / float64(max(1, v.attempts))
	if l.isNoise(t, share, v.attempts) {
		l.seen, l.clean = evidence{from: t}, c.ticks
		return false
	}
	l.lastSign, l.probeAt = t, 0
	if l.lastCut != 0 && t.since(l.lastCut) < 2*l.every(l.perSecond, fewMessages) {
		l.hits++
	} else {
		l.hits = 1
	}
	l.lastCut = t
	why := fmt.Sprintf("%d of %d replies said too much (rate or reputation); chance allows %.0f", v.signs, v.attempts, allowed(v.attempts, chance))
	if 2*v.soft > v.signs {
		c.cut(e, t, share, why+"; most spoke of trouble of the carrier's own")
		return true
	}
	if share >= refusedAll && (v.attempts >= 5 || l.hits > 1 || v.disliked >= 2) {
		c.rest(e, t, "refuses-all", why)
		return true
	}
	if l.perSecond > 0 && l.perSecond <= 1.05*l.at.floor {
		c.rest(e, t, "signs-at-the-floor", why+" at the least rate")
		return true
	}
	if l.hits >= hitsToRest {
		c.rest(e, t, "signs-go-on", fmt.Sprintf("%s; the %dth time in a row", why, l.hits))
		return true
	}
	c.cut(e, t, share, why)
	return true
}

// cut is the multiplicative decrease.
func (c *Controller) cut(e *laneEntry, t instant, share float64, why string) {
	l, cfg := &e.value, e.value.at.cfg
	keep := float64(cfg.Decrease) / 100
	took, sure := l.accepted(t, c.ticks)
	before := l.perSecond
	if before > 0 {
		took = min(took, before)
	}
	rule, knee, to := "throttled", took, keep*took
	if l.good > 0 && share < 0.3 && (!sure || took > 0.7*before) {
		// A step too far, or a limit that is a little lower than it was: the carrier
		// took nearly all. Half of the decrease is enough to let it forget that. The
		// limit is between the rate that held and this one.
		rule = "step-too-far"
		if !sure {
			knee = max(took, 0.9*(1-share)*before)
		}
		if l.probing {
			knee = max(knee, min(l.good, before))
		}
		to = knee * (1 + keep) / 2
	}
	every := cfg.Every.D()
	if l.knee > 0 && knee < 0.7*l.knee {
		l.past, l.pastAt = l.knee, t
	}
	if l.knee > 0 && math.Abs(knee-l.knee) < (0.1+1/math.Sqrt(sureMessages+knee*every.Seconds()))*l.knee {
		l.wait = min(2*max(l.wait, firstWait*every/2), lastWait*every)
	} else {
		l.wait = firstWait * every
	}
	l.knee = max(knee, l.at.floor)
	if rule == "throttled" {
		l.good = 0
	}
	to = max(to, l.at.floor)
	if before > 0 {
		to = min(to, before)
	}
	l.probing, l.held, l.trouble = false, 0, false
	l.cutShare, l.cutFrom = share, max(before, took)
	l.change(t, c.ticks, to)
	l.state = slowed
	c.decided(e, t, keyspace.Decision{
		Action: "slow", From: rateText(before), To: rateText(to), Rule: rule,
		Why: fmt.Sprintf("%s; it took %.3g/s meanwhile", why, took),
	})
}

// every is how long a rate must hold to be believed: as policy says, and long
// enough for so many messages.
func (l *lane) every(perSecond float64, messages float64) time.Duration {
	if perSecond <= 0 {
		return l.at.cfg.Every.D()
	}
	return max(l.at.cfg.Every.D(), spanOf(messages, perSecond))
}

// span is how long so many messages take now.
func (l *lane) span(messages float64) time.Duration { return spanOf(messages, l.perSecond) }

// spanOf is at most an hour.
func spanOf(messages, perSecond float64) time.Duration {
	return time.Duration(min(messages/perSecond, 3600) * float64(time.Second))
}

// stride is the largest step upwards from a rate: what it exceeds an unknown
// limit by is refused until the control has come round, and some carriers count
// to a few dozen.
func stride(rate float64) float64 {
	return max(min(0.25*rate, max(10, 0.05*rate)), min(leastStep, rate))
}

// probe is the first step beyond a known limit.
func (l *lane) probe() float64 {
	return max(min(l.knee*float64(l.at.cfg.Increase)/100, max(2, 0.01*l.knee)), min(leastStep, l.knee))
}

// rise takes the next step upwards, if the rate has held without a sign.
func (c *Controller) rise(e *laneEntry, t instant) {
	l, cfg := &e.value, e.value.at.cfg
	if l.perSecond == 0 {
		return
	}
	if l.lastSign != 0 && t.since(l.lastSign) > l.remembers(e) {
		c.forget(e, t)
		return
	}
	near := l.knee == 0 || l.perSecond >= nearKnee*l.knee
	every := l.every(l.perSecond, fewMessages)
	if l.knee == 0 || l.perSecond >= 0.999*plateau*l.knee {
		every = l.every(l.perSecond, sureMessages)
	}
	if l.knee == 0 || l.held >= 2 { // the limit is not near, or not known
		every = max(cfg.Every.D()/3, l.span(sureMessages))
	}
	if t.since(l.changed) < every || l.seen.delivered == 0 {
		return
	}
	if float64(l.seen.signs) > l.chance(t)*float64(l.seen.attempts)+0.5 {
		// Not enough to go down, but no reason to go up: more evidence tells.
		if t.since(l.seen.from) > max(longLook, 2*every) {
			l.changed, l.seen = t, evidence{from: t}
		}
		return
	}
	to := l.next(t, near)
	if to <= l.perSecond {
		return
	}
	l.hits = 0
	if l.at.ceiling > 0 && to >= l.at.ceiling {
		c.recover(e, t, "at-the-ceiling", "no sign at "+rateText(l.perSecond))
		return
	}
	if l.held == 1 || l.held > 1 && to >= 1.5*l.told {
		c.raised(e, t, to)
	}
	l.change(t, c.ticks, to)
	c.mark(e)
}

// next is the rate of the next step; not more than the rate now for none.
func (l *lane) next(t instant, near bool) float64 {
	now := l.perSecond
	used := float64(l.seen.attempts) >= 0.7*now*t.since(l.seen.from).Seconds()
	switch {
	case !near:
		return min(2*now, nearKnee*l.knee)
	case !used: // what nobody asks for proves nothing
		return 0
	case l.knee == 0: // on from the start
		l.good = now
		return now + stride(now)
	case l.probing: // the last step held: the limit is not where it was
		l.good, l.knee = now, now
		l.held++
		l.wait = firstWait * l.at.cfg.Every.D()
		l.step = min(2*l.step, stride(now))
		if l.past > 0 && t.since(l.pastAt) < pastFor {
			// It was a passing weakness: back towards what was before.
			l.step = max(l.step, min(0.5*(nearKnee*l.past-now), now))
			l.past = 0
		}
		return now + l.step
	}
	l.good = now
	if now < plateau*l.knee*0.999 {
		return min(now+max(l.probe(), 0.04*l.knee), plateau*l.knee)
	}
	if l.probeAt == 0 {
		l.probeAt = t.add(max(l.wait, min(worthCost*l.lost, longestWait)))
		l.lost = 0
	}
	l.changed, l.seen = t, evidence{from: t}
	if t < l.probeAt {
		return 0
	}
	l.probeAt, l.probing, l.step = 0, true, l.probe()
	return now + l.step
}

// raised records that a carrier takes more than it did.
func (c *Controller) raised(e *laneEntry, t instant, to float64) {
	l := &e.value
	l.told = to
	c.decided(e, t, keyspace.Decision{
		Action: "raise", From: rateText(l.perSecond), To: rateText(to), Rule: "step-held",
		Why: fmt.Sprintf("%d of %d delivered at %s and no sign in %s", l.seen.delivered, l.seen.attempts, rateText(l.perSecond), t.since(l.seen.from).Round(time.Second)),
	})
}

// remembers is how long what was learnt counts without another sign. Sites of
// the default carrier are many.
func (l *lane) remembers(e *laneEntry) time.Duration {
	if e.key.site != "" {
		return siteMemory
	}
	return memory
}

// forget ends what was decided long ago.
func (c *Controller) forget(e *laneEntry, t instant) {
	l := &e.value
	why := "nothing was seen for long"
	if l.lastSign != 0 {
		why = "no sign since " + l.lastSign.time().Format(time.RFC3339)
	}
	l.knee, l.wait, l.lastSign = 0, 0, 0
	if l.at.start == 0 {
		c.recover(e, t, "no-sign-for-long", why)
		return
	}
	from := l.state.String()
	l.state = slowed
	l.change(t, c.ticks, max(l.perSecond, l.at.start))
	l.settling = false
	c.decided(e, t, keyspace.Decision{Action: "recover", From: from, To: policy.StateSlowed, Rule: "no-sign-for-long", Why: why + "; on as from a start"})
}

// recover takes the bounds of rate and connections away.
func (c *Controller) recover(e *laneEntry, t instant, rule, why string) {
	l := &e.value
	from := l.state.String()
	l.change(t, c.ticks, 0)
	l.settling, l.probing, l.trouble = false, false, false
	l.state = healthy
	if l.conns > 0 {
		l.state = slowed
	}
	c.decided(e, t, keyspace.Decision{Action: "recover", From: from, To: l.state.String(), Rule: rule, Why: why})
}

// rateText is a rate as people write it.
func rateText(v float64) string {
	if v == 0 {
		return "unbounded"
	}
	return rateOf(v).String()
}

// rateOf is a rate in the largest unit that has three digits for it.
func rateOf(v float64) *policy.Rate {
	for _, per := range [...]time.Duration{time.Second, time.Minute, time.Hour} {
		if n := v * per.Seconds(); n >= 100 {
			return &policy.Rate{N: int64(math.Floor(n)), Per: per}
		}
	}
	day := 24 * time.Hour
	return &policy.Rate{N: max(1, int64(math.Floor(v*day.Seconds()))), Per: day}
}
