package steer

// table is a map with a bound: what was used longest ago gives way. An entry
// that is kept for other reasons (Pinned) does not.
type table[K comparable, V any] struct {
	most    int
	entries map[K]*entry[K, V]
	// Ring of all entries, the latest used after root; root holds nothing.
	root entry[K, V]
	// Lost counts those that gave way, and those that found no room.
	lost int64
	// removals counts what has left, so that who keeps pointers knows when none of
	// them can be out of date.
	removals int64
}

type entry[K comparable, V any] struct {
	key        K
	prev, next *entry[K, V]
	used       int64 // tick in which it was last moved to the front
	gone       bool  // out of the table: whoever has kept a pointer looks it up again
	pinned     bool
	value      V
}

const touchTicks = 64

func newTable[K comparable, V any](most int) *table[K, V] {
	t := &table[K, V]{most: most, entries: make(map[K]*entry[K, V])}
	t.root.prev, t.root.next = &t.root, &t.root
	return t
}

// get finds an entry or makes it; nil when there is no room.
func (t *table[K, V]) get(k K, tick int64) *entry[K, V] {
	e := t.entries[k]
	if e == nil {
		if len(t.entries) >= t.most && !t.evict() {
			t.lost++
			return nil
		}
		e = &entry[K, V]{key: k, used: tick}
		t.entries[k] = e
		t.link(e)
		return e
	}
	t.touch(e, tick)
	return e
}

// touch says that an entry is used. It moves once in touchTicks, since to move it
// is to write to its neighbours too.
func (t *table[K, V]) touch(e *entry[K, V], tick int64) {
	if tick-e.used < touchTicks {
		return
	}
	e.used = tick
	e.prev.next, e.next.prev = e.next, e.prev
	t.link(e)
}

func (t *table[K, V]) link(e *entry[K, V]) {
	e.prev, e.next = &t.root, t.root.next
	e.prev.next, e.next.prev = e, e
}

// evict makes room for one. Pinned entries that stand at the end move to the
// front, so that the search is short the next time.
func (t *table[K, V]) evict() bool {
	for range len(t.entries) {
		e := t.root.prev
		if !e.pinned {
			t.remove(e)
			t.lost++
			return true
		}
		e.prev.next, e.next.prev = e.next, e.prev
		t.link(e)
	}
	return false
}

func (t *table[K, V]) remove(e *entry[K, V]) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.gone = true
	t.removals++
	delete(t.entries, e.key)
}
