package replies

import (
	"sync"
	"sync/atomic"
	"time"
)

// Lane is a source at a carrier.
type Lane struct{ Carrier, Source string }

// inARow is how many refusals of a source, with nothing taken in between and none
// more than refusalSpan apart but for stops, are more than a message's bad luck.
const (
	inARow      = 3
	refusalSpan = time.Minute
	maxLanes    = 20_000

	// The first stop bridges the seconds until the leader has decided. Where nobody
	// decides (no leader, no etcd), each one is twice as long as the one before, so
	// that a carrier that blocks us for hours is asked once a minute and not all the
	// time.
	firstStop = 5 * time.Second
	mostStop  = time.Minute

	// What goes too fast stops for less: the carrier asked for a slower source, not
	// for another one. Even so a second without us is worth it, for at tens a second
	// the replies of two seconds make some carriers block.
	firstPause = 2 * time.Second
	mostPause  = 10 * time.Second
)

type lanes struct {
	n  atomic.Int32 // of mu.refused: mostly none, and a success need not ask further
	mu struct {
		sync.Mutex
		refused map[Lane]refusals // of those with any since the last success
		swept   time.Time         // when old ones were last looked for
	}
}

type refusals struct {
	n    int
	last time.Time // the last refusal, or the end of the last stop if that is later
	stop time.Duration
}

func (l *lanes) init() { l.mu.refused = map[Lane]refusals{} }

// Refused notes that a carrier refused a source for its own sake, or only for its
// speed, and says until when the source shall stop there: the zero time when it
// need not, since it was not refused several times in a row.
func (b *Book) Refused(now time.Time, lane Lane, forSpeed bool) (until time.Time) {
	first, most := firstStop, mostStop
	if forSpeed {
		first, most = firstPause, mostPause
	}
	l := &b.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	r, known := l.mu.refused[lane]
	if !known && len(l.mu.refused) >= maxLanes && !l.sweepLocked(now) {
		return time.Time{}
	}
	if now.Sub(r.last) > refusalSpan {
		r = refusals{}
	}
	r.n++
	switch {
	case r.stop > 0 && now.Before(r.last):
		until = r.last // it was under way when the stop began
	case r.n >= inARow:
		r.stop = min(max(first, 2*r.stop), most)
		until = now.Add(r.stop)
		r.last = until
	default:
		r.last = now
	}
	l.mu.refused[lane] = r
	l.n.Store(int32(len(l.mu.refused)))
	return until
}

// sweepLocked removes refusals so old that they count no more: what is no longer
// sent is never taken either. It reports whether there is room.
func (l *lanes) sweepLocked(now time.Time) bool {
	if now.Sub(l.mu.swept) > refusalSpan { // to look through all costs a millisecond
		l.mu.swept = now
		for lane, r := range l.mu.refused {
			if now.Sub(r.last) > refusalSpan {
				delete(l.mu.refused, lane)
			}
		}
	}
	return len(l.mu.refused) < maxLanes
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
