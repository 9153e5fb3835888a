package steer

import (
	"fmt"
	"math"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// tooFast slows a lane whose signs are more than chance.
func (c *Controller) tooFast(e *laneEntry, t instant) bool {
	l := &e.value
	chance := l.chance(t)
	v, span := l.recent(c.ticks)
	if !excess(v.signs, v.attempts, chance) {
		v, span = l.seen, t.since(l.seen.from)
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
	if share >= refusedAll && (v.attempts >= 5 || l.idle(&v, span) || l.hits > 1 || v.disliked >= 2) {
		c.rest(e, t, "refuses-all", why)
		return true
	}
	if l.perSecond > 0 && l.perSecond <= 1.05*l.at.floor {
		l.failed, l.lost, l.probing = false, 0, false // a limit below the floor, and not the price of a probe
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

// idle reports whether far less was tried than the rate allows: what is refused
// then is not refused for the rate, and less of it would be refused too.
func (l *lane) idle(v *evidence, span time.Duration) bool {
	return 4*float64(v.attempts) < l.perSecond*span.Seconds()
}

// softly reports whether the signs of this tick speak of trouble of the carrier's
// own.
func (l *lane) softly(tick int64) bool {
	s := &l.ring[tick%ringSlots]
	return s.tick == tick && (s.soft > 0 || s.trouble > 0)
}

// stepBack is the knee, and the rate to go to, after a step too far, or where the
// limit is a little lower than it was: the carrier took nearly all. Half of the
// decrease is enough to let it forget that. The limit is between the rate that held
// and this one.
func (l *lane) stepBack(took, share, keep float64, sure bool) (knee, to float64) {
	knee = took
	few := !sure && share < 0.1 // then the limit is close to what was tried
	if few {
		knee = max(took, (1-share)*l.perSecond)
	} else if !sure {
		knee = max(took, 0.9*(1-share)*l.perSecond)
	}
	if l.probing {
		knee = max(knee, min(l.good, l.perSecond))
	}
	to = knee * (1 + keep) / 2
	if l.probing && !sure || share < 0.1 {
		to = max(to, nearKnee*knee) // it was a message or two
	}
	return knee, to
}

// keeps is the part of what the carrier took that is left by a decrease, of being
// the number of messages that it was measured on. What was measured on many is known
// to a few percent, and little needs to be given up to be below it.
func (l *lane) keeps(of uint32) float64 {
	if own := l.at.cfg.Decrease; own > 0 {
		return float64(own) / 100
	}
	const keep = policy.DefaultDecrease / 100.0
	return keep + (wellKnown-keep)*min(1, float64(of)/manyMessages)
}

// cut is the multiplicative decrease.
func (c *Controller) cut(e *laneEntry, t instant, share float64, why string) {
	l, cfg := &e.value, e.value.at.cfg
	took, of := l.accepted(t, c.ticks)
	keep, sure := l.keeps(of), of > 0
	if sure && took == 0 && share > 0 && !l.softly(c.ticks) {
		c.rest(e, t, "refuses-all", why+"; since the first of them none was delivered")
		return
	}
	before := l.perSecond
	if before > 0 {
		took = min(took, before)
	}
	rule, knee, to := "throttled", took, keep*took
	if l.good > 0 && share < 0.3 && (!sure || took > 0.7*before) {
		rule = "step-too-far"
		knee, to = l.stepBack(took, share, keep, sure)
	}
	every := cfg.Every.D()
	if l.knee > 0 && knee < 0.7*l.knee {
		if l.knee >= l.past || t.since(l.pastAt) >= pastFor {
			l.past, l.pastAt = l.knee, t
		}
		// The limit is not where it was: what follows is not the price of a probe.
		l.failed, l.lost = false, 0
	}
	if l.knee > 0 && math.Abs(knee-l.knee) < (0.1+1/math.Sqrt(sureMessages+knee*every.Seconds()))*l.knee {
		l.wait = min(2*max(l.wait, firstWait*every/2), lastWait*every)
	} else {
		l.wait = firstWait * every
	}
	l.knee, l.heard = max(knee, l.at.floor), t
	if rule == "throttled" {
		l.good, l.told = 0, 0
	}
	to = max(to, l.at.floor)
	if before > 0 {
		to = min(to, before)
	}
	l.failed = l.failed || l.probing
	l.probing, l.held, l.trouble = false, 0, false
	l.cutShare, l.cutFrom = share, max(before, took)
	l.change(t, c.ticks, to)
	l.state = slowed
	c.decided(e, t, keyspace.Decision{
		Action: "slow", From: rateText(before), To: rateText(to), Rule: rule,
		Why: fmt.Sprintf("%s; it took %.3g/s meanwhile", why, took),
	})
}
