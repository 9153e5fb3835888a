package replies

import (
	"sync"
	"sync/atomic"
	"time"
)

// Lane is a source at a carrier.
type Lane struct{ Carrier, Source string }

// inARow is how many refusals of a source, with nothing taken in between and
// none of them older than refusalSpan, are more than a message's bad luck.
const (
	inARow      = 3
	refusalSpan = time.Minute
	maxLanes    = 20_000
)

type lanes struct {
	n  atomic.Int32 // of mu.refused: mostly none, and a success need not ask further
	mu struct {
		sync.Mutex
		refused map[Lane]refusals // of those with any since the last success
	}
}

type refusals struct {
	n    int
	last time.Time
}

func (l *lanes) init() { l.mu.refused = map[Lane]refusals{} }

// Refused notes that a carrier refused a source for its own sake, and reports
// whether it has done so several times in a row.
func (b *Book) Refused(now time.Time, lane Lane) bool {
	l := &b.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	r, known := l.mu.refused[lane]
	if !known && len(l.mu.refused) >= maxLanes {
		return false
	}
	if now.Sub(r.last) > refusalSpan {
		r.n = 0
	}
	r.n, r.last = r.n+1, now
	l.mu.refused[lane] = r
	l.n.Store(int32(len(l.mu.refused)))
	return r.n >= inARow
}

// Taken notes that a carrier took something from a source.
func (b *Book) Taken(lane Lane) {
	l := &b.lanes
	if l.n.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.refused, lane)
	l.n.Store(int32(len(l.mu.refused)))
}
