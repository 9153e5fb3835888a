package feedback

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// rate is what a bucket counts.
type rate uint8

const (
	messageRate rate = iota
	badRate
)

// burst is how many times a second's worth a client may use at once.
const burst = 10

// limiter counts by client. Two generations of buckets bound it: when the younger
// is full or a minute old, it becomes the elder, and the elder is forgotten. A
// client that was forgotten has waited at least a minute, or shares the listener
// with so many others that their number is the trouble.
type limiter struct {
	mu struct {
		sync.Mutex
		young, old map[bucketKey]*bucket
		since      time.Time
	}
}

const (
	maxBuckets    = 8192
	bucketsEvery  = time.Minute
	clientBitsIP6 = 64
)

type bucketKey struct {
	client netip.Addr
	rate   rate
}

// bucket is a time in the future up to which the client has used its rate.
type bucket struct{ until time.Time }

func newLimiter() *limiter {
	l := &limiter{}
	l.mu.young = make(map[bucketKey]*bucket)
	return l
}

// may says whether the client's rate allows one more, and counts it if so.
func (l *limiter) may(client netip.Addr, which rate, perSecond int, now time.Time) bool {
	key := bucketKey{clientOf(client), which}
	each := time.Second / time.Duration(perSecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.young) >= maxBuckets || now.Sub(l.mu.since) > bucketsEvery {
		l.mu.old, l.mu.young, l.mu.since = l.mu.young, make(map[bucketKey]*bucket), now
	}
	b := l.mu.young[key]
	if b == nil {
		if b = l.mu.old[key]; b == nil {
			b = &bucket{}
		}
		l.mu.young[key] = b
	}
	if b.until.Before(now) {
		b.until = now
	}
	if b.until.Sub(now) >= burst*time.Second {
		return false
	}
	b.until = b.until.Add(each)
	return true
}

// clientOf is what counts as one client: an IPv4 address or an IPv6 /64.
func clientOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(clientBitsIP6); err == nil {
			return p.Addr()
		}
	}
	return a
}

// replays remembers what was handled, so that the same news twice is one: two
// generations, bounded, and what is being handled, which has a connection each.
// What was handled before a restart, Handle knows.
type replays struct {
	mu struct {
		sync.Mutex
		young, old map[string]struct{}
		now        map[string]chan struct{} // closed when it is handled, or not
	}
}

const maxReplays = 1 << 16

// claim gives news to one at a time, until release. Who comes meanwhile waits,
// since it is not sure yet that the news is stored. known says that it is; then
// nothing is claimed, unless it is to be handled again.
func (s *replays) claim(ctx context.Context, id string, again bool) (known bool, err error) {
	for {
		known, busy := s.tryClaim(id, again)
		if busy == nil {
			return known, nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return false, fmt.Errorf("wait for the same news to be stored: %w", context.Cause(ctx))
		}
	}
}

func (s *replays) tryClaim(id string, again bool) (known bool, busy chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known = s.mu.young[id]; !known {
		_, known = s.mu.old[id]
	}
	if known && !again {
		return true, nil
	}
	if busy = s.mu.now[id]; busy != nil {
		return false, busy
	}
	if s.mu.now == nil {
		s.mu.now = make(map[string]chan struct{})
	}
	s.mu.now[id] = make(chan struct{})
	return known, nil
}

func (s *replays) release(id string, handled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.mu.now[id])
	delete(s.mu.now, id)
	if !handled {
		return
	}
	if s.mu.young == nil || len(s.mu.young) >= maxReplays {
		s.mu.old, s.mu.young = s.mu.young, make(map[string]struct{})
	}
	s.mu.young[id] = struct{}{}
}
