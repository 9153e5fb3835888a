package scheduler

import (
	"fmt"
	"time"

	"hikyaku/controlplane/policy"
)

// What the control plane has decided about sources and tenants lies over policy
// (policy.Steering) and changes far more often, so it has a way of its own here,
// which touches only the budgets and queues that it names.

// SetSteering puts a set in force that differs from the one in force in its
// Steering alone, and there in what c names. Everything else is SetPolicy's.
func (s *Scheduler) SetSteering(now time.Time, set *policy.Set, c policy.Changes) {
	t := at(now)
	s.set, s.limits.set = set, set
	var touched []*links
	for _, on := range c.Lanes {
		s.limits.steered(on, func(k linkKey, l *links) {
			if s.steer(t, k, l) {
				touched = append(touched, l)
				k.source = ""
				if all := s.limits.links[k]; all != nil && !all.steered {
					all.steered = true
					touched = append(touched, all)
				}
			}
		})
	}
	if len(touched) > 0 {
		s.lookAtSteered(t, touched)
	}
	if len(c.Holds) > 0 || len(s.refuges) > 0 && len(c.Lanes) > 0 {
		s.replaceSteered(t, &c)
	}
}

// steered calls fn for each budget of a source that a decision is about: at the
// default carrier, those of all its sites if it names none.
func (t *limitTable) steered(on policy.Steered, fn func(linkKey, *links)) {
	if c := t.set.CourseOf(on.Carrier, on.Site, on.Source); c != nil && c.PerDay > 0 {
		t.anySourceDay = true
	}
	k := linkKey{carrier: on.Carrier, site: on.Site, source: on.Source}
	if on.Carrier != policy.DefaultName || on.Site != "" {
		if l := t.links[k]; l != nil {
			fn(k, l)
		}
		return
	}
	for k, l := range t.links {
		if k.carrier == policy.DefaultName && k.source == on.Source {
			fn(k, l)
		}
	}
}

// steer brings one budget to what was decided, marks it, and reports whether its
// sites need look.
func (s *Scheduler) steer(now instant, k linkKey, l *links) bool {
	x, before := k.scope(), l.rests
	l.eased = s.bring(now, &x, false) != nil
	l.halted = l.rests > now && before <= now
	return l.eased || l.halted
}

// lookAtSteered lets sites look again whose sources may do more than before, and
// ends the sessions of those that have come to rest.
func (s *Scheduler) lookAtSteered(now instant, touched []*links) {
	s.around.each(func(st *site) bool {
		if !st.all.steered {
			return true
		}
		look, end := false, false
		for _, l := range st.lanes {
			look = look || l.own.eased
			end = end || l.own.halted && l.open > 0
		}
		if look {
			s.lookAgain(st)
		}
		if look || end {
			s.wakeSite(st)
		}
		return true
	})
	halted := false
	for _, l := range touched {
		halted = halted || l.halted
		l.eased, l.halted, l.steered = false, false, false
	}
	if halted {
		s.dropOpenings(now)
	}
}

// replaceSteered looks again at the queues that a change may hold, release or
// strand.
func (s *Scheduler) replaceSteered(now instant, c *policy.Changes) {
	tenants, carriers := map[string]bool{}, map[string]bool{}
	for _, on := range c.Holds {
		tenants[on.Tenant] = true
	}
	if len(s.refuges) > 0 {
		for _, on := range c.Lanes {
			carriers[on.Carrier] = true
		}
	}
	s.inLine.each(func(q *queue) bool {
		if tenants[q.key.Tenant] || carriers[q.dest.carrier] {
			s.place(q, now)
		}
		return true
	})
}

// restsUntil is until when a source rests at a site: 0 if it does not, never if
// it will not end by itself.
func restsUntil(c *policy.Course) instant {
	switch {
	case c == nil:
		return 0
	case c.State == policy.StateRetired:
		return never
	case c.Rests.IsZero():
		return 0
	}
	return at(c.Rests.Time())
}

// setCourse notes when a source rests, and why.
func (t *limitTable) setCourse(k linkKey, l *links) {
	if k.source == "" {
		return
	}
	l.course = t.set.CourseOf(k.carrier, k.site, k.source)
	l.rests = restsUntil(l.course)
}

// stopped is until when nothing may go, whatever the budgets hold.
func (l *links) stopped() instant { return max(l.brake, l.rests) }

// steeringHold is the hold by the control plane that is on a queue's mail, or
// nil.
func (s *Scheduler) steeringHold(q *queue, now instant) *policy.Held {
	k := &q.key
	return s.set.HeldAt(now.time(), k.Tenant, q.dest.carrier, k.Stream, k.Job)
}

// Refuge is a pool at a carrier for which another node has sources that may be
// used there.
type Refuge struct{ Pool, Carrier string }

// leastRest is how long all of a node's sources must still rest at a carrier for
// its mail to go to another node: moving costs both nodes a write, and a rest may
// end early.
const leastRest = instant(time.Minute)

// SetRefuges says where mail may go that this node's own sources may not carry.
// It replaces what was said before.
func (s *Scheduler) SetRefuges(now time.Time, refuges map[Refuge]bool) {
	changed := map[Refuge]bool{}
	for r := range refuges {
		if !s.refuges[r] {
			changed[r] = true
		}
	}
	for r := range s.refuges {
		if !refuges[r] {
			changed[r] = true
		}
	}
	s.refuges = refuges
	if len(changed) == 0 {
		return
	}
	t := at(now)
	s.inLine.each(func(q *queue) bool {
		if changed[Refuge{q.key.Pool, q.dest.carrier}] {
			s.place(q, t)
		}
		return true
	})
}

// shunned reports whether all sources that this node has for a queue rest at its
// carrier for longer than is worth waiting for, while another node has one that
// does not; and until when that is so.
func (s *Scheduler) shunned(q *queue, now instant) (until instant, yes bool) {
	if len(s.refuges) == 0 || q.dest.site == nil || !s.refuges[Refuge{q.key.Pool, q.dest.carrier}] {
		return 0, false
	}
	key := keyOf(q.dest.site, "")
	first := never
	for _, m := range s.pools[q.key.Pool] {
		rests := restsUntil(s.set.CourseOf(key.carrier, key.site, m.name))
		if rests <= now+leastRest {
			return 0, false
		}
		first = min(first, rests)
	}
	if first == never {
		return never, true
	}
	return first - leastRest, true
}

// whyHeld says which decision holds a queue's mail.
func (s *Scheduler) whyHeld(rs []Reason, q *queue, now instant) []Reason {
	h := s.steeringHold(q, now)
	if h == nil {
		return rs
	}
	until := at(h.Until.Time())
	return append(rs, Reason{Limit: "held", Scope: "decision " + h.Decision, Until: soon(until),
		Text: fmt.Sprintf("held until %s by decision %s: %s", clock(until), h.Decision, h.Reason)})
}

// whyShunned says that mail is about to go to another node.
func (s *Scheduler) whyShunned(rs []Reason, q *queue, now instant) []Reason {
	if until, yes := s.shunned(q, now); yes {
		rs = append(rs, Reason{Limit: "source", Scope: "pool " + q.key.Pool + ", carrier " + q.dest.carrier, Until: soon(until),
			Text: fmt.Sprintf("all sources of pool %s on this node rest at carrier %s; another node has one that does not, and takes this mail", q.key.Pool, q.dest.carrier)})
		key := keyOf(q.dest.site, "")
		for _, m := range s.pools[q.key.Pool] {
			key.source = m.name
			rs = whyCourse(rs, key, s.set.CourseOf(key.carrier, key.site, m.name), now)
		}
	}
	return rs
}

// whyCourse says that a source rests, and by which decision.
func whyCourse(rs []Reason, k linkKey, c *policy.Course, now instant) []Reason {
	until := restsUntil(c)
	if until <= now {
		return rs
	}
	text := k.String() + ": " + c.State
	if until != never {
		text += " until " + clock(until)
	}
	return append(rs, Reason{Limit: "steering", Scope: k.String(), Value: c.State, Until: soon(until), Text: text + byDecision(c)})
}

// byDecision is why a source is bounded at a carrier.
func byDecision(c *policy.Course) string {
	switch {
	case c == nil || c.Decision == "" && c.Reason == "":
		return ""
	case c.Decision == "":
		return ": " + c.Reason
	}
	return ", decision " + c.Decision + ": " + c.Reason
}

// steeredBy adds the decision to reasons that come from a course's own bounds.
func steeredBy(rs []Reason, c *policy.Course) {
	if c == nil {
		return
	}
	for i := range rs {
		switch r := &rs[i]; r.Limit {
		case "rate":
			if c.Rate != nil && r.Value == c.Rate.String() {
				r.Text += byDecision(c)
			}
		case "per_day":
			if c.PerDay > 0 && r.Value == fmt.Sprint(c.PerDay) {
				r.Text += byDecision(c)
			}
		case "connections":
			if c.Connections > 0 && r.Value == fmt.Sprint(c.Connections) {
				r.Text += byDecision(c)
			}
		}
	}
}

// anyStrandable reports whether a queue that is blocked may be offered to other
// nodes, since none of this one's sources may carry it.
func (s *Scheduler) anyStrandable(q *queue, now instant) bool {
	if len(s.pools[q.key.Pool]) == 0 {
		return s.elsewhere(q.key.Pool)
	}
	_, yes := s.shunned(q, now)
	return yes
}

// heldAtAll reports whether a person or the control plane holds a queue.
func (s *Scheduler) heldAtAll(q *queue, now instant) bool {
	return len(s.holds) > 0 && s.heldBy(q) != nil || s.steeringHold(q, now) != nil
}
