package access

import (
	"net/netip"
	"sync"
	"time"
)

// Guesses are slowed down for each address: failureBurst at once, then one in
// failureEvery. A key has 256 random bits, so this is not what keeps it safe; it
// keeps logs and audit readable and the processor free. A client with a stale
// key that asks every fifteen seconds never gets so far.
const (
	failureBurst = 20
	failureEvery = 3 * time.Second
	// maxAddresses bounds the table. When it is full the address that failed
	// longest ago is forgotten.
	maxAddresses = 4096
)

// failures counts refused logins by address.
type failures struct {
	mu struct {
		sync.Mutex
		// full is when an address will have its whole burst again.
		full    map[netip.Addr]time.Time
		evicted uint64
	}
}

// addressOf is what one guesser can change at no cost: the host part of IPv6
// (RFC 6177) counts as one.
func addressOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// wait is how long the address must wait before it may try; 0 is not at all.
func (f *failures) wait(a netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	full, ok := f.mu.full[addressOf(a)]
	if !ok {
		return 0
	}
	return max(0, full.Sub(now)-(failureBurst-1)*failureEvery)
}

// failed counts one more.
func (f *failures) failed(a netip.Addr, now time.Time) {
	a = addressOf(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.full == nil {
		f.mu.full = map[netip.Addr]time.Time{}
	}
	full, known := f.mu.full[a]
	if !known && len(f.mu.full) >= maxAddresses {
		f.evictLocked(now)
	}
	if full.Before(now) {
		full = now
	}
	f.mu.full[a] = full.Add(failureEvery)
}

// evictLocked makes room: all that have their burst again, else the one that
// will have it first.
func (f *failures) evictLocked(now time.Time) {
	var first netip.Addr
	var at time.Time
	for a, full := range f.mu.full {
		if !full.After(now) {
			delete(f.mu.full, a)
			continue
		}
		if at.IsZero() || full.Before(at) {
			first, at = a, full
		}
	}
	if len(f.mu.full) >= maxAddresses {
		delete(f.mu.full, first)
		f.mu.evicted++
	}
}

// Metrics of a Guard.
type Metrics struct {
	Refused   uint64 // requests without a valid key or token
	Limited   uint64 // answered 429
	Forbidden uint64 // a valid key whose role is not enough
	Addresses int    // in the table of failures
	Evicted   uint64 // forgotten since the table was full
	Unaudited uint64 // refusals that were not written to the audit log, one by one
}

func (f *failures) metrics(m *Metrics) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.Addresses, m.Evicted = len(f.mu.full), f.mu.evicted
}
