package measure

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Recorder counts latencies from many goroutines. Shards keep them from meeting
// at one lock; which one is drawn by chance, because Go does not tell a
// goroutine where it runs.
//
// Atomic counters would take 35 ns in place of 85 (100 goroutines on two cores).
// They would also take bucket arithmetic of our own, because the library does
// not tell which cell a value belongs to: at 30,000 values a second that is not
// worth the 0.15 % of a core.
type Recorder struct {
	shards []shard
	// Locked before a shard's.
	mu struct {
		sync.Mutex
		ended Histogram               // all intervals that were asked for
		since *Histogram              // taken from the shards, for the next interval
		spare *hdrhistogram.Histogram // empty: the next shard's, while its own is read
	}
}

type shard struct {
	mu struct {
		sync.Mutex
		counts *hdrhistogram.Histogram
	}
	_ [112]byte // no two locks in one cache line, nor in the pair that is fetched
}

const maxShards = 8

// NewRecorder makes an empty recorder, of 184 KiB for each of two to eight
// shards and for up to three histograms behind them.
func NewRecorder() *Recorder {
	// Twice the cores: a goroutine that is descheduled with the lock in its hand
	// stops fewer others.
	r := &Recorder{shards: make([]shard, min(2*runtime.GOMAXPROCS(0), maxShards))}
	for i := range r.shards {
		r.shards[i].mu.counts = newCounts()
	}
	r.mu.since, r.mu.spare = &Histogram{}, newCounts()
	return r
}

// Record counts one latency. What is above MaxLatency counts as MaxLatency, and
// what is below zero (a clock that was set) as zero.
func (r *Recorder) Record(d time.Duration) {
	us := micros(d)
	s := &r.shards[rand.Uint32N(uint32(len(r.shards)))]
	s.mu.Lock()
	err := s.mu.counts.RecordValue(us)
	s.mu.Unlock()
	if err != nil {
		panic(fmt.Sprintf("BUG: record %v: %v", d, err))
	}
}

// Total is all that was recorded so far.
func (r *Recorder) Total() *Histogram {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectLocked()
	h := &Histogram{}
	h.Merge(&r.mu.ended)
	h.Merge(r.mu.since)
	return h
}

// Interval is what was recorded since the last call of Interval. Every value is
// in exactly one interval.
func (r *Recorder) Interval() *Histogram {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectLocked()
	h := r.mu.since
	r.mu.since = &Histogram{}
	r.mu.ended.Merge(h)
	return h
}

// collectLocked empties the shards. Each is locked for the exchange of a pointer
// only: reading 23,000 cells would hold up who records.
func (r *Recorder) collectLocked() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		full := s.mu.counts
		s.mu.counts = r.mu.spare
		s.mu.Unlock()
		r.mu.since.merge(full)
		full.Reset()
		r.mu.spare = full
	}
}
