package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrLost says that the lease is over: the server said so, or its deadline has
// passed without an answer.
var ErrLost = errors.New("lease lost")

// Keeper knows the deadline of one lease. Safe for concurrent use; Until and
// Holds cost one atomic load.
type Keeper struct {
	ttl, margin time.Duration
	began       time.Time     // what until is counted from; carries the monotonic clock
	until       atomic.Int64  // nanoseconds after began; 0 is never held
	lost        atomic.Bool   // for good
	over        chan struct{} // closed by Keep's end
}

// New is the keeper of a lease that was granted in answer to a request sent at
// the given time (with its monotonic reading). The margin must be below the TTL.
func New(sent time.Time, ttl, margin time.Duration) (*Keeper, error) {
	if ttl <= 0 || margin < 0 || margin >= ttl {
		return nil, fmt.Errorf("lease of %s with a margin of %s: want 0 <= margin < ttl", ttl, margin)
	}
	k := &Keeper{ttl: ttl, margin: margin, began: sent, over: make(chan struct{})}
	k.until.Store(int64(ttl - margin))
	return k, nil
}

// TTL is the lease's time to live as asked for.
func (k *Keeper) TTL() time.Duration { return k.ttl }

// Until is the deadline. What is held by the lease must not be used from then on.
func (k *Keeper) Until() time.Time { return k.began.Add(time.Duration(k.until.Load())) }

// Holds reports whether the lease may still be relied on at now, which must
// carry a monotonic reading as time.Now's does.
func (k *Keeper) Holds(now time.Time) bool {
	return !k.lost.Load() && now.Sub(k.began) < time.Duration(k.until.Load())
}

// Renewed moves the deadline on after an answer to a renewal that was sent at
// the given time. It reports false, and changes nothing, if the deadline had
// passed by the time of the answer: then the lease is lost, whatever the server
// says, since others were told so.
func (k *Keeper) Renewed(sent, answered time.Time, ttl time.Duration) bool {
	if !k.Holds(answered) {
		k.lost.Store(true)
		return false
	}
	next := int64(sent.Sub(k.began) + min(ttl, k.ttl) - k.margin)
	for {
		old := k.until.Load()
		if next <= old || k.until.CompareAndSwap(old, next) {
			return true
		}
	}
}

// GiveUp ends the lease from this side, before it is revoked at the server.
func (k *Keeper) GiveUp() { k.lost.Store(true) }

// Done is closed when Keep has ended.
func (k *Keeper) Done() <-chan struct{} { return k.over }

// renewals is how many tries fit into one TTL.
const renewals = 5

// Renew asks the server once. It returns the TTL that the server names, an
// error that wraps ErrLost if the server knows no such lease, or any other
// error for one more try.
type Renew func(ctx context.Context) (ttl time.Duration, err error)

// Keep renews the lease until it is lost or ctx ends, and returns why. Call it
// once. Each try ends with the deadline at the latest, so that an answer that
// hangs costs tries but never goes unnoticed.
func (k *Keeper) Keep(ctx context.Context, renew Renew) error {
	defer close(k.over)
	tick := time.NewTicker(max(k.ttl/renewals, time.Millisecond))
	defer tick.Stop()
	var last error
	for {
		sent := time.Now()
		if !k.Holds(sent) {
			k.lost.Store(true)
			return errors.Join(fmt.Errorf("%w: no answer to a renewal in %s", ErrLost, k.ttl-k.margin), last)
		}
		try, cancel := context.WithDeadline(ctx, k.Until())
		ttl, err := renew(try)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrLost):
			k.lost.Store(true)
			return err
		case err != nil:
			last = err
		case !k.Renewed(sent, time.Now(), ttl):
			return fmt.Errorf("%w: the answer to a renewal took %s", ErrLost, time.Since(sent))
		default:
			last = nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
