package steer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

const (
	aDay = 24 * time.Hour
	// usedPart is the part of a day's messages that must have been delivered for the
	// day to count.
	usedPart = 0.5
)

// warming is the warm-up of a source at a carrier.
type warming struct {
	name   string // of the resource
	days   []int64
	start  instant
	paused bool
	day    int // from 0
	ends   instant
	sent   int64  // delivered today
	bad    string // the sign that holds the day; "" is none
	done   bool
	// decision is the last about it, and before the day before that.
	decision string
	before   int
}

// setWarmUps follows the resources: what is there begins or goes on, what is
// gone ends.
func (c *Controller) setWarmUps(t instant) {
	wanted := map[laneKey]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.set.WarmUps)) {
		w := c.set.WarmUps[name]
		carriers := w.Carriers
		if len(carriers) == 0 {
			carriers = slices.Sorted(maps.Keys(c.set.Carriers))
		}
		for _, k := range carriers {
			key := laneKey{carrier: k, source: w.Source}
			wanted[key] = true
			if e := c.lanes.get(key, c.ticks); e != nil {
				c.welcome(e)
				e.value.warmUp(t, name, w)
				c.mark(e)
			}
		}
	}
	for _, e := range c.bound {
		if e.value.warm != nil && !wanted[e.key] {
			e.value.warm = nil
			c.mark(e)
		}
	}
}

// warmUp begins a warm-up or goes on with it.
func (l *lane) warmUp(t instant, name string, w *policy.WarmUp) {
	x := l.warm
	if x == nil || x.name != name {
		x = &warming{name: name, start: t}
		l.warm = x
		x.ends = x.start.add(aDay)
	}
	if !w.Start.IsZero() && x.start != at(w.Start.Time()) {
		// A day is a day of the resource; one that has begun is not cut short.
		x.start = at(w.Start.Time())
		x.ends = x.nextEnd(t)
	}
	x.days, x.paused = w.Days, w.Paused
	x.day = min(x.day, len(x.days)-1)
}

// today is what a lane delivered in a day of its warm-up.
type today struct {
	ends instant // of the day
	n    int64
}

// count adds what a lane delivered. At the default carrier each site has the
// day's count for itself, and the busiest tells how much of it was used.
func (x *warming) count(o *today, n int64) {
	if o.ends != x.ends {
		*o = today{ends: x.ends}
	}
	o.n += n
	x.sent = max(x.sent, o.n)
}

// nextEnd is the first end of a day after t.
func (x *warming) nextEnd(t instant) instant {
	if t < x.start {
		return x.start.add(aDay)
	}
	return x.start.add((t.since(x.start)/aDay + 1) * aDay)
}

// cap is what the day allows.
func (x *warming) cap() int64 {
	if x.done {
		return 0
	}
	return x.days[x.day]
}

// perDay is the day's count of a lane; at a site of the default carrier that of
// the source there. 0 is none.
func (c *Controller) perDay(e *laneEntry) int64 {
	if lowerMode(c.set.Reputation.Mode, policy.ModeOn) != policy.ModeOn {
		return 0
	}
	if w := c.warmthOf(e); w != nil {
		return w.value.warm.cap()
	}
	return 0
}

// warmthOf is the lane that has the warm-up in which e takes part; nil is none.
func (c *Controller) warmthOf(e *laneEntry) *laneEntry {
	if e.value.warm == nil && e.key.site != "" {
		e = c.lanes.entries[laneKey{carrier: e.key.carrier, source: e.key.source}]
	}
	if e == nil || e.value.warm == nil {
		return nil
	}
	return e
}

// warmAll ends the days that are over.
func (c *Controller) warmAll(t instant) {
	for _, e := range c.bound {
		if x := e.value.warm; x != nil && !x.done && t >= x.ends && c.set.Reputation.Mode != policy.ModeOff {
			c.endDay(e, t)
		}
	}
}

// endDay judges a day that is over.
func (c *Controller) endDay(e *laneEntry, t instant) {
	x := e.value.warm
	x.ends, x.before = x.nextEnd(t), x.day
	if t.since(x.start) < aDay || x.paused {
		x.sent, x.bad = 0, ""
		return
	}
	d := keyspace.Decision{From: x.dayText(), To: x.dayText(), Until: x.ends.time()}
	need := int64(usedPart * float64(x.cap()))
	switch {
	case x.bad != "":
		d.Action, d.Rule, d.Why = "warm-up-hold", "bad-signs", "the same day again: "+x.bad
	case x.sent < need:
		d.Action, d.Rule, d.Why = "warm-up-hold", "too-little-mail", fmt.Sprintf("the same day again: %d delivered, and it takes %d to tell", x.sent, need)
	case x.day+1 == len(x.days):
		x.done = true
		d.Action, d.To, d.Rule, d.Until = "warm-up-done", policy.StateHealthy, "last-day-went-well", time.Time{}
		d.Why = fmt.Sprintf("%d delivered on the last day and no bad sign", x.sent)
	default:
		d.Why = fmt.Sprintf("%d delivered and no bad sign", x.sent)
		x.day++
		d.Action, d.Rule, d.To = "warm-up-day", "day-went-well", x.dayText()
	}
	x.sent, x.bad = 0, ""
	c.warmed(e, t, d)
}

func (x *warming) dayText() string { return fmt.Sprintf("day %d, %d messages", x.day+1, x.cap()) }

// warmed records a decision about a warm-up. It depends on the mode of all, not
// on that of rates.
func (c *Controller) warmed(e *laneEntry, t instant, d keyspace.Decision) {
	d.Carrier, d.Site, d.Source = e.key.carrier, e.key.site, e.key.source
	d.DryRun = c.set.Reputation.Mode == policy.ModeDryRun
	id := c.decide(t, d)
	e.value.warm.decision = id
	if e.value.state == healthy {
		e.value.decision, e.value.reason = id, d.Rule+": "+d.Why
	}
	c.mark(e)
}

// chill tells a warm-up that the carrier did not like today's mail. A block goes
// back a day at once.
func (c *Controller) chill(e *laneEntry, t instant, d *keyspace.Decision) {
	w := c.warmthOf(e)
	if w == nil || w.value.warm.done {
		return
	}
	x := w.value.warm
	first := x.bad == ""
	x.bad = d.Action + " by " + d.Rule
	if d.Action != "block" || !first && x.day == 0 {
		return
	}
	from := x.dayText()
	x.before = x.day
	x.day = max(0, x.day-1)
	c.warmed(w, t, keyspace.Decision{Action: "warm-up-back", From: from, To: x.dayText(), Rule: "blocked", Why: d.Why, Until: x.ends.time()})
}
