package scheduler

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

// bucketStart is when the tests of limits begin.
var bucketStart = at(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))

func mustRate(t testing.TB, s string) *policy.Rate {
	t.Helper()
	r, err := policy.ParseRate(s)
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestInstant(t *testing.T) {
	for _, tt := range []struct {
		in   time.Time
		want instant
	}{
		{time.Unix(0, 1), 1},
		{time.Time{}, 0},
		{time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), 0},
		{time.Date(2500, 1, 1, 0, 0, 0, 0, time.UTC), never},
		{never.time(), never},
		{time.Date(2026, 1, 1, 0, 0, 0, 5, time.FixedZone("", 3600)), 1767222000000000005},
	} {
		if got := at(tt.in); got != tt.want {
			t.Errorf("at(%s) = %d, want %d", tt.in, got, tt.want)
		}
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	if got := at(now).time(); !got.Equal(now) {
		t.Errorf("%s became %s", now, got)
	}
}

// The waits of one who takes each token as soon as there is one.
func TestBucketGivesTokensAtTheirTimes(t *testing.T) {
	tests := []struct {
		rate  string
		idle  time.Duration // before the first take
		waits []time.Duration
	}{
		{"1/s", 0, []time.Duration{time.Second, time.Second, time.Second}},
		{"3/s,burst=2", 0, []time.Duration{333333334, 333333333, 333333333, 333333334}},
		{"3/s", 0, []time.Duration{333333334, 333333334, 333333334}}, // 333333333 would be two tokens in less than a third of a second
		{"100/s,burst=5", 0, []time.Duration{10 * time.Millisecond, 10 * time.Millisecond}},
		{"100/s,burst=3", time.Minute, []time.Duration{0, 0, 0, 10 * time.Millisecond, 10 * time.Millisecond}},
		{"100/s,burst=3", 25 * time.Millisecond, []time.Duration{0, 0, 5 * time.Millisecond}},
		{"5/h", time.Hour, []time.Duration{0, 12 * time.Minute, 12 * time.Minute}},
		{"1/d", 0, []time.Duration{24 * time.Hour, 24 * time.Hour}},
		{"2000000000/s,burst=3", 0, []time.Duration{1, 0, 1, 0, 1}},
		{"1000000000000/s,burst=2", 0, []time.Duration{1, 0, 1, 0}},
		{"1000000000000/d,burst=2", 0, []time.Duration{87, 86, 87, 86, 86}},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s after %s", tt.rate, tt.idle), func(t *testing.T) {
			var b bucket
			now := bucketStart
			b.set(now, mustRate(t, tt.rate))
			now += instant(tt.idle)
			for i, want := range tt.waits {
				when := b.ready(now)
				if got := time.Duration(when - now); got != want {
					t.Fatalf("token %d after %s, want %s", i+1, got, want)
				}
				now = when
				b.take(now)
			}
		})
	}
}

func TestBucketIsExactOverAYear(t *testing.T) {
	var b bucket
	b.set(bucketStart, &policy.Rate{N: 3, Per: time.Second, Burst: 1 << 40})
	// Looked at in odd steps, so that each leaves a rest.
	const year = instant(365 * 24 * time.Hour)
	for now := bucketStart; now < bucketStart+year; now += 1_000_000_007 * 101 {
		b.available(now)
	}
	if got, want := b.available(bucketStart+year), int64(3*365*24*3600); got != want {
		t.Errorf("%d tokens in a year at 3/s, want %d", got, want)
	}
}

func TestBucketWithoutLimitAndStopped(t *testing.T) {
	var b bucket
	now := bucketStart
	for range 1000 {
		if b.ready(now) != now {
			t.Fatal("a bucket without limit makes wait")
		}
		b.take(now)
	}
	b.giveBack(now, now)
	if b.limit() != "" || b.available(now) != math.MaxInt64 || !b.idle(now) {
		t.Errorf("no limit shows as %q, %d available, idle %v", b.limit(), b.available(now), b.idle(now))
	}
	for _, r := range []policy.Rate{{N: 0, Per: time.Second}, {N: 0, Per: time.Hour, Burst: 9}, {N: -1, Per: time.Second}, {N: 5}, {}} {
		b.set(now, nil)
		b.set(now, &policy.Rate{N: 100, Per: time.Second, Burst: 100})
		now += instant(time.Minute)
		b.set(now, &r)
		if got := b.ready(now + instant(1000*time.Hour)); got != never {
			t.Errorf("%+v: ready at %s, want never", r, got.time())
		}
		if b.available(now) != 0 || !b.idle(now) {
			t.Errorf("%+v: %d available, idle %v", r, b.available(now), b.idle(now))
		}
	}
}

func TestBucketDoesNotOverflow(t *testing.T) {
	for _, r := range []policy.Rate{
		{N: maxRateN, Per: 1, Burst: math.MaxInt64},
		{N: maxRateN, Per: maxPer, Burst: math.MaxInt64},
		{N: 1, Per: maxPer, Burst: 1},
		{N: 1e12, Per: 24 * time.Hour, Burst: 1e9},
		{N: 1e12, Per: time.Second},
	} {
		var b bucket
		b.set(0, &r)
		if b.available(0) != 0 {
			t.Errorf("%+v: begins with tokens", r)
		}
		first := b.ready(0)
		if first < 1 || first > instant(r.Per) {
			t.Errorf("%+v: first token after %d ns", r, first)
		}
		if first == never {
			continue
		}
		b.take(first)
		end := never - 1
		if n := b.available(end); n < 0 || n > b.have.burst {
			t.Errorf("%+v: %d tokens after 292 years, burst %d", r, n, b.have.burst)
		}
		b.set(end, &policy.Rate{N: 7, Per: maxPer, Burst: 1})
		b.set(end, &policy.Rate{N: 7, Per: 1, Burst: 1})
		if n := b.available(end); n < 0 || n > 1 {
			t.Errorf("%+v: %d tokens after the rate has changed, burst 1", r, n)
		}
	}
}

func TestBucketRateChangeKeepsDebt(t *testing.T) {
	var b bucket
	now := bucketStart
	b.set(now, mustRate(t, "10/s,burst=10"))
	now += instant(time.Minute)
	for range 10 {
		b.take(now)
	}
	b.set(now, mustRate(t, "1000/s,burst=100"))
	if got := b.available(now); got != 0 {
		t.Errorf("a changed rate gave %d tokens", got)
	}
	now += instant(50 * time.Millisecond)
	if got := b.available(now); got != 50 {
		t.Errorf("%d tokens after 50 ms at 1000/s, want 50", got)
	}
	b.set(now, mustRate(t, "1/h,burst=20"))
	if got := b.available(now); got != 20 {
		t.Errorf("%d tokens kept by a burst of 20", got)
	}
	b.set(now, mustRate(t, "1/h,burst=20")) // the same again
	if got := b.available(now); got != 20 {
		t.Errorf("setting the same rate again left %d tokens of 20", got)
	}
	b.set(now, nil)
	b.set(now, mustRate(t, "1/h,burst=20"))
	if got := b.available(now); got != 0 {
		t.Errorf("a limit after none began with %d tokens", got)
	}
	// Half a token on its way stays half a token when the unit changes.
	b.set(now, nil)
	b.set(now, mustRate(t, "1/m"))
	now += instant(30 * time.Second)
	b.set(now, mustRate(t, "1/h"))
	if got := time.Duration(b.ready(now) - now); got != 30*time.Minute {
		t.Errorf("half a token is missing at 1/h, yet it comes after %s", got)
	}
}

func TestBucketGiveBack(t *testing.T) {
	type step struct {
		after time.Duration
		op    string // take, back (the oldest not given back)
	}
	take, back := "take", "back"
	tests := []struct {
		name, rate string
		steps      []step
		want       int64         // tokens at the end
		next       time.Duration // until the next one after those
	}{
		{"at once", "5/h", []step{{time.Hour, take}, {0, back}}, 1, 12 * time.Minute},
		{"of a single token, a while later", "5/h", []step{{time.Hour, take}, {6 * time.Minute, back}}, 1, 12 * time.Minute},
		{"after the bucket is full without it", "5/h", []step{{time.Hour, take}, {time.Hour, back}}, 1, 12 * time.Minute},
		{"after it is full and emptied again", "5/h", []step{{time.Hour, take}, {time.Hour, take}, {0, back}}, 0, 12 * time.Minute},
		{"of the one that emptied it", "5/h", []step{{time.Hour, take}, {time.Hour, take}, {0, back}, {0, back}}, 1, 12 * time.Minute},
		{"with room for all", "10/s,burst=100", []step{{time.Second, take}, {0, take}, {0, take}, {time.Second, back}, {0, back}, {0, back}}, 20, 100 * time.Millisecond},
		{"with part of a token lost to the brim", "1/m,burst=2", []step{{time.Hour, take}, {30 * time.Second, take}, {0, back}}, 1, 60 * time.Second},
		{"with nothing lost of a later one", "1/m,burst=2", []step{{time.Hour, take}, {30 * time.Second, back}, {0, take}, {0, back}}, 2, 60 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bucket
			now := bucketStart
			b.set(now, mustRate(t, tt.rate))
			var out []instant
			for _, s := range tt.steps {
				now += instant(s.after)
				if s.op == take {
					b.take(now)
					out = append(out, now)
					continue
				}
				b.giveBack(now, out[0])
				out = out[1:]
			}
			if got := b.available(now); got != tt.want {
				t.Fatalf("%d tokens, want %d", got, tt.want)
			}
			for range tt.want {
				b.take(now)
			}
			if got := time.Duration(b.ready(now) - now); got != tt.next {
				t.Errorf("the next after %s, want %s", got, tt.next)
			}
		})
	}
}

func TestBucketClockSetBack(t *testing.T) {
	var b bucket
	b.set(bucketStart, mustRate(t, "1/s"))
	later := bucketStart + instant(time.Minute)
	b.take(b.ready(later))
	if got := b.ready(bucketStart); got != later+instant(time.Second) {
		t.Errorf("with the clock a minute back the next token is ready at %s", got.time())
	}
}

func TestBucketTakeOfNothingPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a token that was not there was taken")
		}
	}()
	var b bucket
	b.set(bucketStart, mustRate(t, "1/s"))
	b.take(bucketStart)
}

func TestBucketAllocatesNothing(t *testing.T) {
	var b bucket
	r, now := mustRate(t, "1000/s"), bucketStart
	if n := testing.AllocsPerRun(1000, func() {
		b.set(now, r)
		now = b.ready(now)
		b.take(now)
		b.giveBack(now, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// usage is a bucket under random use, with all that happened to it.
type usage struct {
	t     *testing.T
	rnd   *rand.Rand
	b     bucket
	now   instant
	rates []rateFrom
	taken []*tokenTaken
	out   []*tokenTaken // may still be given back
}

type rateFrom struct {
	from  instant
	rate  policy.Rate
	burst int64
}

type tokenTaken struct {
	at    instant
	given bool
}

func (u *usage) change(r policy.Rate) {
	u.b.set(u.now, &r)
	u.rates = append(u.rates, rateFrom{u.now, r, r.BurstOrDefault()})
}

func (u *usage) step(changes bool) {
	switch p := u.rnd.IntN(100); {
	case p < 45: // take all there is, or some
		for n := u.rnd.IntN(12); n > 0 && u.b.ready(u.now) <= u.now; n-- {
			u.b.take(u.now)
			k := &tokenTaken{at: u.now}
			u.taken = append(u.taken, k)
			u.out = append(u.out, k)
		}
	case p < 60: // wait for the next, which must come just then
		if next := u.b.ready(u.now); next != never && next > u.now {
			if early := u.b; early.ready(next-1) != next {
				u.t.Fatal("a token came earlier than ready had said")
			}
			u.now = next
			if u.b.ready(u.now) != u.now {
				u.t.Fatal("no token when ready had said")
			}
		}
	case p < 75: // any time passes, in proportion to the rate
		per := u.b.rate.Per
		u.now += instant(u.rnd.Int64N(int64(per)/max(1, u.b.rate.N)*u.rnd.Int64N(8) + 2))
	case p < 97: // give some back, of any age
		for n := u.rnd.IntN(6); n > 0 && len(u.out) > 0; n-- {
			i := u.rnd.IntN(len(u.out))
			u.out[i].given = true
			u.b.giveBack(u.now, u.out[i].at)
			u.out = append(u.out[:i], u.out[i+1:]...)
		}
	case changes:
		u.change(randomRate(u.rnd))
	}
	if n := u.b.tokens; n < 0 || n > u.b.have.burst || n == u.b.have.burst && u.b.part != 0 || u.b.part >= u.b.den {
		u.t.Fatalf("level %d + %d/%d of a burst of %d", n, u.b.part, u.b.rate.Per, u.b.have.burst)
	}
}

func randomRate(rnd *rand.Rand) policy.Rate {
	pers := []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour, 7, 1_000_003}
	ns := []int64{1, 2, 3, 7, 100, 9973, 5e9, 1e12}
	r := policy.Rate{N: ns[rnd.IntN(len(ns))], Per: pers[rnd.IntN(len(pers))]}
	if rnd.IntN(20) == 0 {
		r.N = 0
	}
	r.Burst = 1 + rnd.Int64N(9) // a small one, or it would never bind
	return r
}

// check holds every span between two used tokens to the bound.
func (u *usage) check() {
	var used []instant
	for _, k := range u.taken {
		if !k.given {
			used = append(used, k.at)
		}
	}
	for i := range used {
		for j := i; j < len(used); j++ {
			most := u.bound(used[i], used[j])
			if n := big.NewInt(int64(j - i + 1)); n.Cmp(most) > 0 {
				u.t.Fatalf("%s tokens used in %d ns, want at most %s; rates %+v", n, used[j]-used[i], most, u.rates)
			}
		}
	}
}

// bound is the largest rate in force between two instants, times the time, and
// the largest burst.
func (u *usage) bound(from, to instant) *big.Int {
	best, burst := new(big.Int), int64(0)
	for i, r := range u.rates {
		if r.from > to || i+1 < len(u.rates) && u.rates[i+1].from < from {
			continue
		}
		n := new(big.Int).Mul(big.NewInt(r.rate.N), big.NewInt(int64(to-from)))
		if n.Div(n, big.NewInt(int64(r.rate.Per))).Cmp(best) > 0 {
			best = n
		}
		burst = max(burst, r.burst)
	}
	return best.Add(best, big.NewInt(burst))
}

func TestBucketHoldsInEveryWindow(t *testing.T) {
	for _, changes := range []bool{false, true} {
		used := 0
		for seed := range uint64(150) {
			u := &usage{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: bucketStart}
			r := randomRate(u.rnd)
			if !changes {
				r.N = max(r.N, 1)
			}
			u.change(r)
			for range 250 {
				u.step(changes)
			}
			u.check()
			used += len(u.taken)
		}
		if used < 10_000 {
			t.Errorf("only %d tokens were taken: the test shows nothing", used)
		}
	}
}

// Whoever takes each token at once and uses it gets the whole rate.
func TestBucketGivesTheWholeRate(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		r := randomRate(rnd)
		r.N = max(r.N%100_000, 1)
		r.Burst = r.N/int64(r.Per) + 2 // room for what comes in a nanosecond
		var b bucket
		b.set(bucketStart, &r)
		now := bucketStart
		for range 500 {
			now = b.ready(now)
			b.take(now)
		}
		// The 500th token comes at the first nanosecond with N × t ≥ 500 × Per.
		want := instant((500*int64(r.Per) + r.N - 1) / r.N)
		if got := now - bucketStart; got != want {
			t.Errorf("%s: 500 tokens took %d ns, want %d", r, got, want)
		}
	}
}

func BenchmarkBucket(b *testing.B) {
	var bu bucket
	now := bucketStart
	bu.set(now, &policy.Rate{N: 1e6, Per: time.Second})
	for b.Loop() {
		now = bu.ready(now)
		bu.take(now)
	}
}
