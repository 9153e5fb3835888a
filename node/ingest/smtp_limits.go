package ingest

import (
	"net/netip"
	"sync"
	"time"
)

// clientKey is what counts as one client: an IPv4 address, or the /64 that an
// IPv6 host has to itself.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}

// clients counts connections for each client. It holds one entry for each
// client with an open connection, so MaxConnections bounds it.
type clients struct {
	mu struct {
		sync.Mutex
		open map[netip.Addr]int
	}
}

// enter counts a connection, unless that would be more than limit.
func (c *clients) enter(a netip.Addr, limit int) bool {
	key := clientKey(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.open == nil {
		c.mu.open = make(map[netip.Addr]int)
	}
	if c.mu.open[key] >= limit {
		return false
	}
	c.mu.open[key]++
	return true
}

func (c *clients) leave(a netip.Addr) {
	key := clientKey(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.open[key]--; c.mu.open[key] <= 0 {
		delete(c.mu.open, key)
	}
}

// Bounds of authFailures.
const (
	authFailureWindow = 10 * time.Minute
	authFailureRoom   = 16384
)

// authFailures counts failed logins for each client in a window of ten
// minutes. It remembers at most authFailureRoom clients; when it is full, one
// is forgotten for each that comes: guessing from so many addresses is not
// stopped by counting addresses anyway.
type authFailures struct {
	mu struct {
		sync.Mutex
		seen map[netip.Addr]authFailure
	}
}

type authFailure struct {
	n     int
	until time.Time
}

// add counts one failure.
func (f *authFailures) add(a netip.Addr, now time.Time) {
	key := clientKey(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.seen == nil {
		f.mu.seen = make(map[netip.Addr]authFailure)
	}
	e := f.mu.seen[key]
	if now.After(e.until) {
		e = authFailure{until: now.Add(authFailureWindow)}
	}
	e.n++
	if _, known := f.mu.seen[key]; !known && len(f.mu.seen) >= authFailureRoom {
		for victim := range f.mu.seen {
			delete(f.mu.seen, victim)
			break
		}
	}
	f.mu.seen[key] = e
}

// blocked reports whether the client failed limit times in its window.
func (f *authFailures) blocked(a netip.Addr, now time.Time, limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.mu.seen[clientKey(a)]
	return ok && e.n >= limit && !now.After(e.until)
}
