package scheduler

import "time"

// Unresolved tells that what a destination resolved to does not hold any more,
// although its time is not over: it is looked up again before anything else of
// it is given out.
func (s *Scheduler) Unresolved(now time.Time, destination string) {
	d := s.dests[destination]
	if d == nil {
		return
	}
	d.until = 0
	s.placeAll(d, at(now))
}
