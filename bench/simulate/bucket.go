package simulate

import (
	"math/big"
	"time"

	"hikyaku/controlplane/exchange"
)

// bucket is a token bucket of a part of a rate, in whole units: a token is
// per * FullShare of them, and n * share come in each nanosecond. It is the
// simulator's own, so that a fault in the scheduler's cannot hide one here.
type bucket struct {
	n, share, per int64
	burst         int64
	level         int64 // units
	at            time.Time
}

func (b *bucket) token() int64 { return b.per * exchange.FullShare }

// set changes what comes and what it holds; what is in it stays as far as it
// does.
func (b *bucket) set(now time.Time, n, per, share, burst int64) {
	b.advance(now)
	if per != b.per && b.per > 0 {
		x := new(big.Int).Mul(big.NewInt(b.level), big.NewInt(per))
		b.level = x.Quo(x, big.NewInt(b.per)).Int64()
	}
	b.n, b.per, b.share, b.burst = n, per, share, burst
	b.level = min(b.level, b.burst*b.token())
}

func (b *bucket) advance(now time.Time) {
	d := int64(now.Sub(b.at))
	if d <= 0 {
		return
	}
	b.at = now
	if b.per == 0 {
		return
	}
	full, flow := b.burst*b.token(), b.n*b.share
	if flow > 0 && d > (full-b.level)/flow {
		b.level = full
		return
	}
	b.level += d * flow
}

// ready is how long it takes until there is a token; negative is never.
func (b *bucket) ready(now time.Time) time.Duration {
	b.advance(now)
	switch {
	case b.per == 0 || b.level >= b.token():
		return 0
	case b.burst == 0 || b.n*b.share == 0:
		return -1
	}
	return time.Duration((b.token()-b.level)/(b.n*b.share) + 1)
}

func (b *bucket) take() {
	if b.per > 0 {
		b.level -= b.token()
	}
}
