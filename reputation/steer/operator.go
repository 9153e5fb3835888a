package steer

import (
	"fmt"
	"strings"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Undo takes a decision back that is still in force: a source is bounded by
// policy alone, a hold ends, a day of a warm-up counts as if nothing had been.
// Signs from now on count as ever, so the same may be decided again. The next
// Decide tells of it.
func (c *Controller) Undo(now time.Time, d keyspace.Decision, by string) error {
	t := c.forward(now)
	if d.DryRun {
		return fmt.Errorf("undo %s: it was a dry run, and nothing followed", d.ID)
	}
	var err error
	switch {
	case d.Source == "":
		err = c.undoHold(t, &d, by)
	case strings.HasPrefix(d.Action, "warm-up"):
		err = c.undoWarmUp(t, &d, by)
	default:
		err = c.undoLane(t, &d, by)
	}
	if err != nil {
		return fmt.Errorf("undo %s: %w", d.ID, err)
	}
	c.metrics.Undone++
	return nil
}

func (c *Controller) undoHold(t instant, d *keyspace.Decision, by string) error {
	for _, h := range c.sortedHolds() {
		if h.decision == d.ID {
			c.release(t, h, "undo", "operator", d.ID+" taken back by "+by)
			return nil
		}
	}
	return fmt.Errorf("no hold is in force by it")
}

func (c *Controller) undoLane(t instant, d *keyspace.Decision, by string) error {
	e := c.lanes.entries[laneKey{d.Carrier, d.Site, d.Source}]
	switch {
	case e == nil || e.value.decision == "":
		return fmt.Errorf("nothing is in force about source %s at %s", d.Source, d.Carrier)
	case e.value.decision != d.ID:
		return fmt.Errorf("it is no longer in force: %s was decided since", e.value.decision)
	}
	l := &e.value
	from := l.state.String()
	l.reset()
	l.fit()
	l.lastSign, l.clean = t, c.ticks
	l.seen.from, l.seenCon.from = t, t
	c.decided(e, t, keyspace.Decision{Action: "undo", From: from, To: policy.StateHealthy, Rule: "operator", Why: d.ID + " (" + d.Action + ") taken back by " + by})
	return nil
}

func (c *Controller) undoWarmUp(t instant, d *keyspace.Decision, by string) error {
	e := c.lanes.entries[laneKey{d.Carrier, d.Site, d.Source}]
	if e == nil || e.value.warm == nil || e.value.warm.decision != d.ID {
		return fmt.Errorf("no day of a warm-up is by it")
	}
	x := e.value.warm
	from := x.dayText()
	x.day, x.done, x.bad = min(x.before, len(x.days)-1), false, ""
	if d.Action == "warm-up-hold" && x.day+1 < len(x.days) {
		x.day++
	}
	c.warmed(e, t, keyspace.Decision{Action: "undo", From: from, To: x.dayText(), Rule: "operator", Why: d.ID + " (" + d.Action + ") taken back by " + by})
	return nil
}

// Retire keeps a source from a carrier until the decision is taken back. Site is
// one of the default carrier.
func (c *Controller) Retire(now time.Time, carrier, site, source, by string) error {
	t := c.forward(now)
	if c.set.Carriers[carrier] == nil {
		return fmt.Errorf("retire source %s: there is no carrier %s", source, carrier)
	}
	if c.set.Sources[source] == nil {
		return fmt.Errorf("retire source %s: there is no such source", source)
	}
	if carrier != policy.DefaultName && site != "" {
		return fmt.Errorf("retire source %s: only the default carrier has sites", source)
	}
	e := c.lanes.get(laneKey{carrier, site, source}, c.ticks)
	if e == nil {
		return fmt.Errorf("retire source %s: no room for more sources at carriers", source)
	}
	c.welcome(e)
	if !c.hasRoom(e) {
		return fmt.Errorf("retire source %s: carrier %s has %d sources that are steered, and no room for more", source, carrier, keyspace.MaxSteered)
	}
	l := &e.value
	from := l.state.String()
	l.state, l.settling, l.until = retired, false, 0
	c.decided(e, t, keyspace.Decision{Action: "retire", From: from, To: policy.StateRetired, Rule: "operator", Why: "by " + by})
	return nil
}
