package delivery

import (
	"sync"
	"time"
)

// memory remembers keys for a while. It holds at most size of them: the one
// remembered longest ago makes room. Safe for concurrent use.
type memory[K comparable] struct {
	size int
	mu   struct {
		sync.Mutex
		byKey map[K]*memoryEntry[K]
		ring  memoryEntry[K] // ring.next was remembered last, ring.prev first
		full  uint64         // how often one had to make room
	}
}

type memoryEntry[K comparable] struct {
	key        K
	until      time.Time
	prev, next *memoryEntry[K]
}

func newMemory[K comparable](size int) *memory[K] {
	m := &memory[K]{size: size}
	m.mu.byKey = make(map[K]*memoryEntry[K])
	m.mu.ring.prev, m.mu.ring.next = &m.mu.ring, &m.mu.ring
	return m
}

// remember keeps key until the given time.
func (m *memory[K]) remember(key K, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.mu.byKey[key]
	switch {
	case e != nil:
		e.unlink()
	case len(m.mu.byKey) >= m.size:
		e = m.mu.ring.prev
		e.unlink()
		delete(m.mu.byKey, e.key)
		m.mu.full++
	default:
		e = new(memoryEntry[K])
	}
	e.key, e.until = key, until
	e.prev, e.next = &m.mu.ring, m.mu.ring.next
	e.prev.next, e.next.prev = e, e
	m.mu.byKey[key] = e
}

// has reports whether key is remembered at now.
func (m *memory[K]) has(key K, now time.Time) bool {
	_, is := m.until(key, now)
	return is
}

// until is has, and says for how long.
func (m *memory[K]) until(key K, now time.Time) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.mu.byKey[key]
	if e == nil {
		return time.Time{}, false
	}
	if now.Before(e.until) {
		return e.until, true
	}
	m.forgetLocked(e)
	return time.Time{}, false
}

// forget drops key.
func (m *memory[K]) forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.mu.byKey[key]; e != nil {
		m.forgetLocked(e)
	}
}

func (m *memory[K]) forgetLocked(e *memoryEntry[K]) {
	e.unlink()
	delete(m.mu.byKey, e.key)
}

func (m *memory[K]) stats() (n int, full uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mu.byKey), m.mu.full
}

func (e *memoryEntry[K]) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
}
