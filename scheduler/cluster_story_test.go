package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// fleet is several nodes in one virtual time, and a leader that shares one
// carrier's budget out among them once a second. It is the simplest leader that
// keeps the rules of package exchange: those who have mail share equally.
type fleet struct {
	t      *testing.T
	nodes  []*story
	floor  int64
	leader bool
	keep   bool // grants never end: the negative control
	cut    int  // this node, unless it is the first, hears nothing of the leader
	scope  exchange.Scope
	whole  *policy.Rate
	grants []exchange.Holding
	until  []time.Time
	times  []instant // of all messages
}

func newFleet(t *testing.T, n int, lines ...string) *fleet {
	f := &fleet{t: t, leader: true, floor: exchange.FullShare / 10 / int64(n), scope: exchange.Scope{Kind: exchange.Carrier, Carrier: "big"}}
	for i := range n {
		st := newStory(t, Config{}, append([]string{"Source default {}"}, lines...)...)
		name := string(rune('a' + i))
		st.label = func(*message.Delivery, Lane) string {
			f.times = append(f.times, at(st.now))
			return name
		}
		st.s.SetGrants(st.now, f.fallen(i))
		f.nodes = append(f.nodes, st)
	}
	f.whole = f.nodes[0].s.set.Carriers["big"].Limits.Rate
	f.grants, f.until = make([]exchange.Holding, n), make([]time.Time, n)
	f.every(0)
	return f
}

func (f *fleet) fallen(rank int) Grants {
	return Grants{Spanning: true, Floor: f.floor, Rank: int64(rank), Lease: 1}
}

// every makes an exchange of all nodes at a time, and the next a second later.
func (f *fleet) every(after time.Duration) {
	f.nodes[0].at(after, func() {
		if f.leader {
			f.exchange()
		}
		f.every(after + exchange.Interval)
	})
}

func (f *fleet) exchange() {
	now := f.nodes[0].now
	busy := make([]bool, len(f.nodes))
	n := int64(0)
	for i, st := range f.nodes {
		if f.cut > 0 && i == f.cut {
			continue
		}
		for _, d := range st.s.Demands(now, exchange.MaxScopes) {
			if busy[i] = busy[i] || d.Scope == f.scope && d.Backlog+d.Used > 0; busy[i] {
				n++
				break
			}
		}
	}
	burst := f.whole.BurstOrDefault()
	spareShare, spareBurst := int64(exchange.FullShare), burst
	for i := range f.nodes {
		if f.cut > 0 && i == f.cut && now.Before(f.until[i]) {
			spareShare -= f.grants[i].Share
			spareBurst -= f.grants[i].Burst
			continue
		}
		spareShare -= f.floor
		spareBurst -= exchange.FloorOf(burst, f.floor, int64(i))
	}
	wants := make([]exchange.Holding, len(f.nodes))
	for i := range f.nodes {
		wants[i] = exchange.Holding{Share: f.floor, Burst: exchange.FloorOf(burst, f.floor, int64(i)), Connections: 100}
		if busy[i] {
			wants[i].Share += spareShare / n
			wants[i].Burst += spareBurst / n
		}
	}
	// Who loses is told first; what is free then goes to who gains.
	for _, gains := range []bool{false, true} {
		for i := range f.nodes {
			if (f.cut == 0 || i != f.cut) && gains == (wants[i].Share > f.grants[i].Share) {
				f.give(i, wants[i])
			}
		}
	}
}

func (f *fleet) give(i int, h exchange.Holding) {
	st := f.nodes[i]
	f.grants[i], f.until[i] = h, st.now.Add(exchange.GrantTTL-exchange.GrantMargin)
	g := f.fallen(i)
	g.Until, g.Grants = f.until[i], []exchange.Grant{{Scope: f.scope, Holding: h}}
	if f.keep {
		g.Until = st.now.Add(time.Hour)
	}
	st.s.SetGrants(st.now, g)
}

// play lets the nodes live in one time.
func (f *fleet) play(until time.Duration) {
	end := f.nodes[0].start.Add(until)
	for now := f.nodes[0].now; now.Before(end); {
		next := end
		for _, st := range f.nodes {
			st.settle()
			if w := st.s.Wake(st.now); !w.IsZero() && w.Before(next) {
				next = w
			}
			if len(st.events) > 0 && st.events[0].at.Before(next) {
				next = st.events[0].at
			}
		}
		if next.After(now) {
			now = next
		}
		for _, st := range f.nodes {
			st.now = now
		}
		for _, st := range f.nodes {
			st.due()
		}
	}
	for i, st := range f.nodes {
		if err := st.s.check(at(st.now)); err != nil {
			f.t.Fatalf("node %d: %v", i, err)
		}
	}
}

// draw is one curve of all nodes.
func (f *fleet) draw(b *strings.Builder, until time.Duration) {
	all := *f.nodes[0]
	all.sent, all.opens, all.peak = map[string]map[int]int{}, map[int]int{}, 0
	for _, st := range f.nodes {
		for l, counts := range st.sent {
			all.sent[l] = counts
		}
		for i, n := range st.opens {
			all.opens[i] += n
		}
		all.peak += st.peak
	}
	all.draw(b, until)
}

// most is the most that was sent over all nodes in any span beyond rate × span,
// to be held against the burst.
func (f *fleet) most() float64 {
	slices.Sort(f.times)
	most := 0.0
	for i := range f.times {
		for j := i; j < len(f.times); j++ {
			most = max(most, float64(j-i+1)-float64(f.whole.N)*float64(f.times[j]-f.times[i])/float64(f.whole.Per))
		}
	}
	return most
}

const bigCarrier = `Carrier big {"domains":["a.example"],"limits":{"rate":"60/s,burst=12"}}`

// leaderLost is a leader that is gone from 20 s to 34 s.
func leaderLost(f *fleet) {
	a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
	a.at(0, func() { a.accept(key("a.example", "red"), 3000) })
	b.at(0, func() { b.accept(key("a.example", "red"), 200) })
	c.at(12*sec, func() { c.accept(key("a.example", "red"), 3000) })
	a.at(20*sec, func() { f.leader = false })
	a.at(34*sec, func() { f.leader = true })
}

func TestClusterStory(t *testing.T) {
	const until = 44 * sec
	f := newFleet(t, 3, bigCarrier)
	leaderLost(f)
	f.play(until)
	var b strings.Builder
	fmt.Fprintf(&b, `# Three nodes share one carrier's 60/s with a burst of 12. b's mail ends; c's
# begins at 12 s. From 20 s to 34 s there is no leader: the grants run out, and
# each node goes on at its floor of a thirtieth.
# policy: %s
`, bigCarrier)
	f.draw(&b, until)
	golden(t, "cluster", b.String())
	if most := f.most(); most > 12 {
		t.Errorf("%.2f more than the rate in some span, the burst is 12", most)
	}
}

// A node that is cut off from the leader goes on with its grant to the end of
// it, and then at its floor; only then the leader gives the rest to others.
// Without that end the same budget is used twice, and the check sees it.
func TestClusterCutNode(t *testing.T) {
	for _, keep := range []bool{false, true} {
		f := newFleet(t, 3, bigCarrier)
		f.keep = keep
		for _, st := range f.nodes[:2] {
			st.at(0, func() { st.accept(key("a.example", "red"), 3000) })
		}
		f.nodes[0].at(10*sec, func() { f.cut = 1 })
		f.play(30 * sec)
		most := f.most()
		if !keep && most > 12 {
			t.Errorf("%.2f more than the rate in some span, the burst is 12", most)
		}
		if keep && most < 100 {
			t.Errorf("grants without an end: only %.2f more than the rate in any span; the check is blind", most)
		}
		if sent := len(f.times); sent < 60*20 {
			t.Errorf("%d sent in 30 s: the budget of the node that is cut off is not used by others", sent)
		}
	}
}
