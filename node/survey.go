package node

import (
	"sync"
	"time"

	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// survey is one look over all queues, for metrics and overview. There can be
// hundreds of thousands, so one look serves whoever asks for a while, and the
// dispatcher's lock is given back every few queues.
type survey struct {
	tenants, carriers map[string]int64 // deliveries queued
	destinations      int64
	states            map[string]int64 // queues
	held              int64            // deliveries queued in held queues
	stranded          int64            // deliveries queued whose pool has no source here
	ready             int64            // deliveries in memory that wait for a turn, a budget or a session
	oldestDue         time.Time        // of what is not in flight; zero: nothing is due
}

type surveys struct {
	mu struct {
		sync.Mutex
		last    *survey
		expires time.Time
	}
}

const (
	// surveyChunk bounds the queues looked at under one lock: some 100 µs.
	surveyChunk = 256
	// surveyAge is how long a survey serves at least, and surveyShare what part
	// of the time surveys may take: one in so many.
	surveyAge   = 500 * time.Millisecond
	surveyShare = 20
)

// survey returns a look that is not older than surveyAge, or than what looking
// costs allows.
func (n *Node) survey() *survey {
	s := &n.surveys
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	if s.mu.last == nil || !start.Before(s.mu.expires) {
		s.mu.last = n.look()
		took := time.Since(start)
		s.mu.expires = start.Add(max(surveyAge, surveyShare*took))
	}
	return s.mu.last
}

// countedQueue is a queue with its length.
type countedQueue struct {
	key    message.QueueKey
	queued int64
	due    time.Time // see sortQueues
}

// queuesIn lists the queues in a scope that the spool counts.
func (n *Node) queuesIn(scope message.Scope) []countedQueue {
	var list []countedQueue
	n.spool.QueueLens(func(q message.QueueKey, c int64) bool {
		if scope.MatchesQueue(&q) {
			list = append(list, countedQueue{key: q, queued: max(0, c)})
		}
		return true
	})
	if scope.Carrier == "" {
		return list
	}
	kept := list[:0]
	n.eachView(list, func(q *countedQueue, v *scheduler.QueueView) {
		if v != nil && v.Carrier == scope.Carrier {
			kept = append(kept, *q)
		}
	})
	return kept
}

// eachView calls fn with what the scheduler knows of each queue, nil if
// nothing, a few at a time under the dispatcher's lock.
func (n *Node) eachView(list []countedQueue, fn func(q *countedQueue, v *scheduler.QueueView)) {
	for len(list) > 0 {
		chunk := list[:min(len(list), surveyChunk)]
		list = list[len(chunk):]
		n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
			for i := range chunk {
				if v, ok := s.QueueViewOf(now, chunk[i].key); ok {
					fn(&chunk[i], &v)
				} else {
					fn(&chunk[i], nil)
				}
			}
		})
	}
}

func (n *Node) look() *survey {
	s := &survey{tenants: map[string]int64{}, carriers: map[string]int64{}, states: map[string]int64{}}
	list := n.queuesIn(message.Scope{})
	destinations := make(map[string]struct{}, len(list))
	n.eachView(list, func(q *countedQueue, v *scheduler.QueueView) {
		s.tenants[q.key.Tenant] += q.queued
		destinations[q.key.Destination] = struct{}{}
		if v == nil {
			s.carriers[noCarrier] += q.queued
			return
		}
		carrier := v.Carrier
		if carrier == "" {
			carrier = noCarrier // its destination has not been looked up
		}
		s.carriers[carrier] += q.queued
		s.states[v.State]++
		if v.Held {
			s.held += q.queued
		}
		switch v.State {
		case scheduler.StateStranded:
			s.stranded += q.queued
		case scheduler.StateReady, scheduler.StateBudget, scheduler.StateReading:
			s.ready += int64(v.Loaded)
		}
		if !v.NextDue.IsZero() && (s.oldestDue.IsZero() || v.NextDue.Before(s.oldestDue)) {
			s.oldestDue = v.NextDue
		}
	})
	s.destinations = int64(len(destinations))
	return s
}

// silent is how long the delivery that has been due for longest has had no
// event (design.md 5.13).
func (s *survey) silent(now time.Time) time.Duration {
	if s.oldestDue.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.oldestDue))
}
