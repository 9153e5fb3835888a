package scheduler

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
)

// shared is one budget that several nodes share, each with a bucket of its own,
// under random use and random grants. A leader holds the sum of what it has
// given and of the floors to the whole, as exchange says.
type shared struct {
	rnd     *rand.Rand
	now     instant
	nodes   []*sharedNode
	rates   []rateFrom
	used    []*tokenTaken
	careful bool // false: the leader forgets that a grant may still be in use
}

type sharedNode struct {
	b     bucket
	have  portion
	floor portion
	until instant
	out   []*tokenTaken
}

func newShared(seed uint64, careful bool) *shared {
	u := &shared{rnd: rand.New(rand.NewPCG(seed, 3)), now: bucketStart, careful: careful}
	r := randomRate(u.rnd)
	r.N, r.Burst = max(r.N, 1), 1+u.rnd.Int64N(20)
	u.rates = []rateFrom{{u.now, r, r.Burst}}
	n := 2 + u.rnd.IntN(3)
	for rank := range n {
		share := int64(exchange.FullShare/10) / int64(n)
		k := &sharedNode{until: never, floor: portion{share, exchange.FloorOf(r.Burst, share, int64(rank))}}
		k.have = k.floor
		k.b.setPart(u.now, &r, k.floor, never, portion{})
		u.nodes = append(u.nodes, k)
	}
	return u
}

func (u *shared) rate() *policy.Rate { return &u.rates[len(u.rates)-1].rate }

// counts is what the leader reckons that a node may use.
func (u *shared) counts(k *sharedNode) portion {
	have := k.have
	if u.now >= k.until || !u.careful {
		have = k.floor
	}
	return portion{max(have.share, k.floor.share), max(have.burst, k.floor.burst)}
}

// grant gives a node some of what the others do not have.
func (u *shared) grant(k *sharedNode) {
	share, burst := int64(exchange.FullShare), u.rate().Burst
	for _, o := range u.nodes {
		if o != k {
			c := u.counts(o)
			share, burst = share-c.share, burst-c.burst
		}
	}
	k.have = portion{share, burst}
	if u.rnd.IntN(2) == 0 { // not all of it
		k.have = portion{k.floor.share + u.rnd.Int64N(share-k.floor.share+1), k.floor.burst + u.rnd.Int64N(burst-k.floor.burst+1)}
	}
	k.until = u.now + instant(u.rnd.Int64N(8*int64(u.span()))+1)
	k.b.setPart(u.now, u.rate(), k.have, k.until, k.floor)
}

// span is a time in which some tokens come.
func (u *shared) span() time.Duration {
	r := u.rate()
	return max(1, time.Duration(int64(r.Per)/max(1, r.N)*u.rnd.Int64N(12)))
}

// change gives all nodes another rate, in any order, and what their parts of its
// burst are worth then.
func (u *shared) change() {
	was := u.rate().Burst
	r := randomRate(u.rnd)
	r.N, r.Burst = max(r.N, 1), 1+u.rnd.Int64N(was)
	if u.rnd.IntN(2) == 0 {
		r.Burst = was * 2
	}
	u.rates = append(u.rates, rateFrom{u.now, r, r.Burst})
	for _, rank := range u.rnd.Perm(len(u.nodes)) {
		k := u.nodes[rank]
		if u.now >= k.until {
			k.have, k.until = k.floor, never
		}
		granted := k.until != never
		k.floor.burst = exchange.FloorOf(r.Burst, k.floor.share, int64(rank))
		if k.have.burst = partOf(k.have.burst, was, r.Burst); !granted {
			k.have = k.floor
		}
		k.b.setPart(u.now, &r, k.have, k.until, k.floor)
	}
}

func (u *shared) step() {
	k := u.nodes[u.rnd.IntN(len(u.nodes))]
	switch p := u.rnd.IntN(100); {
	case p < 25:
		u.take(k, u.rnd.IntN(12))
	case p < 45:
		for _, k := range u.nodes {
			u.take(k, 100)
		}
	case p < 70:
		u.now += instant(u.span())
	case p < 80:
		if len(k.out) > 0 {
			i := u.rnd.IntN(len(k.out))
			k.out[i].given = true
			k.b.giveBack(u.now, k.out[i].at)
			k.out = slices.Delete(k.out, i, i+1)
		}
	case p < 97:
		u.grant(k)
	default:
		u.change()
	}
}

func (u *shared) take(k *sharedNode, most int) {
	for ; most > 0 && k.b.ready(u.now) <= u.now; most-- {
		k.b.take(u.now)
		t := &tokenTaken{at: u.now}
		u.used, k.out = append(u.used, t), append(k.out, t)
	}
}

// check holds every span to the bound over all nodes.
func (u *shared) check() error {
	w := &usage{rates: u.rates}
	var used []instant
	for _, t := range u.used {
		if !t.given {
			used = append(used, t.at)
		}
	}
	slices.Sort(used)
	for i := range used {
		for j := i; j < len(used); j++ {
			if most := w.bound(used[i], used[j]); big.NewInt(int64(j-i+1)).Cmp(most) > 0 {
				return fmt.Errorf("%d tokens used on %d nodes in %d ns, want at most %s; rates %+v", j-i+1, len(u.nodes), used[j]-used[i], most, u.rates)
			}
		}
	}
	return nil
}

// A budget that nodes share holds over all of them, however it moves among them.
// Where the leader gives away what a node may still be using, the same check
// finds it.
func TestSharedBucketHoldsInEveryWindow(t *testing.T) {
	for _, careful := range []bool{true, false} {
		used, broken := 0, 0
		for seed := range uint64(150) {
			u := newShared(seed, careful)
			for len(u.used) < 120 {
				u.step()
			}
			used += len(u.used)
			switch err := u.check(); {
			case err == nil:
			case careful:
				t.Fatalf("seed %d: %v", seed, err)
			default:
				broken++
			}
		}
		if used < 10_000 {
			t.Errorf("only %d tokens were taken: the test shows nothing", used)
		}
		if !careful && broken < 20 {
			t.Errorf("a careless leader broke the bound in %d of 150 runs only: the check is blind", broken)
		}
	}
}

// All that is granted is worth as much as the whole: nothing is lost by
// splitting, nor by moving shares each moment.
func TestSharedBucketGivesTheWholeRate(t *testing.T) {
	for _, rate := range []string{"1000/s,burst=1000", "7/m,burst=60", "1000000000000/d,burst=1000000000", "3/h,burst=9"} {
		r := mustRate(t, rate)
		rnd := rand.New(rand.NewPCG(7, 7))
		nodes := make([]bucket, 3)
		now := bucketStart
		span := max(1, 2*r.Per/time.Duration(r.N))
		var sum int64
		for range 1000 {
			left := int64(exchange.FullShare)
			for i := range nodes {
				share := left
				if i < len(nodes)-1 {
					share = rnd.Int64N(left + 1)
				}
				left -= share
				nodes[i].setPart(now, r, portion{share, r.Burst / 3}, never, portion{})
			}
			now += instant(span)
			for i := range nodes {
				for nodes[i].ready(now) <= now {
					nodes[i].take(now)
					sum++
				}
			}
		}
		want := int64(new(big.Int).Div(new(big.Int).Mul(big.NewInt(r.N), big.NewInt(int64(now-bucketStart))), big.NewInt(int64(r.Per))).Int64())
		// What is left in the buckets is less than a token on each.
		if sum > want || sum < want-int64(len(nodes)) {
			t.Errorf("%s: %d tokens in all, want %d or at most %d fewer", rate, sum, want, len(nodes))
		}
	}
}

func TestBucketPortion(t *testing.T) {
	r := mustRate(t, "1000/s,burst=100")
	half := portion{exchange.FullShare / 2, 50}
	floor := portion{exchange.FullShare / 16, 6}
	ms := instant(time.Millisecond)
	now := bucketStart
	var b bucket
	b.setPart(now, r, half, now+1000*ms, floor)
	expect := func(after time.Duration, want int64) {
		t.Helper()
		if got := b.available(now + instant(after)); got != want {
			t.Errorf("after %s: %d tokens, want %d", after, got, want)
		}
	}
	expect(0, 0)                                      // it begins empty
	expect(20*time.Millisecond, 10)                   // half the rate
	expect(999*time.Millisecond, 50)                  // half the burst
	expect(1000*time.Millisecond, 6)                  // the grant has ended: cut to the floor
	b.tokens = 0                                      // all taken
	expect(1016*time.Millisecond, 1)                  // a sixteenth of the rate
	b.setPart(now+1016*ms, r, half, never, portion{}) // granted again
	expect(1016*time.Millisecond, 1)                  // a larger part adds nothing
	expect(1018*time.Millisecond, 2)                  // but comes faster
	b.setPart(now+1018*ms, r, portion{exchange.FullShare, 0}, never, portion{})
	expect(2000*time.Millisecond, 0) // no part of the burst: nothing goes
	if got := b.ready(now + 2000*ms); got != never {
		t.Errorf("without a part of the burst it is ready at %d", got)
	}
	b.setPart(now+2000*ms, r, wholeOf(r), now+2000*ms, floor)
	expect(3000*time.Millisecond, 6) // had ended when it came
}

// A node that nobody asks for a long time has its grant only to the end of it.
func TestBucketFallsAtItsInstant(t *testing.T) {
	r := mustRate(t, "10/s,burst=1000")
	var lazy, busy bucket
	end := bucketStart + instant(10*time.Second)
	for _, b := range []*bucket{&lazy, &busy} {
		b.setPart(bucketStart, r, portion{exchange.FullShare, 1000}, end, portion{exchange.FullShare / 10, 1000})
	}
	for now := bucketStart; now <= end+instant(20*time.Second); now += instant(7 * time.Millisecond) {
		busy.advance(now)
	}
	later := end + instant(20*time.Second)
	busy.advance(later)
	if got, want := lazy.available(later), busy.available(later); got != want || got != 119 {
		t.Errorf("looked at late it has %d tokens, all the time %d, want 119", got, want)
	}
}
