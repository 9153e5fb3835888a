package steer

import (
	"fmt"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// What rests and trials are, beside policy.Steer.
const (
	trialPart      = 0.05 // of the knee, at most 1/s
	trialDelivered = 5    // that end a trial
	trialLeast     = 5 * time.Second
	afterTrial     = 0.25 // of the knee
)

// penalty is how a lane is kept from a carrier that refuses all.
type penalty struct {
	until  instant // of a rest
	rests  int     // in a row
	blocks int
	calm   instant // when the last one ended
}

// again is how long the nth rest in a row is.
func again(first time.Duration, n int, most time.Duration) time.Duration {
	for range n - 1 {
		if first *= 2; first >= most {
			return most
		}
	}
	return min(first, most)
}

// refuses blocks a lane that the carrier refuses for its reputation: twice with
// nothing delivered in between, or a tenth of all. A single such reply among
// others may be about its message.
func (c *Controller) refuses(e *laneEntry, t instant) bool {
	l := &e.value
	v, _ := l.recent(c.ticks)
	many := func(v evidence) bool { return v.blockeds >= 2 && 10*v.blockeds >= v.attempts }
	if !many(v) {
		if v = l.seen; !many(v) && l.blockRow < 2 {
			return false
		}
	}
	c.block(e, t, fmt.Sprintf("%d of %d replies refuse the source for its reputation", v.blockeds, v.attempts))
	return true
}

// block keeps the lane from the carrier for long.
func (c *Controller) block(e *laneEntry, t instant, why string) {
	l := &e.value
	l.forgive(t)
	l.blocks++
	c.pause(e, t, blockedOut, again(l.at.cfg.Rest.D(), l.blocks, policy.MaxRest), keyspace.Decision{Action: "block", Rule: "blocked", Why: why})
}

// rest keeps it from the carrier for a while.
func (c *Controller) rest(e *laneEntry, t instant, rule, why string) {
	l := &e.value
	l.forgive(t)
	l.rests++
	span := again(2*l.at.cfg.Every.D(), l.rests, max(l.at.cfg.Rest.D(), 2*l.at.cfg.Every.D()))
	c.pause(e, t, resting, span, keyspace.Decision{Action: "rest", Rule: rule, Why: why})
}

// forgive makes rests short again after a long time without.
func (l *lane) forgive(t instant) {
	if l.calm == 0 {
		return
	}
	each := max(2*l.at.cfg.Rest.D(), time.Minute)
	for quiet := t.since(l.calm); quiet >= each && l.rests+l.blocks > 0; quiet -= each {
		l.rests, l.blocks = max(0, l.rests-1), max(0, l.blocks-1)
	}
}

func (c *Controller) pause(e *laneEntry, t instant, to state, span time.Duration, d keyspace.Decision) {
	l := &e.value
	if l.knee == 0 {
		v, span := l.last(c.ticks, ringSlots)
		l.knee = max(l.at.floor, max(float64(v.delivered), 0.05*float64(v.attempts))/max(span.Seconds(), 1))
	}
	l.failed = l.failed || l.probing
	l.probing, l.hits, l.trouble = false, 0, false
	l.wait, l.probeAt, l.held, l.good = max(l.wait, firstWait*l.at.cfg.Every.D()), 0, 0, 0
	if asked := l.at.asked(e.key.source, t); asked > span {
		span = asked
		d.Why += fmt.Sprintf("; a reply asks to wait %s", asked)
	}
	d.From, d.To = l.state.String(), to.String()
	l.state = to
	l.until = (t.add(span) + instant(time.Second) - 1) / instant(time.Second) * instant(time.Second)
	l.calm = l.until
	d.Until = l.until.time()
	c.decided(e, t, d)
}

// tryAgain begins the trial after a rest.
func (c *Controller) tryAgain(e *laneEntry, t instant) {
	l := &e.value
	from := l.state.String()
	l.change(t, c.ticks, l.trialRate())
	l.settling = false
	l.state = trial
	l.until = 0
	c.decided(e, t, keyspace.Decision{
		Action: "probation", From: from, To: policy.StateTrial, Rule: "rest-is-over",
		Why: fmt.Sprintf("%s and one connection, until %d are delivered", rateText(l.perSecond), trialDelivered),
	})
}

// trialRate is the rate of the trial that follows a rest.
func (l *lane) trialRate() float64 { return max(l.at.floor, min(trialPart*l.knee, 1)) }

// judgeTrial ends a trial, for better or worse.
func (c *Controller) judgeTrial(e *laneEntry, t instant) {
	l := &e.value
	v := l.seen
	bad := v.signs + v.blockeds
	switch {
	case t.since(l.changed) > l.remembers(e):
		c.forget(e, t) // no mail came
	case v.blockeds > 0 && 2*bad > v.attempts:
		c.block(e, t, fmt.Sprintf("%d of %d replies on probation refuse the source", v.blockeds, v.attempts))
	case bad > 0 && 5*bad >= v.attempts:
		c.rest(e, t, "trial-failed", fmt.Sprintf("%d of %d replies on probation say too much", v.signs, v.attempts))
	case v.delivered >= trialDelivered && t.since(l.changed) >= trialLeast:
		from := l.perSecond
		l.change(t, c.ticks, max(afterTrial*l.knee, l.at.floor, from))
		l.state = slowed
		l.settling = false
		l.lastSign = t
		c.decided(e, t, keyspace.Decision{
			Action: "recover", From: policy.StateTrial, To: policy.StateSlowed, Rule: "trial-passed",
			Why: fmt.Sprintf("%d of %d delivered on probation; on at %s", v.delivered, v.attempts, rateText(l.perSecond)),
		})
	}
}

// outage slows all lanes of a carrier that has trouble of its own. That is no
// verdict about a source: there are no strikes, and what was goes on when it is
// over. While others get through it is this source that is cut off, which some
// carriers do in place of a reply.
func (c *Controller) outage(e *laneEntry, t instant) bool {
	l := &e.value
	v, span := l.recent(c.ticks)
	if v.attempts < 10 {
		v, span = l.seen, t.since(l.seen.from)
	}
	bad := l.row >= inARow || v.attempts >= 10 && 2*v.troubles > v.attempts
	if l.trouble && !bad {
		return c.outageOver(e, t)
	}
	if !bad {
		return false
	}
	why := fmt.Sprintf("%d of %d attempts met trouble of the network, or theirs", v.troubles, v.attempts)
	cutOff, all := l.verdict(c.ticks)
	if cutOff {
		l.lastSign = t
		c.cut(e, t, 1, why+", while other sources get through")
		return true
	}
	if !all {
		return true // the next ticks tell
	}
	tries := float64(v.attempts) / max(span.Seconds(), 1)
	if !l.trouble {
		l.trouble, l.ahead, l.peak = true, l.perSecond, tries
	}
	to := max(l.at.floor, min(0.05*l.peak, 0.1), tries*l.keeps(0))
	if l.perSecond > 0 && to >= 0.9*l.perSecond {
		return true // low enough
	}
	before := l.perSecond
	l.change(t, c.ticks, to)
	l.state = slowed
	c.decided(e, t, keyspace.Decision{Action: "slow", From: rateText(before), To: rateText(to), Rule: "carrier-in-trouble", Why: why + ", from every source"})
	return true
}

// outageOver goes back to the rate of before, in doubling steps. It reports
// whether there is more to go.
func (c *Controller) outageOver(e *laneEntry, t instant) bool {
	l := &e.value
	if t.since(l.changed) < l.at.cfg.Every.D()/3 || l.seen.delivered == 0 || 4*l.seen.troubles > l.seen.attempts {
		return true
	}
	to := 2 * l.perSecond
	if to < l.peak && (l.ahead == 0 || to < l.ahead) {
		l.change(t, c.ticks, to)
		c.mark(e)
		return true
	}
	before := l.ahead
	l.trouble = false
	if before == 0 {
		c.recover(e, t, "trouble-is-over", "mail gets through again")
		return true
	}
	l.change(t, c.ticks, before)
	c.mark(e)
	return true
}
