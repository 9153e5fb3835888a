package scheduler

// timed is something that a timer wakes.
type timed interface {
	fire(s *Scheduler, now instant)
}

// timer is a place in the heap, embedded in what it wakes.
type timer struct {
	at    instant
	owner timed
	pos   int32 // index + 1; 0 is not set
}

// timerHeap orders timers by time. (container/heap costs twice the time.)
type timerHeap []*timer

func (h timerHeap) first() *timer {
	if len(h) == 0 {
		return nil
	}
	return h[0]
}

func (h timerHeap) put(i int, t *timer) {
	h[i] = t
	t.pos = int32(i + 1)
}

// up and down move the timer at i to where it belongs.
func (h timerHeap) up(i int) {
	t := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].at <= t.at {
			break
		}
		h.put(i, h[parent])
		i = parent
	}
	h.put(i, t)
}

func (h timerHeap) down(i int) {
	t := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].at < h[child].at {
			child++
		}
		if h[child].at >= t.at {
			break
		}
		h.put(i, h[child])
		i = child
	}
	h.put(i, t)
}

func (h timerHeap) fix(i int) {
	if i > 0 && h[i].at < h[(i-1)/2].at {
		h.up(i)
		return
	}
	h.down(i)
}

func (h *timerHeap) remove(t *timer) {
	i, last := int(t.pos-1), len(*h)-1
	moved := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	t.pos = 0
	if i < last {
		h.put(i, moved)
		h.fix(i)
	}
}

// setTimer moves t to the time; never takes it out.
func (s *Scheduler) setTimer(t *timer, owner timed, when instant) {
	if when != never {
		s.timers.set(t, owner, when)
		return
	}
	if t.pos > 0 {
		s.timers.remove(t)
	}
	t.at = never
}

func (h *timerHeap) set(t *timer, owner timed, when instant) {
	switch {
	case t.pos == 0:
		t.at, t.owner = when, owner
		*h = append(*h, t)
		h.up(len(*h) - 1)
	case t.at != when:
		t.at = when
		h.fix(int(t.pos - 1))
	}
}

// fire wakes everything that has come due.
func (s *Scheduler) fire(now instant) {
	for {
		t := s.timers.first()
		if t == nil || t.at > now {
			return
		}
		s.timers.remove(t)
		t.owner.fire(s, now)
	}
}

// fifo is a queue of things, each in it at most once; the things know.
type fifo[T any] struct {
	in, out []T
}

func (f *fifo[T]) push(v T) { f.in = append(f.in, v) }

func (f *fifo[T]) len() int { return len(f.in) + len(f.out) }

func (f *fifo[T]) pop() (v T, ok bool) {
	if len(f.out) == 0 {
		if len(f.in) == 0 {
			return v, false
		}
		// Reverse, so that pops are from the end: amortised constant.
		for i := len(f.in) - 1; i >= 0; i-- {
			f.out = append(f.out, f.in[i])
		}
		clear(f.in)
		f.in = f.in[:0]
	}
	v = f.out[len(f.out)-1]
	var zero T
	f.out[len(f.out)-1] = zero
	f.out = f.out[:len(f.out)-1]
	if f.len() == 0 && cap(f.in)+cap(f.out) > 1024 {
		f.in, f.out = nil, nil // it has been long, and need not be again
	}
	return v, true
}
