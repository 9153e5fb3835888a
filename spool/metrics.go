package spool

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// counters are what the store counts of itself.
type counters struct {
	commits, committed           atomic.Uint64
	corruptions, stalls          atomic.Uint64
	slowWrites, backgroundErrors atomic.Uint64
	unreadable                   atomic.Uint64 // bad records that could not be moved
	quarantined                  atomic.Int64
	stalled                      atomic.Bool
	syncs                        latency
}

// Metrics is a snapshot of the store's state for the metrics page.
type Metrics struct {
	Commits          uint64  // batches synced
	Committed        uint64  // requests in them
	Sync             Latency // from writing a batch to the log until it is synced
	Waiting          int     // requests waiting for the next batch; MaxWaiting is full
	MaxWaiting       int
	WALBytes         uint64 // written since start
	WALSize          uint64 // live on disk
	MemTableBytes    uint64
	DiskBytes        uint64 // all files
	CompactionDebt   uint64 // bytes that compaction should still rewrite
	ReadAmp          int    // tables a look-up may touch
	CacheHits        int64
	CacheMisses      int64
	WriteStalls      uint64
	Stalled          bool // writes wait for the disk at this moment
	SlowWrites       uint64
	BackgroundErrors uint64
	Corruptions      uint64
	Quarantined      int64
	Unreadable       uint64
	FreeBytes        uint64
	TotalBytes       uint64
	LowSpace         bool
	Failed           bool
}

// Metrics takes a snapshot.
func (s *Store) Metrics() Metrics {
	m := Metrics{
		Commits:          s.stats.commits.Load(),
		Committed:        s.stats.committed.Load(),
		Sync:             s.stats.syncs.snapshot(),
		MaxWaiting:       maxWaiting,
		WriteStalls:      s.stats.stalls.Load(),
		Stalled:          s.stats.stalled.Load(),
		SlowWrites:       s.stats.slowWrites.Load(),
		BackgroundErrors: s.stats.backgroundErrors.Load(),
		Corruptions:      s.stats.corruptions.Load(),
		Quarantined:      s.stats.quarantined.Load(),
		Unreadable:       s.stats.unreadable.Load(),
		FreeBytes:        s.space.free.Load(),
		TotalBytes:       s.space.total.Load(),
		LowSpace:         s.space.low.Load(),
		Failed:           s.Failed() != nil,
	}
	s.commits.mu.Lock()
	m.Waiting = len(s.commits.mu.waiting)
	s.commits.mu.Unlock()
	if s.enter() != nil {
		return m
	}
	defer s.leave()
	p := s.db.Metrics()
	m.WALBytes, m.WALSize = p.WAL.BytesWritten, p.WAL.Size
	m.MemTableBytes = p.MemTable.Size
	m.DiskBytes = p.DiskSpaceUsage()
	m.CompactionDebt = p.Compact.EstimatedDebt
	m.ReadAmp = p.ReadAmp()
	m.CacheHits, m.CacheMisses = p.BlockCache.Hits, p.BlockCache.Misses
	return m
}

// latency is a histogram of durations with four buckets to each power of two
// of microseconds: 19 % wide, from 1 µs to hours, without a lock.
type latency struct {
	counts [latencyBuckets]atomic.Uint64
	sum    atomic.Int64 // microseconds
}

const latencyBuckets = 4 * 32

func latencyBucket(us uint64) int {
	if us < 4 {
		return int(us)
	}
	n := bits.Len64(us) - 1 // us is at least 1<<n, n at least 2
	return min(latencyBuckets-1, 4*(n-1)+int(us>>(n-2)&3))
}

// latencyBound is the largest number of microseconds in a bucket.
func latencyBound(i int) uint64 {
	if i < 4 {
		return uint64(i)
	}
	n := i/4 + 1
	return 1<<n + uint64(i%4+1)<<(n-2) - 1
}

func (l *latency) observe(d time.Duration) {
	us := max(0, d.Microseconds())
	l.counts[latencyBucket(uint64(us))].Add(1)
	l.sum.Add(us)
}

// Latency is a snapshot of a histogram.
type Latency struct {
	Count         uint64
	Sum           time.Duration
	P50, P90, P99 time.Duration // upper bounds of their buckets
	Max           time.Duration // likewise, of the highest bucket in use
	// Buckets counts in coarse steps: Buckets[i] took at most LatencyBounds[i],
	// the last longer than all.
	Buckets [len(LatencyBounds) + 1]uint64
}

// LatencyBounds are the upper bounds of Latency.Buckets: powers of two of
// microseconds, less the one that begins the next bucket inside.
var LatencyBounds = [...]time.Duration{
	127 * time.Microsecond, 255 * time.Microsecond, 511 * time.Microsecond, 1023 * time.Microsecond, 2047 * time.Microsecond,
	4095 * time.Microsecond, 8191 * time.Microsecond, 16383 * time.Microsecond, 32767 * time.Microsecond, 65535 * time.Microsecond,
	131071 * time.Microsecond, 262143 * time.Microsecond, 524287 * time.Microsecond, 1048575 * time.Microsecond,
	4194303 * time.Microsecond, 16777215 * time.Microsecond,
}

func (l *latency) snapshot() (s Latency) {
	var counts [latencyBuckets]uint64
	coarse := 0
	for i := range counts {
		counts[i] = l.counts[i].Load()
		s.Count += counts[i]
		bound := time.Duration(latencyBound(i)) * time.Microsecond
		for coarse < len(LatencyBounds) && bound > LatencyBounds[coarse] {
			coarse++
		}
		s.Buckets[coarse] += counts[i]
		if counts[i] > 0 {
			s.Max = bound
		}
	}
	s.Sum = time.Duration(l.sum.Load()) * time.Microsecond
	s.P50, s.P90, s.P99 = quantile(&counts, s.Count, 50), quantile(&counts, s.Count, 90), quantile(&counts, s.Count, 99)
	return s
}

func quantile(counts *[latencyBuckets]uint64, total uint64, percent uint64) time.Duration {
	if total == 0 {
		return 0
	}
	rank := (total*percent + 99) / 100
	var seen uint64
	for i, n := range counts {
		if seen += n; seen >= rank {
			return time.Duration(latencyBound(i)) * time.Microsecond
		}
	}
	return 0
}
