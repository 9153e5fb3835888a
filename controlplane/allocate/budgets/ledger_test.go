package budgets_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

var start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

var docomo = exchange.Scope{Kind: exchange.Carrier, Carrier: "docomo"}

// world is a ledger, nodes that obey it, and etcd, with the exact time of every
// answer in the test's hand. It checks after each step that what nodes believe
// never sums to more than the whole.
type world struct {
	t      testing.TB
	l      *budgets.Ledger
	now    time.Time
	term   int64
	limits map[exchange.Scope]budgets.Limit
	nodes  []*testNode
	days   map[exchange.Scope]keyspace.Day
	rev    int64
	floors map[string]int64 // etcd
	ranks  map[string]int64
	daily  bool
	gone   map[exchange.Scope]int64 // permits of incarnations that are dead
}

// testNode is a node as the contract wants it.
type testNode struct {
	name    string
	lease   int64
	serial  uint64
	term    int64
	applied uint64
	until   time.Time
	floor   int64
	grants  map[exchange.Scope]exchange.Holding
	backlog map[exchange.Scope]int64
	used    map[exchange.Scope]int64 // to be told in the next report
	open    map[exchange.Scope]int64
	permits map[exchange.Scope]*testPermits
	kept    map[exchange.Scope]int64
	members int64
}

type testPermits struct{ issued, void, spent, returned int64 }

func newWorld(t testing.TB, nodes int, limits map[exchange.Scope]budgets.Limit) *world {
	w := &world{t: t, now: start, term: 1, limits: limits, days: map[exchange.Scope]keyspace.Day{}, floors: map[string]int64{}, ranks: map[string]int64{}, gone: map[exchange.Scope]int64{}}
	for _, l := range limits {
		w.daily = w.daily || l.PerDay > 0
	}
	for i := range nodes {
		w.addNode(fmt.Sprintf("n%04d", i), exchange.FullShare/10/int64(max(nodes, 2)), int64(i))
		if nodes == 1 {
			w.floors["n0000"], w.nodes[0].floor = exchange.FullShare, exchange.FullShare
		}
	}
	w.elect()
	return w
}

func (w *world) addNode(name string, floor, rank int64) *testNode {
	n := &testNode{
		name: name, lease: 100 + int64(len(w.nodes)), floor: floor, grants: map[exchange.Scope]exchange.Holding{}, backlog: map[exchange.Scope]int64{},
		used: map[exchange.Scope]int64{}, open: map[exchange.Scope]int64{}, permits: map[exchange.Scope]*testPermits{}, kept: map[exchange.Scope]int64{},
	}
	w.nodes = append(w.nodes, n)
	w.floors[name], w.ranks[name] = floor, rank
	return n
}

// elect makes a new leader that knows what etcd knows.
func (w *world) elect() {
	w.term++
	w.l = budgets.New(budgets.Config{Leader: "c", Term: w.term, Elected: w.now})
	w.policy()
	for id, d := range w.days {
		w.rev++
		if err := w.l.SetDay(w.now, id, w.rev, d); err != nil {
			w.t.Fatal(err)
		}
	}
	w.members()
}

func (w *world) policy() {
	w.l.SetPolicy(w.now, budgets.Policy{Revision: 7, Daily: w.daily, Limit: func(x exchange.Scope) budgets.Limit { return w.limits[x] }})
}

func (w *world) members() {
	var list []budgets.Member
	for _, n := range w.nodes {
		list = append(list, budgets.Member{Name: n.name, Lease: n.lease, Rank: w.ranks[n.name], Floor: w.floors[n.name]})
	}
	w.l.SetMembers(w.now, list)
}

// write does what is due.
func (w *world) write() (written int) {
	d := w.l.Due(w.now)
	for _, f := range d.Floors {
		w.floors[f.Name] = f.Floor
		written++
	}
	if len(d.Floors) > 0 {
		w.members()
	}
	for _, c := range d.Days {
		if got, err := budgets.ParseDayKey(c.Key); err != nil || got != c.Scope {
			w.t.Fatalf("key %q is read as %v, %v", c.Key, got, err)
		}
		w.rev++
		written++
		w.days[c.Scope] = c.Day
		if err := w.l.SetDay(w.now, c.Scope, w.rev, c.Day); err != nil {
			w.t.Fatal(err)
		}
	}
	return written
}

// report makes one report of a node.
func (w *world) report(n *testNode) *exchange.Report {
	n.serial++
	r := &exchange.Report{Node: n.name, Lease: n.lease, Serial: n.serial, Floor: n.floor}
	if n.applied != 0 && w.now.Before(n.until) {
		r.Term, r.Applied, r.Left = n.term, n.applied, n.until.Sub(w.now)
	}
	for id := range w.limits {
		r.Demands = append(r.Demands, w.demand(n, id))
	}
	// Maps have no order; reports do.
	for i := 1; i < len(r.Demands); i++ {
		for j := i; j > 0 && budgets.DayKey(r.Demands[j].Scope) < budgets.DayKey(r.Demands[j-1].Scope); j-- {
			r.Demands[j], r.Demands[j-1] = r.Demands[j-1], r.Demands[j]
		}
	}
	return r
}

func (w *world) demand(n *testNode, id exchange.Scope) exchange.Demand {
	d := exchange.Demand{Scope: id, Holding: n.holds(w, id), Backlog: n.backlog[id], Used: n.used[id], Open: n.open[id], Kept: n.kept[id]}
	n.used[id] = 0
	if p := n.permits[id]; p != nil {
		d.Issued, d.Void, d.Spent, d.Returned = p.issued, p.void, p.spent, p.returned
	}
	return d
}

// holds is what a node may use of a scope at the moment.
func (n *testNode) holds(w *world, id exchange.Scope) exchange.Holding {
	l, rank := w.limits[id], w.ranks[n.name]
	h := exchange.Holding{Share: n.floor, Burst: exchange.FloorOf(l.Burst, n.floor, rank), LinkBurst: exchange.FloorOf(l.LinkBurst, n.floor, rank), Connections: exchange.FloorOf(l.Connections, n.floor, rank)}
	if g, ok := n.grants[id]; ok && w.now.Before(n.until) {
		h = g
	}
	if h.Burst == 0 && h.LinkBurst == 0 {
		h.Share = 0
	}
	return h
}

func (n *testNode) apply(a *exchange.Answer, sent time.Time) {
	if a.Term < n.term || a.Serial != n.serial {
		return
	}
	n.term, n.applied, n.until, n.floor, n.members = a.Term, a.Serial, sent.Add(a.TTL-exchange.GrantMargin), a.Floor, a.Members
	clear(n.grants)
	for _, g := range a.Grants {
		n.grants[g.Scope] = g.Holding
		p := n.permits[g.Scope]
		if p == nil {
			p = &testPermits{}
			n.permits[g.Scope] = p
		}
		p.issued = max(p.issued, g.Issued)
		p.void = min(max(p.void, g.Void), p.issued)
		p.returned = max(p.returned, p.void-p.spent)
	}
}

// exchange is a whole one without any delay.
func (w *world) exchange(n *testNode) {
	var a exchange.Answer
	if err := w.l.Report(w.now, w.report(n), &a); err != nil {
		w.t.Fatalf("%s: %v", n.name, err)
	}
	n.apply(&a, w.now)
	w.check()
}

// second lets every node make its exchange, spread over a second, and etcd take
// what is due.
func (w *world) second() (written int) {
	for _, n := range w.nodes {
		w.now = w.now.Add(time.Second / time.Duration(len(w.nodes)))
		w.exchange(n)
		written += w.write()
	}
	return written
}

func (w *world) seconds(n int) {
	for range n {
		w.second()
	}
}

// check adds up what all nodes may use.
func (w *world) check() {
	w.t.Helper()
	for id, l := range w.limits {
		var sum exchange.Holding
		for _, n := range w.nodes {
			h := n.holds(w, id)
			sum.Share += h.Share
			sum.Burst += h.Burst
			sum.LinkBurst += h.LinkBurst
			sum.Connections += max(h.Connections, n.open[id])
		}
		if l.Per > 0 && (sum.Share > exchange.FullShare || sum.Burst > l.Burst) || l.LinkPer > 0 && sum.LinkBurst > l.LinkBurst || l.Connections > 0 && sum.Connections > l.Connections {
			w.t.Fatalf("%s after the start: nodes hold %+v of %+v", w.now.Sub(start), sum, l)
		}
		if l.PerDay > 0 && w.now.Sub(start) < 24*time.Hour {
			w.checkDay(id, l.PerDay)
		}
	}
}

// checkDay: what was used, may be used, and is counted in etcd.
func (w *world) checkDay(id exchange.Scope, perDay int64) {
	w.t.Helper()
	used := w.gone[id]
	for _, n := range w.nodes {
		if p := n.permits[id]; p != nil {
			used += p.issued - p.returned
		}
		used += max(n.kept[id], exchange.PartOf(perDay, n.floor))
	}
	if used > perDay {
		w.t.Fatalf("%s after the start: %d used of %d a day", w.now.Sub(start), used, perDay)
	}
}

func rate(n int64, burst int64) budgets.Limit {
	return budgets.Limit{N: n, Per: time.Second, Burst: burst}
}

func (w *world) share(n *testNode) float64 {
	return float64(n.holds(w, docomo).Share) / exchange.FullShare
}

func TestFairByDemand(t *testing.T) {
	w := newWorld(t, 4, map[exchange.Scope]budgets.Limit{docomo: rate(100, 40)})
	w.nodes[0].backlog[docomo] = 1000
	w.nodes[1].backlog[docomo] = 1000
	for range 12 {
		w.nodes[2].used[docomo] = 8 // of 100 a second; no backlog
		w.second()
	}
	for i, want := range []float64{0.42, 0.42, 0.1, 0.025} {
		if got := w.share(w.nodes[i]); got < want*0.9 || got > want*1.3 {
			t.Errorf("node %d has %.3f of the rate, want about %.3f", i, got, want)
		}
	}
	// Demand goes away: within three exchanges others have it.
	clear(w.nodes[0].backlog)
	w.seconds(3)
	if got := w.share(w.nodes[1]); got < 0.75 {
		t.Errorf("three exchanges after the other's demand had ended: %.3f of the rate", got)
	}
	// And a newcomer has something at its second report, most of its part soon.
	w.nodes[3].backlog[docomo] = 1000
	w.exchange(w.nodes[3])
	if got := w.share(w.nodes[3]); got < 0.03 {
		t.Errorf("a newcomer's first answer gives %.3f", got)
	}
	w.seconds(4)
	if got := w.share(w.nodes[3]); got < 0.4 {
		t.Errorf("after four exchanges the newcomer has %.3f", got)
	}
}

func TestSilentNodeLosesItsGrantsAfterTTL(t *testing.T) {
	w := newWorld(t, 2, map[exchange.Scope]budgets.Limit{docomo: {N: 100, Per: time.Second, Burst: 40, Connections: 20}})
	a, b := w.nodes[0], w.nodes[1]
	a.backlog[docomo], b.backlog[docomo] = 1000, 1000
	w.seconds(8)
	b.open[docomo] = b.holds(w, docomo).Connections
	w.exchange(b)
	if b.open[docomo] < 5 {
		t.Fatalf("only %d connections of 20", b.open[docomo])
	}
	quiet := w.now
	for w.now.Sub(quiet) < exchange.GrantTTL-time.Second/2 {
		w.now = w.now.Add(time.Second / 2)
		w.exchange(a)
		if got := w.share(a); got > 0.6 {
			t.Fatalf("%s after the other's last word: %.2f", w.now.Sub(quiet), got)
		}
	}
	for range 4 {
		w.now = w.now.Add(time.Second)
		w.exchange(a)
	}
	if got := w.share(a); got < 0.9 {
		t.Errorf("after the grants have run out: %.2f", got)
	}
	if got := a.holds(w, docomo).Connections; got > 20-b.open[docomo] {
		t.Errorf("%d connections beside %d that may be open", got, b.open[docomo])
	}
	for w.now.Sub(quiet) < budgets.ConnectionLinger+10*time.Second {
		w.now = w.now.Add(time.Second)
		if w.now.Sub(quiet) > budgets.ConnectionLinger {
			b.open[docomo] = 0 // the carrier has closed them
		}
		w.exchange(a)
	}
	if got := a.holds(w, docomo).Connections; got < 17 {
		t.Errorf("%d connections long after", got)
	}
}

// TestUnheardAnswers: answers that may or may not have arrived count.
func TestUnheardAnswers(t *testing.T) {
	w := newWorld(t, 2, map[exchange.Scope]budgets.Limit{docomo: rate(100, 40)})
	a, b := w.nodes[0], w.nodes[1]
	a.backlog[docomo] = 1000
	w.seconds(8)
	had := w.share(a)
	clear(a.backlog)
	b.backlog[docomo] = 1000
	// The answers that take from a are lost; it goes on with what it had.
	var lost exchange.Answer
	for i := range 4 {
		w.now = w.now.Add(time.Second)
		if err := w.l.Report(w.now, w.report(a), &lost); err != nil {
			t.Fatal(err)
		}
		w.exchange(b)
		if got := w.share(b) + had; w.now.Before(a.until) && got > 1 {
			t.Fatalf("after %d lost answers b has %.2f beside %.2f", i+1, w.share(b), had)
		}
	}
	for range 4 {
		w.now = w.now.Add(time.Second)
		w.exchange(a)
		w.exchange(b)
	}
	if got := w.share(b); got < 0.8 {
		t.Errorf("b has %.2f when all is heard again", got)
	}
}

func TestNewLeaderWaits(t *testing.T) {
	w := newWorld(t, 3, map[exchange.Scope]budgets.Limit{docomo: rate(100, 40)})
	for _, n := range w.nodes {
		n.backlog[docomo] = 1000
	}
	w.seconds(8)
	before := []float64{w.share(w.nodes[0]), w.share(w.nodes[1]), w.share(w.nodes[2])}
	w.elect()
	clear(w.nodes[2].backlog)
	silent := w.nodes[2]
	elected := w.now
	for w.now.Sub(elected) < exchange.GrantTTL-time.Second {
		w.now = w.now.Add(time.Second / 2)
		for i, n := range w.nodes[:2] {
			w.exchange(n)
			if got := w.share(n); got > before[i]+1e-9 || got < before[i]-0.01 {
				t.Fatalf("%s after the election node %d has %.3f, before it had %.3f", w.now.Sub(elected), i, got, before[i])
			}
		}
	}
	for range 5 {
		w.now = w.now.Add(time.Second)
		w.exchange(w.nodes[0])
		w.exchange(w.nodes[1])
	}
	if got := w.share(w.nodes[0]); got < 0.45 {
		t.Errorf("when the silent one's grants have run out: %.3f", got)
	}
	// When all have confirmed, nothing has to be waited for.
	silent.serial, silent.applied = silent.serial+1, 0
	w.seconds(2)
	w.elect()
	w.seconds(3)
	if !w.l.Settled() {
		t.Error("all have confirmed an answer of this term, and the leader still waits")
	}
}

// TestTurns: a burst of 1 and five nodes that want it.
func TestTurns(t *testing.T) {
	for _, tt := range []struct {
		limit budgets.Limit
		for_  time.Duration
		least float64 // of the time somebody has it
	}{
		{rate(10, 1), 10 * time.Minute, 0.85},
		{rate(10, 3), 10 * time.Minute, 0.85},
		{budgets.Limit{N: 60, Per: time.Hour, Burst: 1}, 2 * time.Hour, 0.95},
		{budgets.Limit{Connections: 2}, 10 * time.Minute, 0.85},
	} {
		w := newWorld(t, 5, map[exchange.Scope]budgets.Limit{docomo: tt.limit})
		for _, n := range w.nodes {
			n.backlog[docomo] = 1000
		}
		had, sets := map[string]time.Duration{}, max(tt.limit.Burst, tt.limit.Connections)
		var busy time.Duration
		for w.now.Sub(start) < tt.for_ {
			w.second()
			for _, n := range w.nodes {
				if h := n.holds(w, docomo); max(h.Burst, h.Connections) > 0 {
					had[n.name] += time.Second
					busy += time.Second
				}
			}
		}
		if got := float64(busy) / float64(tt.for_) / float64(sets); got < tt.least {
			t.Errorf("%+v: somebody has it for %.2f of the time, want %.2f", tt.limit, got, tt.least)
		}
		least, most := tt.for_, time.Duration(0)
		for _, n := range w.nodes {
			if exchange.FloorOf(sets, n.floor, w.ranks[n.name]) == 0 { // else it always has one
				least, most = min(least, had[n.name]), max(most, had[n.name])
			}
		}
		if least*10 < most*7 {
			t.Errorf("%+v: not fair: %v", tt.limit, had)
		}
	}
}

func TestFloorsFollowTheNumberOfMembers(t *testing.T) {
	w := newWorld(t, 1, map[exchange.Scope]budgets.Limit{docomo: rate(100, 40)})
	w.nodes[0].backlog[docomo] = 1000
	w.seconds(3)
	if got := w.share(w.nodes[0]); got != 1 {
		t.Fatalf("a node alone has %.2f", got)
	}
	rank, floor := w.l.NewMember(w.now)
	if rank != 1 || floor != 0 {
		t.Fatalf("a second member begins with rank %d and floor %d", rank, floor)
	}
	b := w.addNode("n0001", floor, rank)
	w.members()
	b.backlog[docomo] = 1000
	w.seconds(10)
	for _, n := range w.nodes {
		if n.floor != exchange.FullShare/20 || w.floors[n.name] != n.floor {
			t.Errorf("%s has a floor of %d, in etcd %d", n.name, n.floor, w.floors[n.name])
		}
		if got := w.share(n); got < 0.45 {
			t.Errorf("%s has %.2f", n.name, got)
		}
	}
	// It leaves.
	w.nodes = w.nodes[:1]
	w.members()
	w.seconds(10)
	if n := w.nodes[0]; n.floor != exchange.FullShare || w.share(n) != 1 {
		t.Errorf("alone again with a floor of %d", n.floor)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, 1, map[exchange.Scope]budgets.Limit{docomo: rate(100, 40)})
	n := w.nodes[0]
	var a exchange.Answer
	r := w.report(n)
	for want, change := range map[error]func(*exchange.Report){
		budgets.ErrUnknown: func(r *exchange.Report) { r.Node = "stranger" },
		budgets.ErrLease:   func(r *exchange.Report) { r.Lease = 5 },
		budgets.ErrOld:     func(r *exchange.Report) { r.Serial = 0 },
	} {
		bad := *r
		change(&bad)
		if err := w.l.Report(w.now, &bad, &a); err != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if err := w.l.Report(w.now, r, &a); err != nil {
		t.Fatal(err)
	}
	if err := w.l.Report(w.now, r, &a); err != budgets.ErrOld {
		t.Errorf("the same report twice: %v", err)
	}
}

// TestRandomWorlds: whatever is lost, late, restarted or elected, nodes never
// believe in more than the whole.
func TestRandomWorlds(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 15
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomWorld(t, seed) })
	}
}

func randomWorld(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 5))
	kddi := exchange.Scope{Kind: exchange.TenantCarrier, Carrier: "kddi", Tenant: "a/b"}
	tiny := exchange.Scope{Kind: exchange.Job, Tenant: "t", Job: "j"}
	all := []exchange.Scope{docomo, kddi, tiny}
	w := newWorld(t, 1+rnd.IntN(6), map[exchange.Scope]budgets.Limit{
		docomo: {N: 100, Per: time.Second, Burst: 1 + rnd.Int64N(30), LinkN: 10, LinkPer: time.Second, LinkBurst: 1 + rnd.Int64N(10), Connections: 1 + rnd.Int64N(30)},
		kddi:   {N: 10, Per: time.Minute, Burst: 1 + rnd.Int64N(3), PerDay: 50 + rnd.Int64N(500)},
		tiny:   {PerDay: 1 + rnd.Int64N(20)},
	})
	silent := map[string]time.Time{}
	for range 600 {
		w.now = w.now.Add(time.Duration(rnd.Int64N(int64(time.Second))) / time.Duration(len(w.nodes)))
		n := w.nodes[rnd.IntN(len(w.nodes))]
		id := all[rnd.IntN(len(all))]
		switch rnd.IntN(60) {
		case 0:
			w.elect()
		case 1:
			silent[n.name] = w.now.Add(time.Duration(rnd.Int64N(int64(20 * time.Second))))
		case 2: // a new incarnation: it holds nothing
			n.lease += 1000
			n.serial, n.applied, n.term = 0, 0, 0
			clear(n.grants)
			clear(n.open)
			for id, p := range n.permits {
				w.gone[id] += p.issued - p.returned // what was out is spent for good
				delete(n.permits, id)
			}
			w.members()
		case 3:
			if len(w.nodes) < 7 {
				rank, floor := w.l.NewMember(w.now)
				w.addNode(fmt.Sprintf("x%d", w.rev+int64(len(w.nodes))+1000*rank), floor, rank)
				w.members()
			}
		}
		n.backlog[id] = max(0, rnd.Int64N(200)-100)
		n.use(w, rnd, id)
		if w.now.Before(silent[n.name]) {
			continue
		}
		var a exchange.Answer
		r := w.report(n)
		sent := w.now
		switch err := w.l.Report(w.now, r, &a); {
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		case rnd.IntN(5) > 0:
			n.apply(&a, sent)
		}
		w.check()
		if rnd.IntN(3) > 0 {
			w.write()
		}
	}
}

// use sends what the node may.
func (n *testNode) use(w *world, rnd *rand.Rand, id exchange.Scope) {
	h, l := n.holds(w, id), w.limits[id]
	if l.Connections > 0 {
		n.open[id] = min(max(n.open[id]-rnd.Int64N(2), 0)+rnd.Int64N(2), max(h.Connections, n.open[id]-1))
		n.open[id] = max(min(n.open[id], h.Connections), 0)
	}
	n.used[id] += min(rnd.Int64N(5), h.Burst)
	if p := n.permits[id]; p != nil && l.PerDay > 0 {
		p.spent += rnd.Int64N(p.issued - p.spent - p.returned + 1)
	}
}

// TestNewLeaderCountsTheConnectionsOfTheSilent: a node that has stopped with all
// of its connections open, and a leader that never heard of it. (Found by the
// simulator.)
func TestNewLeaderCountsTheConnectionsOfTheSilent(t *testing.T) {
	w := newWorld(t, 3, map[exchange.Scope]budgets.Limit{docomo: {Connections: 12}})
	a, silent := w.nodes[0], w.nodes[2]
	for _, n := range w.nodes {
		n.backlog[docomo] = 1000
	}
	for range 8 {
		w.second()
		for _, n := range w.nodes {
			n.open[docomo] = n.holds(w, docomo).Connections
		}
	}
	if silent.open[docomo] < 3 {
		t.Fatalf("it has %d connections", silent.open[docomo])
	}
	w.elect()
	clear(w.nodes[1].backlog)
	w.nodes[1].open[docomo] = 0
	elected := w.now
	for w.now.Sub(elected) < budgets.ConnectionLinger {
		w.now = w.now.Add(time.Second)
		w.exchange(a) // check adds up what is open
		w.exchange(w.nodes[1])
		a.open[docomo] = a.holds(w, docomo).Connections
		w.check()
	}
	silent.open[docomo] = 0 // the carrier has closed them
	for range 15 {
		w.now = w.now.Add(time.Second)
		w.exchange(a)
		w.exchange(w.nodes[1])
	}
	if got := a.holds(w, docomo).Connections; got < 9 {
		t.Errorf("%d connections when all others are closed", got)
	}
}

// TestFallingFloorKeepsTheGrant: a node whose floor falls from everything goes
// on at what nobody else wants yet. (Found by the simulator.)
func TestFallingFloorKeepsTheGrant(t *testing.T) {
	w := newWorld(t, 1, map[exchange.Scope]budgets.Limit{docomo: rate(100, 40)})
	a := w.nodes[0]
	a.backlog[docomo] = 1000
	w.seconds(3)
	rank, floor := w.l.NewMember(w.now)
	w.addNode("n0001", floor, rank)
	w.members()
	for range 10 {
		w.second()
		if got := w.share(a); got < 0.9 {
			t.Fatalf("%s: the only one with mail has %.2f", w.now.Sub(start), got)
		}
	}
}
