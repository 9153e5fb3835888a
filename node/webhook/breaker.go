package webhook

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstWait = time.Second
	lastWait  = 5 * time.Minute
	// maxRetryAfter bounds what an endpoint may ask for.
	maxRetryAfter = time.Hour
	// openAfter is how many failures in a row open the breaker.
	openAfter = 5
	// probeCheck is how soon another looks again while one request asks whether
	// the endpoint is back.
	probeCheck = time.Second
)

// backoff is the wait after so many failures in a row, 20 % random either way,
// so that many nodes do not come back as one.
func backoff(failures int) time.Duration {
	d := lastWait
	if failures < 20 {
		d = min(firstWait<<max(failures-1, 0), lastWait)
	}
	return d - d/5 + rand.N(2*d/5+1)
}

// breakers are by URL. One host serves many customers, so one path that fails
// says nothing about the others.
type breakers struct {
	mu struct {
		sync.Mutex
		of map[string]*breaker
	}
}

// breaker is closed (failures < openAfter), open until a time, or half open: one
// request is under way to see whether the endpoint is back.
type breaker struct {
	users    map[string]bool // consumers that have this URL
	failures int
	until    time.Time
	prober   string // consumer whose request is under way; "" for none
}

// begin asks to send a request. It says how long to wait first; 0 is to go
// ahead, and to call end.
func (b *breakers) begin(url, consumer string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	br := b.mu.of[url]
	if br == nil || !br.users[consumer] {
		b.useLocked(url, consumer)
		br = b.mu.of[url]
	}
	switch {
	case br.failures < openAfter:
		return 0
	case now.Before(br.until):
		return br.until.Sub(now)
	case br.prober != "" && br.prober != consumer:
		return probeCheck
	}
	br.prober = consumer
	return 0
}

// useLocked puts a consumer to a URL and takes it from the one it had.
func (b *breakers) useLocked(url, consumer string) {
	b.dropLocked(consumer)
	br := b.mu.of[url]
	if br == nil {
		br = &breaker{users: map[string]bool{}}
		b.mu.of[url] = br
	}
	br.users[consumer] = true
}

// end tells what came of a request. It returns how long to wait before the
// next; wanted is what the endpoint asked for, or 0.
func (b *breakers) end(url, consumer string, ok bool, wanted time.Duration, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	br := b.mu.of[url]
	if br == nil { // the webhook has another URL by now
		return firstWait
	}
	if br.prober == consumer {
		br.prober = ""
	}
	if ok {
		br.failures, br.until = 0, time.Time{}
		return 0
	}
	br.failures++
	wait := max(backoff(br.failures), min(wanted, maxRetryAfter))
	if next := now.Add(wait); next.After(br.until) {
		br.until = next
	}
	return wait
}

// abandon is for a request that was cut off by us and says nothing.
func (b *breakers) abandon(url, consumer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if br := b.mu.of[url]; br != nil && br.prober == consumer {
		br.prober = ""
	}
}

func (b *breakers) open(url string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	br := b.mu.of[url]
	return br != nil && br.failures >= openAfter
}

// drop takes a consumer off; a breaker that nobody uses goes.
func (b *breakers) drop(consumer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(consumer)
}

func (b *breakers) dropLocked(consumer string) {
	for url, br := range b.mu.of {
		if !br.users[consumer] {
			continue
		}
		delete(br.users, consumer)
		if br.prober == consumer {
			br.prober = ""
		}
		if len(br.users) == 0 {
			delete(b.mu.of, url)
		}
	}
}
