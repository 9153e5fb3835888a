package control

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/lease"
)

// Hold is the right to use one source, from its beginning to its one end. Safe
// for concurrent use.
type Hold struct {
	// Source and Epoch name it; the epoch of what needs no lease is 0.
	Source string
	Epoch  int64

	keeper  *lease.Keeper // nil: it needs no lease
	over    atomic.Bool
	stopped context.Context // ends with the right to use
	stop    context.CancelFunc
	severed context.Context // ends when what is still open must close
	cut     context.CancelFunc

	mu struct {
		sync.Mutex
		open  int  // uses under way
		ended bool // nothing may enter
	}
	empty chan struct{} // closed when it has ended and nothing is open
}

// NewHold is the right to use a source by a lease, or without one (nil).
func NewHold(source string, epoch int64, k *lease.Keeper) *Hold {
	h := &Hold{Source: source, Epoch: epoch, keeper: k, empty: make(chan struct{})}
	h.stopped, h.stop = context.WithCancel(context.Background())
	h.severed, h.cut = context.WithCancel(context.Background())
	return h
}

// MayUse reports whether the source may be used at now, which must carry a
// monotonic reading. Ask right before each connect and each MAIL.
func (h *Hold) MayUse(now time.Time) bool {
	return !h.over.Load() && (h.keeper == nil || h.keeper.Holds(now))
}

// Stopped ends when the right to use has ended and somebody has noticed, which
// is no earlier than MayUse says so.
func (h *Hold) Stopped() context.Context { return h.stopped }

// Severed ends when uses that are still under way must be cut off.
func (h *Hold) Severed() context.Context { return h.severed }

// Enter begins a use, a connection with all that is said on it; Leave must
// follow. false: the source may not be used.
func (h *Hold) Enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.ended {
		return false
	}
	h.mu.open++
	return true
}

// Leave ends a use.
func (h *Hold) Leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.open--; h.mu.open == 0 && h.mu.ended {
		close(h.empty)
	}
}

// End takes the right away. It reports false if that was done before.
func (h *Hold) End() bool {
	h.over.Store(true)
	h.mu.Lock()
	was := h.mu.ended
	h.mu.ended = true
	if !was && h.mu.open == 0 {
		close(h.empty)
	}
	h.mu.Unlock()
	h.stop() // after MayUse says no: who hears of it finds it so
	return !was
}

// Sever cuts off what is still under way.
func (h *Hold) Sever() { h.cut() }

// uses is how many are under way.
func (h *Hold) uses() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.open
}
