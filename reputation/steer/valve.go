package steer

import (
	"fmt"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// valve is the control of the connections of a lane. Signs that there are too
// many lower it and leave the rate as it is.
type valve struct {
	conns      int // 0 is not bounded
	connKnee   int // at which the carrier refused more
	connSince  instant
	connWait   time.Duration
	connProbe  instant
	connSettle bool
}

// valve decides about the connections of a lane.
func (c *Controller) valve(e *laneEntry, t instant) {
	l := &e.value
	if l.state == trial {
		return
	}
	if l.connSettle {
		if t.since(l.connSince) < settleMost {
			return
		}
		l.connSettle, l.seenCon = false, evidence{from: t}
		return
	}
	if s := &l.ring[c.ticks%ringSlots]; s.tick == c.ticks {
		l.seenCon.add(s)
	}
	switch old := t.since(l.seenCon.from); {
	case excess(l.seenCon.conns, l.seenCon.attempts, noise):
		c.fewer(e, t)
	case l.conns > 0 && old >= l.at.cfg.Every.D() && l.seenCon.delivered >= 3:
		c.more(e, t)
	case l.conns == 0 && old > time.Minute:
		l.seenCon = evidence{from: t}
	}
}

func (c *Controller) fewer(e *laneEntry, t instant) {
	l, cfg := &e.value, e.value.at.cfg
	why := fmt.Sprintf("%d of %d replies said too many connections", l.seenCon.conns, l.seenCon.attempts)
	now := l.conns
	if now == 0 {
		now = l.at.conns
	}
	l.connSince, l.connSettle = t, true
	if now <= 1 {
		// One is the fewest: what is left to give is the rate.
		if !l.settling {
			l.lastSign = t
			c.cut(e, t, 1, why+" with one open")
		}
		return
	}
	if now == l.connKnee+1 || now == l.connKnee {
		l.connWait = min(2*l.connWait, lastWait*cfg.Every.D())
	} else {
		l.connWait = firstWait * cfg.Every.D()
	}
	to := max(1, int(float64(now)*l.keeps(0)))
	if l.connKnee > 0 && l.conns > 0 {
		to = max(to, now-1-now/8) // it was the last step that was too far
	}
	l.connKnee, l.conns, l.lastSign = now, to, t
	l.connProbe = t.add(l.connWait)
	if l.state == healthy {
		l.state = slowed
	}
	c.decided(e, t, keyspace.Decision{
		Action: "slow", From: fmt.Sprintf("%d connections", now), To: fmt.Sprintf("%d connections", to), Rule: "too-many-connections", Why: why,
	})
}

// more opens one connection more.
func (c *Controller) more(e *laneEntry, t instant) {
	l := &e.value
	if l.conns+1 >= l.connKnee && t < l.connProbe {
		l.seenCon = evidence{from: t}
		return
	}
	if l.conns++; l.conns >= l.connKnee {
		l.connKnee = l.conns + 1
	}
	l.connSince, l.seenCon = t, evidence{from: t}
	if l.conns < l.at.conns {
		c.mark(e)
		return
	}
	l.conns = 0
	from := l.state
	if l.state == slowed && l.perSecond == 0 {
		l.state = healthy
	}
	c.decided(e, t, keyspace.Decision{
		Action: "recover", From: from.String(), To: l.state.String(), Rule: "connections-held",
		Why: fmt.Sprintf("no sign at %d connections", l.at.conns),
	})
}

// course is what is in force on a lane; false is nothing.
func (c *Controller) course(e *laneEntry) (policy.Course, bool) {
	l := &e.value
	perDay := c.perDay(e)
	x := policy.Course{State: l.state.String(), PerDay: perDay, Decision: l.decision, Reason: l.reason}
	if most := l.at.most; most > 0 && l.state == slowed && l.perSecond >= most && l.conns == 0 {
		x.State = policy.StateHealthy // the ceiling is policy's own
	}
	if perDay > 0 && (l.state == healthy || l.state == slowed) {
		x.State = policy.StateWarming
	}
	if l.at.mode == policy.ModeOn {
		if l.perSecond > 0 {
			x.Rate = rateOf(l.perSecond)
		}
		x.Connections = l.conns
		switch l.state {
		case trial:
			x.Connections = 1
		case resting, blockedOut:
			// The node goes on by itself when the rest is over, and before it hears of
			// the trial: so the trial's bounds stand here already.
			x.Rests = policy.At(l.until.time())
			x.Rate, x.Connections = rateOf(l.trialRate()), 1
		}
		return x, l.state != healthy || perDay > 0
	}
	if perDay == 0 {
		return x, false
	}
	x.State = policy.StateWarming
	return x, true
}
