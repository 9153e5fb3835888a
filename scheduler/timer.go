package scheduler

import "container/heap"

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

// timerHeap orders timers by time.
type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = int32(i+1), int32(j+1)
}

// Push is heap.Interface.
func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.pos = int32(len(*h) + 1)
	*h = append(*h, t)
}

// Pop is heap.Interface.
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.pos = 0
	return t
}

func (h timerHeap) first() *timer {
	if len(h) == 0 {
		return nil
	}
	return h[0]
}

// setTimer moves t to the time; never takes it out.
func (s *Scheduler) setTimer(t *timer, owner timed, when instant) {
	switch {
	case when == never:
		if t.pos > 0 {
			heap.Remove(&s.timers, int(t.pos-1))
		}
		t.at = never
	case t.pos > 0:
		if t.at != when {
			t.at = when
			heap.Fix(&s.timers, int(t.pos-1))
		}
	default:
		t.at, t.owner = when, owner
		heap.Push(&s.timers, t)
	}
}

// fire wakes everything that has come due.
func (s *Scheduler) fire(now instant) {
	for {
		t := s.timers.first()
		if t == nil || t.at > now {
			return
		}
		heap.Pop(&s.timers)
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
	return v, true
}
