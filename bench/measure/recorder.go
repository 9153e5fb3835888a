package measure

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder counts latencies from many goroutines. Record is one atomic add:
// nothing is locked, nothing is allocated. Shards keep many cores from writing
// the same cache line; which one is drawn by chance, because Go does not tell a
// goroutine where it runs.
type Recorder struct {
	shards []shard
	mask   uint32
	mu     struct {
		sync.Mutex
		before []uint64 // counts at the end of the last interval
	}
}

type shard struct{ counts []atomic.Uint64 }

const maxShards = 8

// NewRecorder makes an empty recorder, of 184 KiB for each of up to eight cores.
func NewRecorder() *Recorder {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < maxShards {
		n *= 2
	}
	r := &Recorder{shards: make([]shard, n), mask: uint32(n - 1)}
	for i := range r.shards {
		r.shards[i].counts = make([]atomic.Uint64, cells)
	}
	r.mu.before = make([]uint64, cells)
	return r
}

// Record counts one latency. What is above MaxLatency counts as MaxLatency, and
// what is below zero (a clock that was set) as zero.
func (r *Recorder) Record(d time.Duration) {
	i := uint32(0)
	if r.mask != 0 {
		i = rand.Uint32() & r.mask
	}
	r.shards[i].counts[cellOf(d)].Add(1)
}

// Total is all that was recorded so far.
func (r *Recorder) Total() *Histogram {
	h := &Histogram{counts: make([]uint64, cells)}
	for s := range r.shards {
		for i := range r.shards[s].counts {
			n := r.shards[s].counts[i].Load()
			h.counts[i] += n
			h.total += n
		}
	}
	return h
}

// Interval is what was recorded since the last call of Interval. Every value is
// in exactly one interval.
func (r *Recorder) Interval() *Histogram {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.Total()
	h.total = 0
	for i, n := range h.counts {
		h.counts[i] = n - r.mu.before[i]
		r.mu.before[i] = n
		h.total += h.counts[i]
	}
	return h
}
