package reputation

import (
	"time"

	"hikyaku/bench/carriers"
	"hikyaku/bench/carriers/late"
	"hikyaku/spool/message"
)

type eventKind uint8

const (
	evSecond    eventKind = iota // the next second of the day
	evConnected                  // the answer to a connect
	evDone                       // the answer that ends a transaction
	evLook                       // a waiting session looks again, or has waited long enough
	evNotice                     // a late bounce or complaint arrives
)

// event is something that happens at a time.
type event struct {
	at      time.Time
	serial  uint64 // of two at one time, the one that was made first comes first
	kind    eventKind
	session *session
	answer  carriers.Answer
	phase   message.Phase
	turn    int
	notice  *late.Notice
}

// events is a heap by time. container/heap would put each into an interface,
// and these are millions.
type events struct {
	heap []event
	made uint64
}

func (h *events) first() time.Time { return h.heap[0].at } // the next second is always there

func (h *events) before(i, j int) bool {
	a, b := &h.heap[i], &h.heap[j]
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.serial < b.serial
}

func (h *events) push(e event) {
	h.made++
	e.serial = h.made
	h.heap = append(h.heap, e)
	for i := len(h.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.before(i, up) {
			return
		}
		h.heap[i], h.heap[up] = h.heap[up], h.heap[i]
		i = up
	}
}

func (h *events) pop() event {
	e, n := h.heap[0], len(h.heap)-1
	h.heap[0], h.heap[n] = h.heap[n], event{}
	h.heap = h.heap[:n]
	for i := 0; ; {
		down := 2*i + 1
		if down >= n {
			return e
		}
		if down+1 < n && h.before(down+1, down) {
			down++
		}
		if !h.before(down, i) {
			return e
		}
		h.heap[i], h.heap[down] = h.heap[down], h.heap[i]
		i = down
	}
}
