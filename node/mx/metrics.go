package mx

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

// Metrics is a snapshot of the resolver's counters since it was made.
type Metrics struct {
	Queries     uint64 // questions sent to a server, repeats included
	CacheHits   uint64 // look-ups answered from the cache
	CacheMisses uint64 // look-ups that had to ask
	Shared      uint64 // look-ups that joined one under way
	Timeouts    uint64
	ServFail    uint64
	Refused     uint64 // REFUSED, or a server that does not recurse
	Malformed   uint64 // answers that could not be read
	Foreign     uint64 // packets with another ID or question; forged, if there are many
	Truncated   uint64 // answers fetched again over TCP
	OtherFaults uint64
	Evictions   uint64 // cache entries dropped for want of room
	Entries     int    // in the cache
	InFlight    int    // questions under way now
	MaxInFlight int    // InFlight at this value means look-ups wait
	// Latency counts questions by time: Latency[i] took at most
	// LatencyBounds[i]; the last took longer than all.
	Latency [len(LatencyBounds) + 1]uint64
	// LatencySum is the time of all questions together.
	LatencySum time.Duration
}

// LatencyBounds are the upper bounds of Metrics.Latency.
var LatencyBounds = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
}

type counters struct {
	queries, hits, misses, shared          atomic.Uint64
	timeouts, servFail, refused, malformed atomic.Uint64
	foreign, truncated, otherFaults        atomic.Uint64
	latency                                histogram
}

type histogram struct {
	buckets [len(LatencyBounds) + 1]atomic.Uint64
	sum     atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// fault counts a question that got no usable answer.
func (c *counters) fault(err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		c.timeouts.Add(1)
	case errors.Is(err, errServFail):
		c.servFail.Add(1)
	case errors.Is(err, errRefused), errors.Is(err, errLame):
		c.refused.Add(1)
	case errors.Is(err, errMalformed):
		c.malformed.Add(1)
	default:
		c.otherFaults.Add(1)
	}
}

// Metrics reads the counters.
func (r *Resolver) Metrics() Metrics {
	c := &r.metrics
	m := Metrics{
		Queries: c.queries.Load(), CacheHits: c.hits.Load(), CacheMisses: c.misses.Load(), Shared: c.shared.Load(),
		Timeouts: c.timeouts.Load(), ServFail: c.servFail.Load(), Refused: c.refused.Load(), Malformed: c.malformed.Load(),
		Foreign: c.foreign.Load(), Truncated: c.truncated.Load(), OtherFaults: c.otherFaults.Load(),
		LatencySum: time.Duration(c.latency.sum.Load()), MaxInFlight: r.config.MaxInFlight,
	}
	for i := range m.Latency {
		m.Latency[i] = c.latency.buckets[i].Load()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Entries, m.Evictions, m.InFlight = len(r.mu.cache.entries), r.mu.cache.evictions, len(r.mu.flights)
	return m
}
