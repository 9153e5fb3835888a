package scheduler

import (
	"math"
	"math/bits"
	"time"

	"hikyaku/controlplane/policy"
)

// instant is a time as the scheduler keeps it: nanoseconds since the Unix
// epoch. A third of the size of a time.Time, and compared as a number.
type instant int64

// never is later than every time that comes.
const never instant = math.MaxInt64

// at is t as an instant. What lies before 1970, as the zero time does, is 0;
// what lies past the year 2262 is never.
func at(t time.Time) instant {
	switch sec := t.Unix(); {
	case sec < 0:
		return 0
	case sec > math.MaxInt64/int64(time.Second)-1:
		return never
	}
	return instant(t.UnixNano())
}

// time is the instant as a time.Time in UTC.
func (i instant) time() time.Time { return time.Unix(0, int64(i)).UTC() }

// bucket is a token bucket in exact integer arithmetic. The zero value has no
// limit. It begins empty, and again each time it is given a limit after having
// had none (design.md 5.7): a node that restarts has forgotten what it sent,
// so it must not have a burst to begin with.
//
// INVARIANT: for every span W of time, the tokens taken in it and not given
// back are at most N/Per × W + burst; across changes of the rate, with the
// largest N/Per and burst of those in force in the span.
//
// The level is whole tokens and a rest in units of 1/Per token, of which N come
// each nanosecond. So 3/s is three a second after a year too, and no rate is
// too high for a nanosecond. (What comes in a part of a nanosecond is kept where
// the burst has room for it. With a burst of 1 the tokens of 3/s are 333333334 ns
// apart, since 333333333 would break the bound.)
type bucket struct {
	rate  policy.Rate // Per is 0 where there is no limit
	burst int64

	tokens int64   // 0 to burst
	part   uint64  // 0 to Per-1; 0 when tokens is burst
	last   instant // when the level was brought up to date

	refund refund
}

// refund is what giveBack may add. A token cannot simply be put back: while it
// was out, the bucket may have filled up without it and been emptied again, and
// the token would then be a second one in the same span. So there is an account
// of how much of the tokens taken since a mark would still have found room had
// they stayed.
//
// INVARIANT: level + taken - lost ≤ burst.
type refund struct {
	since instant // tokens taken earlier cannot come back
	taken int64   // tokens taken since and not given back
	lost  uint64  // what each of them has lost to the brim, in units of 1/Per token; below one token
}

// set gives the bucket its rate; nil is no limit. A changed rate keeps the
// tokens that are there, as far as the new burst holds them, and never adds
// any. What is no valid rate stops the bucket, as N = 0 does.
func (b *bucket) set(now instant, r *policy.Rate) {
	if r == nil {
		*b = bucket{}
		return
	}
	rate := *r
	if rate.Per <= 0 || rate.N < 0 {
		rate = policy.Rate{N: 0, Per: time.Second}
	}
	if rate == b.rate {
		return
	}
	b.advance(now)
	old := b.rate.Per
	b.rate, b.burst = rate, rate.BurstOrDefault()
	b.last = max(b.last, now)
	// Tokens taken under the old rate are not worth an account in its units.
	// One nanosecond on, since some may have been taken at this very instant.
	b.refund = refund{since: b.last + 1}
	switch {
	case rate.N == 0, old == 0:
		b.tokens, b.part = 0, 0
	case b.tokens >= b.burst:
		b.tokens, b.part = b.burst, 0
	default:
		hi, lo := bits.Mul64(b.part, uint64(rate.Per))
		b.part, _ = bits.Div64(hi, lo, uint64(old)) // rounded down; below the new Per, as part is below the old
	}
}

// advance adds what has come since the last time. A clock that goes back adds
// nothing.
func (b *bucket) advance(now instant) {
	if b.rate.Per == 0 || now <= b.last {
		return
	}
	if b.tokens < b.burst {
		b.fill(uint64(now - b.last))
	}
	b.last = now
	b.settle()
}

// fill adds what comes in some nanoseconds, up to the brim.
func (b *bucket) fill(nanos uint64) {
	hi, lo := bits.Mul64(uint64(b.rate.N), nanos)
	lo, carry := bits.Add64(lo, b.part, 0)
	hi += carry
	per := uint64(b.rate.Per)
	if hi < per { // else more than 2^64 tokens came
		whole, rest := bits.Div64(hi, lo, per)
		if whole < uint64(b.burst-b.tokens) {
			b.tokens += int64(whole)
			b.part = rest
			return
		}
	}
	b.tokens, b.part = b.burst, 0
}

// settle brings the refund account up to date with a level that has risen.
func (b *bucket) settle() {
	switch over := b.tokens - (b.burst - b.refund.taken); {
	case over > 0:
		b.refund = refund{since: b.last}
	case over == 0:
		b.refund.lost = max(b.refund.lost, b.part)
	}
}

// ready is the earliest time at which a token can be taken: now, a later
// instant, or never.
func (b *bucket) ready(now instant) instant {
	b.advance(now)
	switch {
	case b.rate.Per == 0 || b.tokens > 0:
		return now
	case b.rate.N == 0:
		return never
	}
	need, n := uint64(b.rate.Per)-b.part, uint64(b.rate.N)
	wait := (need-1)/n + 1
	if wait >= uint64(never-b.last) {
		return never
	}
	return b.last + instant(wait)
}

// take takes a token. The caller has asked ready for the same instant.
func (b *bucket) take(now instant) {
	if b.rate.Per == 0 {
		return
	}
	b.advance(now)
	if b.tokens == 0 {
		panic("BUG: a token taken from an empty bucket")
	}
	b.tokens--
	b.refund.taken++
}

// giveBack returns a token that was taken at the instant taken and then not
// used. The bucket gets back what of it there would still be had it stayed;
// that is less than the whole, or nothing, where the bucket has been at the
// brim meanwhile, or its rate has changed.
func (b *bucket) giveBack(now, taken instant) {
	b.advance(now)
	if b.rate.Per == 0 || taken < b.refund.since || b.refund.taken == 0 {
		return
	}
	per := uint64(b.rate.Per)
	b.part += per - b.refund.lost
	if b.part >= per {
		b.part -= per
		b.tokens++
	}
	if b.refund.taken--; b.refund.taken == 0 {
		b.refund.lost = 0 // none is out that could have lost anything
	}
}

// idle reports whether the bucket can be forgotten: it is full, or has nothing
// to remember. One made anew begins empty, which is only stricter.
func (b *bucket) idle(now instant) bool {
	b.advance(now)
	return b.rate.N == 0 || b.tokens == b.burst
}

// available is how many tokens could be taken at once.
func (b *bucket) available(now instant) int64 {
	b.advance(now)
	if b.rate.Per == 0 {
		return math.MaxInt64
	}
	return b.tokens
}

// interval is the time from one token to the next; 0 where there is no limit
// or nothing comes.
func (b *bucket) interval() instant {
	if b.rate.N <= 0 || b.rate.Per <= 0 {
		return 0
	}
	return instant((int64(b.rate.Per)-1)/b.rate.N + 1)
}

// limit is the rate as it is written in policy; "" where there is none.
func (b *bucket) limit() string {
	if b.rate.Per == 0 {
		return ""
	}
	return b.rate.String()
}
