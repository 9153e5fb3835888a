package scheduler

import (
	"math"
	"math/bits"
	"time"

	"hikyaku/controlplane/exchange"
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
// A bucket has a portion of a limit: all of it, or the part of one node among
// several. The levels of the nodes' buckets together are what one bucket for
// all of them would hold, or less:
//
// INVARIANT: for every span W of time, the tokens taken in it and not given
// back are at most the level at its beginning, which is at most the part of the
// burst in force then, and N/Per × share/FullShare over each moment of W. So if
// at every moment the shares of some buckets sum to FullShare at most, and their
// parts of the burst to the burst, the tokens taken from all of them are at most
// N/Per × W + burst; across changes of the rate, with the largest N/Per and
// burst of those in force in the span. (A smaller part of the burst therefore
// cuts the level at once, and a larger one adds nothing to it.)
//
// The level is whole tokens and a rest in units of 1/den token, of which num
// come each nanosecond; den is Per × FullShare, so the unit is the same for all
// shares, and a share that changes each second rounds nothing. So 3/s is three a
// second after a year too, and no rate is too high for a nanosecond. (What comes
// in a part of a nanosecond is kept where the burst has room for it. With a
// burst of 1 the tokens of 3/s are 333333334 ns apart, since 333333333 would
// break the bound.)
//
// What each look at a bucket reads stands first, in one cache line.
type bucket struct {
	num, den uint64  // num/den tokens come each nanosecond; den is 0 where there is no limit
	last     instant // when the level was brought up to date
	until    instant // when have ends and floor is what is left; never for what does not end
	tokens   int64   // 0 to have.burst
	part     uint64  // 0 to den-1; 0 when tokens is have.burst
	have     portion // of rate

	refund refund
	floor  portion
	rate   policy.Rate // the whole limit
}

// portion is a node's part of a rate: of what comes, in FullShare parts, and of
// the burst, in tokens.
type portion struct{ share, burst int64 }

// wholeOf is all of a rate.
func wholeOf(r *policy.Rate) portion { return portion{exchange.FullShare, burstOf(r)} }

// burstOf is a rate's whole burst; 0 without a rate.
func burstOf(r *policy.Rate) int64 {
	if r == nil || !validRate(r) {
		return 0
	}
	return r.BurstOrDefault()
}

// Bounds that keep num and den below 2^63. Policy's are 10^12 and a day.
const (
	maxRateN = math.MaxInt64 / exchange.FullShare
	maxPer   = time.Duration(math.MaxInt64 / exchange.FullShare)
)

// validRate reports whether a bucket can count by the rate.
func validRate(r *policy.Rate) bool {
	return r.Per > 0 && r.Per <= maxPer && r.N >= 0 && r.N <= maxRateN
}

// refund is what giveBack may add. A token cannot simply be put back: while it
// was out, the bucket may have filled up without it and been emptied again, and
// the token would then be a second one in the same span. So there is an account
// of how much of the tokens taken since a mark would still have found room had
// they stayed.
//
// INVARIANT: level + taken - lost ≤ have.burst.
type refund struct {
	since instant // tokens taken earlier cannot come back
	taken int64   // tokens taken since and not given back
	lost  uint64  // what each of them has lost to the brim, in units of 1/den token; below one token
}

// set gives the bucket all of a rate; nil is no limit.
func (b *bucket) set(now instant, r *policy.Rate) {
	b.setPart(now, r, wholeOf(r), never, portion{})
}

// setPart gives the bucket its portion of a rate; nil is no limit. At until the
// portion falls to the floor. A changed rate or portion keeps the tokens that
// are there, as far as the new part of the burst holds them, and never adds
// any. What is no valid rate stops the bucket, as N = 0 does.
func (b *bucket) setPart(now instant, r *policy.Rate, have portion, until instant, floor portion) {
	if r == nil {
		*b = bucket{}
		return
	}
	rate := *r
	if !validRate(&rate) {
		rate, have = policy.Rate{N: 0, Per: time.Second}, portion{}
	}
	b.advance(now)
	b.until, b.floor = until, floor
	if rate != b.rate {
		b.setRate(now, rate)
	}
	if have != b.have {
		b.setHave(max(b.last, now), have)
	}
	if b.until <= b.last {
		b.setHave(b.last, floor) // it has ended already
		b.until = never
	}
}

// setRate changes the limit of which the bucket has a portion.
func (b *bucket) setRate(now instant, rate policy.Rate) {
	old := b.den
	b.rate, b.den = rate, uint64(rate.Per)*exchange.FullShare
	b.num = uint64(rate.N) * uint64(b.have.share)
	b.last = max(b.last, now)
	// Tokens taken under the old rate are not worth an account in its units.
	// One nanosecond on, since some may have been taken at this very instant.
	b.refund = refund{since: b.last + 1}
	if rate.N == 0 || old == 0 {
		b.tokens, b.part = 0, 0
		return
	}
	hi, lo := bits.Mul64(b.part, b.den)
	b.part, _ = bits.Div64(hi, lo, old) // rounded down; below the new den, as part is below the old
}

// setHave changes the portion. The unit stays, and with it the account of what
// may be given back, as far as it still has room.
func (b *bucket) setHave(now instant, have portion) {
	b.have = portion{max(0, min(have.share, exchange.FullShare)), max(0, have.burst)}
	b.num = uint64(b.rate.N) * uint64(b.have.share)
	b.last = max(b.last, now)
	if b.tokens >= b.have.burst {
		b.tokens, b.part = b.have.burst, 0
	}
	if b.tokens+b.refund.taken > b.have.burst {
		b.refund = refund{since: b.last + 1}
		return
	}
	b.settle()
}

// advance adds what has come since the last time. A clock that goes back adds
// nothing.
func (b *bucket) advance(now instant) {
	if now <= b.last || b.den == 0 {
		return
	}
	if now >= b.until {
		b.fall()
	}
	b.fillTo(now)
}

func (b *bucket) fillTo(now instant) {
	if b.tokens < b.have.burst {
		b.fill(uint64(now - b.last))
	}
	b.last = now
	b.settle()
}

// fall ends what was granted, at its very instant, whenever somebody looks.
func (b *bucket) fall() {
	if b.until > b.last {
		b.fillTo(b.until)
	}
	b.until = never
	b.setHave(b.last, b.floor)
}

// fill adds what comes in some nanoseconds, up to the brim.
func (b *bucket) fill(nanos uint64) {
	hi, lo := bits.Mul64(b.num, nanos)
	lo, carry := bits.Add64(lo, b.part, 0)
	hi += carry
	if hi < b.den { // else more than 2^64 tokens came
		whole, rest := bits.Div64(hi, lo, b.den)
		if whole < uint64(b.have.burst-b.tokens) {
			b.tokens += int64(whole)
			b.part = rest
			return
		}
	}
	b.tokens, b.part = b.have.burst, 0
}

// settle brings the refund account up to date with a level that has risen.
func (b *bucket) settle() {
	switch over := b.tokens - (b.have.burst - b.refund.taken); {
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
	case b.tokens > 0 || b.den == 0:
		return now
	case b.num == 0 || b.have.burst == 0:
		return never
	}
	wait := (b.den-b.part-1)/b.num + 1
	if wait >= uint64(never-b.last) {
		return never
	}
	return b.last + instant(wait)
}

// take takes a token. The caller has asked ready for the same instant.
func (b *bucket) take(now instant) {
	if b.den == 0 {
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
	if b.den == 0 || taken < b.refund.since || b.refund.taken == 0 {
		return
	}
	b.part += b.den - b.refund.lost
	if b.part >= b.den {
		b.part -= b.den
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
	return b.rate.N == 0 || b.tokens == b.have.burst
}

// available is how many tokens could be taken at once.
func (b *bucket) available(now instant) int64 {
	b.advance(now)
	if b.den == 0 {
		return math.MaxInt64
	}
	return b.tokens
}

// interval is the time from one token to the next; 0 where there is no limit
// or nothing comes.
func (b *bucket) interval() instant {
	if b.num == 0 || b.den == 0 {
		return 0
	}
	return instant((b.den-1)/b.num + 1)
}

// limit is the rate as it is written in policy; "" where there is none.
func (b *bucket) limit() string {
	if b.den == 0 {
		return ""
	}
	return b.rate.String()
}

// empty takes all tokens away: of what was counted elsewhere meanwhile nobody
// here knows.
func (b *bucket) empty(now instant) {
	b.advance(now)
	b.last = max(b.last, now)
	b.tokens, b.part, b.refund = 0, 0, refund{since: b.last + 1}
}

// limited reports whether there is a limit at all.
func (b *bucket) limited() bool { return b.den != 0 }

// partOfBurst is the part of the burst in force.
func (b *bucket) partOfBurst(now instant) int64 {
	b.advance(now)
	return b.have.burst
}
