package feedback

import (
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
// generations, bounded. After a restart and on other nodes Feedback.ID tells.
type replays struct {
	mu struct {
		sync.Mutex
		young, old map[string]struct{}
	}
}

const maxReplays = 1 << 16

func (s *replays) seen(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, young := s.mu.young[id]
	_, old := s.mu.old[id]
	return young || old
}

func (s *replays) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.young == nil || len(s.mu.young) >= maxReplays {
		s.mu.old, s.mu.young = s.mu.young, make(map[string]struct{})
	}
	s.mu.young[id] = struct{}{}
}
