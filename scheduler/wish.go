package scheduler

import "hikyaku/spool/message"

// wishes are what waits for something of which the node has only so much:
// pages, look-ups, connections. Classes share as they do at a site, tenants of
// a class take turns: ten million messages that wait for their pages must not
// stand before one that is urgent, or that is somebody else's.
type wishes[T any] struct {
	classes [message.Priorities]wishClass[T]
	turns   int
}

type wishClass[T any] struct {
	ring   ring[*wisher[T]]
	byName map[string]*wisher[T]
}

// wisher is one tenant's wishes of a class. It stays when it has none: tenants
// are few, and wishes come with every message.
type wisher[T any] struct {
	place place[*wisher[T]]
	of    fifo[T]
}

func (w *wishes[T]) push(p message.Priority, tenant string, v T) {
	c := &w.classes[min(p, message.Low)]
	t := c.byName[tenant]
	if t == nil {
		if c.byName == nil {
			c.byName = map[string]*wisher[T]{}
		}
		t = &wisher[T]{}
		c.byName[tenant] = t
	}
	t.of.push(v)
	c.ring.add(&t.place, t)
}

// pop takes the wish whose turn it is among the classes for which may is true.
func (w *wishes[T]) pop(may func(message.Priority) bool) (v T, p message.Priority, ok bool) {
	for _, p := range orderOf(w.turns) {
		c := &w.classes[p]
		if c.ring.n == 0 || !may(p) {
			continue
		}
		t, _ := c.ring.first()
		v, _ := t.of.pop()
		if c.ring.rotate(); t.of.len() == 0 {
			c.ring.remove(&t.place)
		}
		w.turns++
		return v, p, true
	}
	return v, p, false
}

// any reports whether a class for which may is true has wishes.
func (w *wishes[T]) any(may func(message.Priority) bool) bool {
	for p := range w.classes {
		if w.classes[p].ring.n > 0 && may(message.Priority(p)) {
			return true
		}
	}
	return false
}
