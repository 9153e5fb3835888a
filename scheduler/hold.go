package scheduler

import (
	"slices"
	"time"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// Hold keeps deliveries from being dispatched until it is released.
type Hold struct {
	ID     string
	Scope  message.Scope
	Reason string
}

// Hold stops what the scope matches. What is in flight goes on.
func (s *Scheduler) Hold(now time.Time, h Hold) {
	s.holds[h.ID] = &h
	s.replace(at(now), h.Scope)
}

// Release ends a hold.
func (s *Scheduler) Release(now time.Time, id string) bool {
	h, ok := s.holds[id]
	if !ok {
		return false
	}
	delete(s.holds, id)
	s.replace(at(now), h.Scope)
	return true
}

// replace looks at all queues that a scope may match again.
func (s *Scheduler) replace(now instant, scope message.Scope) {
	s.inLine.each(func(q *queue) bool {
		if scope.MatchesQueue(&q.key) {
			s.place(q, now)
		}
		return true
	})
	s.around.each(func(st *site) bool {
		s.lookAgain(st)
		s.wakeSite(st)
		return true
	})
}

// heldBy is the hold that stops a queue whatever the source, or nil; of
// several the one with the lowest id.
func (s *Scheduler) heldBy(q *queue) (held *Hold) {
	bySource := false
	for _, h := range s.holds {
		switch {
		case !h.stops(q):
		case h.Scope.Source != "":
			bySource = true
		case held == nil || h.ID < held.ID:
			held = h
		}
	}
	if held != nil || !bySource {
		return held
	}
	// It waits too when each source that could carry it is held.
	for _, m := range s.pools[q.key.Pool] {
		if held = s.heldFrom(q, m.name); held == nil {
			return nil
		}
	}
	return held
}

// stops reports whether the hold is for the queue, its source aside.
func (h *Hold) stops(q *queue) bool {
	return h.Scope.MatchesQueue(&q.key) && (h.Scope.Carrier == "" || h.Scope.Carrier == q.dest.carrier)
}

// heldFrom is the hold that keeps a queue from going from a source, or nil.
func (s *Scheduler) heldFrom(q *queue, source string) *Hold {
	for _, h := range s.holds {
		if h.Scope.Source == source && h.stops(q) {
			return h
		}
	}
	return nil
}

// heldHere reports whether the queue may not go by this lane.
func (s *Scheduler) heldHere(q *queue, l *lane) bool {
	return len(s.holds) > 0 && s.heldFrom(q, l.key.Source) != nil
}

// sourceHeld is the hold on all mail of a lane, or nil.
func (s *Scheduler) sourceHeld(l *lane) *Hold {
	for _, h := range s.holds {
		c := h.Scope
		if c.Source == l.key.Source && (c.Carrier == "" || c.Carrier == l.site.carrier) {
			c.Source, c.Carrier = "", ""
			if c.IsZero() {
				return h
			}
		}
	}
	return nil
}

// pickAround finds a queue that may go by the lane when the one whose turn it
// is may not: someone holds a tenant's or a destination's mail from one source.
func (s *Scheduler) pickAround(c *class, l *lane, now instant) (found *queue) {
	for _, t := range slices.SortedFunc(slices.Values(c.line.members), compareTurns) {
		tt := t.owner.(*tenantTurn)
		if tt.short(now) != nil {
			continue
		}
		for _, t := range slices.SortedFunc(slices.Values(tt.flows.members), compareTurns) {
			f := t.owner.(*flow)
			if f.short(now) != nil {
				continue
			}
			f.queues.each(func(q *queue) bool {
				if !s.heldHere(q, l) {
					found = q
				}
				return found == nil
			})
			if found != nil {
				return found
			}
		}
	}
	return nil
}

func compareTurns(a, b *turn) int {
	if a.before(b) {
		return -1
	}
	return 1
}

// JobControl is what an operator said of a job.
type JobControl struct {
	Paused bool
	Rate   *policy.Rate
}

// SetJob pauses, resumes or slows a job. The zero JobControl forgets it.
func (s *Scheduler) SetJob(now time.Time, tenant, job string, c JobControl) {
	t, key := at(now), jobKey{tenant, job}
	if old := s.limits.job(key); old != nil {
		s.wakeAll(old)
	}
	s.limits.setJob(t, key, c)
	budget := s.limits.job(key)
	for _, q := range s.queues {
		if q.key.Tenant != tenant || q.key.Job != job {
			continue
		}
		s.claims(q, nil, t)
		if q.flow != nil {
			q.flow.job, q.flow.claim = budget, nil
		}
	}
	s.replace(t, message.Scope{Tenant: tenant, Job: job})
}
