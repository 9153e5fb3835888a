package steer

import (
	"fmt"
	"math"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

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
// to a few dozen. What makes a message or two more in that time may as well be
// twice the rate.
func stride(rate float64) float64 {
	return max(min(0.25*rate, max(0.5, 0.1*rate), max(10, 0.05*rate)), min(freeStep, rate))
}

// toSee is how many messages show whether a carrier takes a rate that is higher by
// a step: it may let a few pass beyond its limit first, and the smaller the step
// is, the longer they last.
func toSee(rate, step float64) float64 {
	if step <= 0 {
		return sureMessages
	}
	return min(fewMessages+burstMessages*rate/step, sureMessages)
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
	if most := l.at.most; most > 0 && l.perSecond >= most {
		return
	}
	near := l.knee == 0 || l.perSecond >= nearKnee*l.knee
	every := l.every(l.perSecond, fewMessages)
	if l.knee == 0 || l.perSecond >= 0.999*plateau*l.knee {
		every = l.every(l.perSecond, sureMessages)
	}
	if l.knee == 0 || l.held >= 2 { // the limit is not near, or not known
		every = max(cfg.Every.D()/3, l.span(toSee(l.perSecond, l.step)))
	}
	if t.since(l.changed) < max(every, roundTrip) || l.seen.delivered == 0 {
		return
	}
	if float64(l.seen.signs) > l.chance(t)*float64(l.seen.attempts)+0.5 && (l.probing || t.since(l.signAt) < max(every, roundTrip)) {
		// Not enough to go down, but no reason to go up: more evidence tells. Below the
		// knee as long a time without any does so too, since one stray sign outweighs a
		// hundred messages.
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
	if l.held > 0 && to >= 1.25*l.told {
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
		l.good, l.step = now, stride(now)
		return now + l.step
	case l.probing: // the last step held: the limit is not where it was
		l.good, l.knee = now, now
		if l.held++; l.held == 2 {
			l.at.risen = t
		}
		l.wait = firstWait * l.at.cfg.Every.D()
		l.step = min(2*l.step, stride(now))
		if l.past > 0 && t.since(l.pastAt) < pastFor {
			// It was a passing weakness: back towards what was before, though not by so
			// much that a carrier that is still weak would block.
			l.step = max(l.step, min(0.5*(nearKnee*l.past-now), now, mostBack))
		}
		return now + l.step
	}
	l.good = now
	if now < plateau*l.knee*0.999 {
		return min(now+max(l.probe(), 0.04*l.knee), plateau*l.knee)
	}
	if l.probeAt == 0 {
		l.probeAt = t.add(max(l.wait, min(worthCost*l.lost, longestWait)))
		l.failed, l.lost = false, 0
	}
	l.changed, l.seen = t, evidence{from: t}
	if t < l.probeAt && !l.news() {
		return 0
	}
	l.heard = t
	l.probeAt, l.probing, l.step = 0, true, l.probe()
	return now + l.step
}

// news reports whether the carrier has begun to take more from another source since
// this one last looked: then to look again is worth it, since many change their mind
// about all sources of ours at once.
func (l *lane) news() bool {
	return l.at.name != policy.DefaultName && l.at.risen > l.heard
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
	l.fit()
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
