package scheduler

// ring is a list that is gone round. The front's turn is now; who comes new
// waits behind all others. (A slice from which the last member filled each gap
// served the newest first, and under overload the oldest never.)
type ring[T any] struct {
	front *place[T]
	n     int
}

// place is a member's place in a ring, embedded in the member. It is in at
// most one ring.
type place[T any] struct {
	prev, next *place[T]
	of         T
}

func (p *place[T]) in() bool { return p.next != nil }

// add puts a member at the back, if it is not in yet.
func (r *ring[T]) add(p *place[T], of T) {
	if p.in() {
		return
	}
	p.of = of
	if r.front == nil {
		p.prev, p.next = p, p
		r.front = p
	} else {
		p.prev, p.next = r.front.prev, r.front
		p.prev.next, p.next.prev = p, p
	}
	r.n++
}

// remove takes a member out, if it is in; behind the front is who comes next.
func (r *ring[T]) remove(p *place[T]) {
	if !p.in() {
		return
	}
	if r.front == p {
		r.front = p.next
	}
	if r.front == p {
		r.front = nil
	}
	p.prev.next, p.next.prev = p.next, p.prev
	var zero T
	p.prev, p.next, p.of = nil, nil, zero
	r.n--
}

// first is whose turn it is.
func (r *ring[T]) first() (m T, ok bool) {
	if r.front == nil {
		return m, false
	}
	return r.front.of, true
}

// rotate sends the front to the back.
func (r *ring[T]) rotate() {
	if r.front != nil {
		r.front = r.front.next
	}
}

// each calls fn for every member from the front on until it returns false; fn
// may take the member out.
func (r *ring[T]) each(fn func(T) bool) {
	p := r.front
	for range r.n {
		next := p.next
		if !fn(p.of) {
			return
		}
		p = next
	}
}
