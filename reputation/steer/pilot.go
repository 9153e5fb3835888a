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
	// refusedAll is the part of signs that says that not the excess is refused, but
	// everything.
	refusedAll = 0.9
	// hitsToRest decreases with no calm between them make a rest.
	hitsToRest = 5
	// memory is how long a knee is believed without signs.
	memory = 24 * time.Hour
	// noise is the part of signs that chance makes: some carriers put off a few of
	// a thousand whatever the rate is.
	noise = 0.005
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
	step      float64 // part of the knee, of the next probe
	trouble   bool    // the carrier's own, which the rate is lowered for
	ahead     float64 // the rate before that
	peak      float64 // and the attempts then
}

// excess reports whether so many signs among n are more than chance makes.
func excess(signs, n uint32) bool {
	mean := noise * float64(n)
	return signs >= 2 && float64(signs) > 1+mean+2*math.Sqrt(mean)
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
		if t >= l.until {
			c.tryAgain(e, t)
		}
		return
	}
	l.look(t, c.ticks)
	c.valve(e, t)
	if l.settling {
		return
	}
	switch {
	case l.state == trial:
		c.judgeTrial(e, t)
	case c.refuses(e, t):
	case c.outage(e, t):
	case c.tooFast(e, t):
	default:
		c.rise(e, t)
	}
}

// tooFast slows a lane whose signs are more than chance.
func (c *Controller) tooFast(e *laneEntry, t instant) bool {
	l := &e.value
	v, _ := l.recent(c.ticks)
	if !excess(v.signs, v.attempts) {
		v = l.seen
		if !excess(v.signs, v.attempts) {
			return false
		}
	}
	share := float64(v.signs) / float64(max(1, v.attempts))
	l.lastSign = t
	if l.lastCut != 0 && t.since(l.lastCut) < 2*l.at.cfg.Every.D() {
		l.hits++
	} else {
		l.hits = 1
	}
	l.lastCut = t
	why := fmt.Sprintf("%d of %d replies said too much (rate or reputation); chance allows %d", v.signs, v.attempts, allowed(v.attempts))
	if share >= refusedAll && v.attempts >= 5 {
		c.rest(e, t, "refuses-all", why)
		return true
	}
	if l.hits >= hitsToRest {
		c.rest(e, t, "signs-go-on", fmt.Sprintf("%s; the %dth time in a row", why, l.hits))
		return true
	}
	c.cut(e, t, share, why)
	return true
}

func allowed(n uint32) int {
	mean := noise * float64(n)
	return max(1, int(1+mean+2*math.Sqrt(mean)))
}

// cut is the multiplicative decrease.
func (c *Controller) cut(e *laneEntry, t instant, share float64, why string) {
	l, cfg := &e.value, l0(e)
	keep := float64(cfg.Decrease) / 100
	took := l.accepted(t, c.ticks)
	if l.perSecond > 0 {
		took = min(took, l.perSecond)
	}
	before, knee := l.perSecond, took
	rule := "throttled"
	to := keep * took
	if l.perSecond > 0 && l.knee > 0 && share < 0.3 && took > 0.7*l.perSecond {
		// A step too far, or a limit that is a little lower than it was: the carrier
		// took nearly all. Half of the decrease is enough to let it forget that.
		rule = "step-too-far"
		to = took * (1 + keep) / 2
	}
	if l.knee > 0 && knee > 0.9*l.knee && knee < 1.1*l.knee {
		l.wait = min(2*max(l.wait, firstWait*cfg.Every.D()/2), lastWait*cfg.Every.D())
	} else {
		l.wait = firstWait * cfg.Every.D()
	}
	l.knee = max(knee, l.at.floor)
	l.probing, l.step = false, float64(cfg.Increase)/100
	l.probeAt = t.add(l.wait)
	to = max(to, l.at.floor)
	if before > 0 {
		to = min(to, before)
	}
	l.trouble = false
	l.change(t, c.ticks, to)
	l.state = slowed
	c.decided(e, t, keyspace.Decision{
		Action: "slow", From: rateText(before), To: rateText(to), Rule: rule,
		Why: fmt.Sprintf("%s; it took %.3g/s meanwhile", why, took),
	})
}

func l0(e *laneEntry) *policy.Steer { return e.value.at.cfg }

// rise takes the next step upwards, if the rate has held without a sign.
func (c *Controller) rise(e *laneEntry, t instant) {
	l, cfg := &e.value, l0(e)
	if l.perSecond == 0 {
		return
	}
	every := cfg.Every.D()
	if l.lastSign != 0 && t.since(l.lastSign) > memory {
		c.forget(e, t)
		return
	}
	open := l.knee == 0 // nothing is known of a limit: on from the start
	if open {
		every /= 3
	}
	held := t.since(l.changed)
	if held < every {
		return
	}
	want := l.perSecond * held.Seconds()
	if float64(l.seen.delivered) < min(3, 0.5*want) || l.seen.delivered == 0 {
		return
	}
	used := float64(l.seen.attempts) >= 0.7*l.perSecond*t.since(l.seen.from).Seconds()
	to := l.perSecond
	switch {
	case open:
		if !used {
			return
		}
		to *= 2
	case to < nearKnee*l.knee:
		to = min(2*to, nearKnee*l.knee)
	case !used:
		return
	case l.probing: // the last step held: the limit is not where it was
		l.knee = l.perSecond
		l.step = min(2*l.step, 1)
		to = l.knee * (1 + l.step)
		l.wait = firstWait * every
		c.raised(e, t, to)
	case to < plateau*l.knee:
		to = min(to+l.knee*float64(cfg.Increase)/100, plateau*l.knee)
	case t < l.probeAt:
		l.changed, l.seen = t, evidence{from: t}
		return
	default:
		l.probing = true
		to = l.knee * (1 + l.step)
	}
	l.hits = 0
	if l.at.ceiling > 0 && to >= l.at.ceiling {
		c.recover(e, t, "at-the-ceiling", "no sign at "+rateText(l.perSecond))
		return
	}
	l.change(t, c.ticks, to)
	c.mark(e)
}

// raised records that a carrier takes more than it did.
func (c *Controller) raised(e *laneEntry, t instant, to float64) {
	l := &e.value
	c.decided(e, t, keyspace.Decision{
		Action: "raise", From: rateText(l.perSecond), To: rateText(to), Rule: "step-held",
		Why: fmt.Sprintf("%d of %d delivered at %s and no sign in %s", l.seen.delivered, l.seen.attempts, rateText(l.perSecond), t.since(l.seen.from).Round(time.Second)),
	})
}

// forget ends what was decided long ago.
func (c *Controller) forget(e *laneEntry, t instant) {
	l := &e.value
	l.knee, l.wait = 0, 0
	c.recover(e, t, "no-sign-for-long", fmt.Sprintf("no sign since %s", l.lastSign.time().Format(time.RFC3339)))
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
