package controlplane_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"hikyaku/controlplane"
	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
)

// gang is several control planes that compete for one office.
type gang struct {
	c  *cluster
	r  *recorder
	ps []*process
}

func (c *cluster) gang(n int) *gang {
	g := &gang{c: c, r: newRecorder(c.keys)}
	busy := func(o *controlplane.Options) { o.Timing.MinHold = 50 * time.Millisecond }
	for i := range n {
		var t *tap
		g.ps = append(g.ps, c.start(fmt.Sprintf("c%d", i+1), g.r.tapped(&t, 5), busy))
	}
	return g
}

// ask is whom a node asks: mostly who leads, and now and then anybody, who may
// believe that it does.
func (g *gang) ask(rng *rand.Rand) *process {
	if rng.IntN(4) > 0 {
		for _, p := range g.ps {
			if p.Leading() {
				return p
			}
		}
	}
	return g.ps[rng.IntN(len(g.ps))]
}

// trouble holds the leader's way to etcd up, for longer than its lease lasts or
// for less, cuts connections, and moves sources and nodes by hand, until ctx ends.
func (g *gang) trouble(ctx context.Context, rng *rand.Rand, orders bool) {
	defer func() {
		for _, p := range g.ps {
			p.wire.hold(false)
		}
	}()
	calm := 300
	if !orders {
		calm = 900 // nothing but trouble with etcd: let them work in between
	}
	for ctx.Err() == nil {
		p := g.ask(rng)
		switch what := rng.IntN(6); {
		case what < 2 || !orders:
			p.wire.hold(true)
			rest(ctx, time.Duration(200+rng.IntN(1600))*time.Millisecond)
			if rng.IntN(2) == 0 {
				p.wire.cut()
			}
			p.wire.hold(false)
		case what == 2:
			// Orders are refused where they make no sense, or nobody leads.
			o := state.Order{Node: node4(rng), Author: "test"}
			_ = p.Drain(ctx, o)
			rest(ctx, time.Duration(rng.IntN(300))*time.Millisecond)
			_ = g.ask(rng).Undrain(ctx, o)
		default:
			_ = p.Move(ctx, state.Move{Source: fmt.Sprintf("m%d", 1+rng.IntN(4)), Node: node4(rng), Author: "test"})
		}
		rest(ctx, time.Duration(rng.IntN(calm))*time.Millisecond)
	}
}

func node4(rng *rand.Rand) string { return fmt.Sprintf("n%d", 1+rng.IntN(4)) }

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Several control planes compete while they are held up, cut off and lose
// replies; nodes die, come back, and let go. Who holds a source, as all of them
// write it, read it and act by it, is one register whose epoch counts its
// holders. The faults are of the seed, what comes of them is not: etcd and its
// clock are real.
func TestAssignmentsAreLinearizable(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := newCluster(t, sourcesPolicy(4))
	g := c.gang(3)
	g.r.sources = []string{"m1", "m2", "m3", "m4"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for i := range 4 {
		h := &holder{r: g.r, name: fmt.Sprintf("n%d", i+1), client: dial(t, nil), rng: rand.New(rand.NewPCG(seed, uint64(10+i))), to: g.ask, number: g.r.client()}
		reader, rng := g.r.client(), rand.New(rand.NewPCG(seed, uint64(20+i)))
		all.Go(func() { h.lives(ctx, t) })
		all.Go(func() {
			every(ctx, 15*time.Millisecond, func() {
				g.r.read(ctx, reader, h.client, c.keys.Source(fmt.Sprintf("m%d", 1+rng.IntN(4))))
			})
		})
	}
	all.Go(func() { g.trouble(ctx, rand.New(rand.NewPCG(seed, 1)), true) })
	g.until(4*time.Second, func(count map[string]int) bool {
		holders := int64(0)
		for i := range 4 {
			holders += c.assignment(fmt.Sprintf("m%d", i+1)).Epoch
		}
		return g.elections() >= 2 && holders >= 8 && count[string(done)] >= 8 && count[string(unknown)] >= 2 &&
			count[string(uses)] >= 300 && count[string(letsGo)] >= 1 && count[string(reads)] >= 200
	})
	cancel()
	all.Wait()
	for i := range 4 {
		g.r.read(t.Context(), g.r.client(), c.client, c.keys.Source(fmt.Sprintf("m%d", i+1)))
	}
	g.check(sourceModel())
}

// until waits for a time, and until enough has happened to prove anything.
func (g *gang) until(least time.Duration, enough func(map[string]int) bool) {
	g.c.t.Helper()
	defer func() {
		if g.c.t.Failed() {
			_, count := g.r.operations()
			g.c.t.Logf("%d terms, %v", g.elections(), count)
		}
	}()
	began := time.Now()
	g.c.eventually("enough of everything", func() bool {
		_, count := g.r.operations()
		return time.Since(began) > least && enough(count)
	})
}

func (g *gang) elections() (n int64) {
	for _, p := range g.ps {
		n += p.Metrics().Elections
	}
	return n
}

// check checks what has been noted.
func (g *gang) check(m porcupine.Model) {
	g.c.t.Helper()
	history, count := g.r.operations()
	began := time.Now()
	if !linearizable(g.c.t, m, history) {
		g.c.t.Error("the history is not linearizable")
	}
	g.c.t.Logf("%d operations in %d terms, checked in %v: %v", len(history), g.elections(), time.Since(began), count)
}

// buyer is a node as far as a daily budget goes.
type buyer struct {
	*sender
	r      *recorder
	number int
	out    int64 // permits that it holds or has used, as the history knows
	last   uint64
}

// settle notes what it holds or has used beside what it did before.
func (b *buyer) settle(called time.Time) {
	now := max(b.inForce(docomo).Issued, b.spent[docomo]+b.back[docomo]) - b.back[docomo]
	s := step{key: b.c.keys.Day(budgets.DayKey(docomo)), verb: gets, n: now - b.out}
	if s.n < 0 {
		s.verb, s.n = gives, -s.n
	}
	if b.out = now; s.n != 0 {
		b.r.note(b.number, called, s)
	}
}

// trade makes one exchange, and gives back what is void and uses a little of the
// rest. Now and then it wants nothing, so that it is called upon to give back.
func (b *buyer) trade(ctx context.Context, p *process, rng *rand.Rand) {
	if rng.IntN(20) == 0 {
		b.backlog[docomo] = rng.Int64N(2) * rng.Int64N(60)
	}
	b.last++
	r := &exchange.Report{Node: b.name, Lease: int64(b.lease), Serial: b.last, Term: b.answer.Term, Applied: b.answer.Serial, Floor: b.floor, SpoolFreePart: 1}
	b.fill(r)
	called := time.Now()
	a, err := b.r.exchange(ctx, p, r)
	if err != nil {
		return // what it holds is what it held
	}
	b.answer, b.floor = *a, a.Floor
	b.settle(called)
	called = time.Now()
	h := b.inForce(docomo)
	b.back[docomo] += max(h.Void-b.spent[docomo]-b.back[docomo], 0)
	free := h.Issued - b.spent[docomo] - b.back[docomo]
	b.spent[docomo] += min(max(free, 0), b.backlog[docomo], rng.Int64N(2))
	b.settle(called)
}

// Permits of a day are counted in etcd before any node holds them, whoever leads
// and whatever of it is lost.
func TestPermitsAreLinearizable(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := newCluster(t, budgetPolicy)
	g := c.gang(3)
	key := c.keys.Day(budgets.DayKey(docomo))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for i := range 3 {
		b := &buyer{sender: c.sender(fmt.Sprintf("n%d", i+1)), r: g.r, number: g.r.client()}
		rng := rand.New(rand.NewPCG(seed, uint64(10+i)))
		all.Go(func() { every(ctx, 5*time.Millisecond, func() { b.trade(ctx, g.ask(rng), rng) }) })
	}
	all.Go(func() {
		number := g.r.client()
		every(ctx, 15*time.Millisecond, func() { g.r.read(ctx, number, c.client, key) })
	})
	all.Go(func() { g.trouble(ctx, rand.New(rand.NewPCG(seed, 1)), false) })
	g.until(4*time.Second, func(count map[string]int) bool {
		return g.elections() >= 2 && count[string(done)] >= 8 && count[string(unknown)] >= 2 &&
			count[string(gets)] >= 10 && count[string(gives)] >= 2 && count[string(reads)] >= 100
	})
	cancel()
	all.Wait()
	g.r.read(t.Context(), g.r.client(), c.client, key)
	g.check(permitModel(500))
}

// A leader is stopped between its decision and its write, another one takes over
// and decides, and then the write arrives. The guard refuses it. Without the
// guard it goes through, and the history shows that (the negative control).
func TestLateWriteOfADeposedLeader(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("assignment, bare=%v", bare), func(t *testing.T) {
			t.Parallel()
			l := newLate(t, sourcesPolicy(1), bare)
			key := l.c.keys.Source("m1")
			n1 := l.c.join("n1").joined(l.a)
			l.c.eventually("n1 holds it", func() bool { return l.c.assignment("m1").Node == "n1" })
			n2 := l.c.join("n2").joined(l.a)
			l.stop(key, n1.crash) // the quarantine is not heard
			n2.joined(l.b)
			l.c.eventually("n2 holds it", func() bool {
				a := l.c.assignment("m1")
				return a.Node == "n2" && a.State == keyspace.Held
			})
			l.goOn(key, sourceModel())
		})
		t.Run(fmt.Sprintf("permits, bare=%v", bare), func(t *testing.T) {
			t.Parallel()
			l := newLate(t, budgetPolicy, bare)
			key := l.c.keys.Day(budgets.DayKey(docomo))
			s, other := l.c.sender("n1"), l.c.sender("n2")
			s.joined(l.a)
			other.joined(l.a)
			b := &buyer{sender: s, r: l.r, number: l.r.client()}
			rng := rand.New(rand.NewPCG(1, 1))
			l.stop(key, func() { // the first count is not heard
				s.backlog[docomo] = 50
				b.trade(t.Context(), l.a, rng)
				other.exchange(l.a)
			})
			l.c.eventually("it has permits of the other one", func() bool {
				s.backlog[docomo] = 50
				other.exchange(l.b)
				b.trade(t.Context(), l.b, rng)
				return b.out > 0
			})
			l.goOn(key, permitModel(500))
		})
	}
}

// late is a story of two leaders.
type late struct {
	c    *cluster
	r    *recorder
	a, b *process
	way  *tap // of a
	gate *gate
	bare bool
}

func newLate(t *testing.T, yaml string, bare bool) *late {
	l := &late{c: newCluster(t, yaml), bare: bare}
	l.r = newRecorder(l.c.keys)
	var other *tap
	l.a = l.c.lead("c1", l.r.tapped(&l.way, 0), func(*controlplane.Options) { l.way.bare = bare })
	l.b = l.c.start("c2", l.r.tapped(&other, 0))
	return l
}

// stop stops the first leader when it writes a record, which cause makes it do,
// and waits until the other one leads.
func (l *late) stop(key string, cause func()) {
	l.c.t.Helper()
	l.gate = newGate(key)
	l.way.hold(l.gate)
	l.c.eventually("the first leader writes", func() bool {
		cause()
		select {
		case <-l.gate.caught:
			return true
		default:
			return false
		}
	})
	l.a.wire.hold(true)
	l.c.eventually("the other one leads", l.b.Leading)
}

// goOn lets the write of the first leader go, and looks at what has come of it.
func (l *late) goOn(key string, m porcupine.Model) {
	t := l.c.t
	t.Helper()
	l.r.read(t.Context(), l.r.client(), l.c.client, key)
	l.a.wire.hold(false)
	close(l.gate.open)
	<-l.gate.passed
	l.r.read(t.Context(), l.r.client(), l.c.client, key)
	history, count := l.r.operations()
	switch {
	case !l.bare && !linearizable(t, m, history):
		t.Errorf("not linearizable: %v", count)
	case l.bare && porcupine.CheckOperations(m, history):
		t.Errorf("a write without a guard is not seen: %v", count)
	}
	// Others may be refused too, so this says nothing of a bare one.
	if !l.bare && count[string(refused)] == 0 {
		t.Errorf("the late write was not refused: %v", count)
	}
}
