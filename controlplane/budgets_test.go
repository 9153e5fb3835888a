package controlplane_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

const budgetPolicy = `---
kind: Carrier
name: docomo
spec: {domains: [docomo.ne.jp], limits: {rate: "1000/s,burst=60", connections: 30, per_day: 500}}
---
kind: Tenant
name: acme
spec: {rate: 90/s}
`

var (
	docomo = exchange.Scope{Kind: exchange.Carrier, Carrier: "docomo"}
	acme   = exchange.Scope{Kind: exchange.Tenant, Tenant: "acme"}
)

// sender is a node that keeps account of what it may use, as the scheduler does:
// the grants of the last answer, and its floor where there is none.
type sender struct {
	*node
	backlog map[exchange.Scope]int64
	spent   map[exchange.Scope]int64 // permits
	back    map[exchange.Scope]int64 // permits returned
	kept    map[exchange.Scope]int64
}

func (c *cluster) sender(name string) *sender {
	s := &sender{node: c.join(name), backlog: map[exchange.Scope]int64{}, spent: map[exchange.Scope]int64{}, back: map[exchange.Scope]int64{}, kept: map[exchange.Scope]int64{}}
	s.fill = func(r *exchange.Report) {
		for _, scope := range []exchange.Scope{docomo, acme} {
			r.Demands = append(r.Demands, exchange.Demand{
				Scope: scope, Holding: s.inForce(scope), Backlog: s.backlog[scope], Used: min(s.backlog[scope], 50),
				Spent: s.spent[scope], Returned: s.back[scope], Kept: s.kept[scope],
			})
		}
		if s.answer.Serial != 0 {
			r.Left = exchange.GrantTTL
		}
	}
	return s
}

func (s *sender) inForce(scope exchange.Scope) exchange.Holding {
	for _, g := range s.answer.Grants {
		if g.Scope == scope {
			return g.Holding
		}
	}
	burst := map[exchange.Scope]int64{docomo: 60, acme: 9}[scope]
	return exchange.Holding{Share: s.floor, Burst: exchange.FloorOf(burst, s.floor, s.answer.Rank)}
}

// use spends the permits that it may use, and gives back those that are void.
func (s *sender) use() {
	h := s.inForce(docomo)
	next := s.spent[docomo] + s.back[docomo]
	if h.Void > next {
		s.back[docomo] += h.Void - next
		next = h.Void
	}
	if free := h.Issued - next; free > 0 && s.backlog[docomo] > 0 {
		s.spent[docomo] += min(free, s.backlog[docomo])
	}
}

// whole checks that what nodes have in force is no more than there is.
func whole(t *testing.T, senders []*sender, when string) {
	t.Helper()
	if err := within(senders); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
}

func within(senders []*sender) error {
	for scope, most := range map[exchange.Scope]exchange.Holding{
		docomo: {Share: exchange.FullShare, Burst: 60, Connections: 30},
		acme:   {Share: exchange.FullShare, Burst: 9},
	} {
		var sum exchange.Holding
		for _, s := range senders {
			h := s.inForce(scope)
			sum.Share, sum.Burst, sum.Connections = sum.Share+h.Share, sum.Burst+h.Burst, sum.Connections+h.Connections
		}
		if sum.Share > most.Share || sum.Burst > most.Burst || sum.Connections > most.Connections {
			return fmt.Errorf("of %+v nodes have %+v together", scope, sum)
		}
	}
	return nil
}

// The negative control of TestGrantsAreWithinBudgets: a node that says that it
// has taken over each answer, and keeps the first large grant, is seen.
func TestNodeThatKeepsItsGrantIsSeen(t *testing.T) {
	c := newCluster(t, budgetPolicy)
	p := c.lead("c1")
	a, b := c.sender("n1"), c.sender("n2")
	senders := []*sender{a, b}
	for _, s := range senders {
		s.joined(p)
		s.backlog[acme] = 1000
	}
	c.eventually("both have grants", func() bool {
		a.exchange(p)
		b.exchange(p)
		whole(t, senders, "as it should be")
		return a.inForce(acme).Share > exchange.FullShare/4 && b.inForce(acme).Share > exchange.FullShare/4
	})
	a.backlog[acme] = 0
	kept := a.answer.Grants
	c.eventually("the checker sees it", func() bool {
		a.exchange(p)
		b.exchange(p)
		told := a.answer.Grants
		a.answer.Grants = kept
		err := within(senders)
		a.answer.Grants = told // in its report it says what it was told
		return err != nil
	})
}

// Random demand, exchanges in any order, a resignation and a crash of the leader
// in between: what the nodes have in force together is never more than there is,
// and etcd counts every permit before it is given.
func TestGrantsAreWithinBudgets(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t, budgetPolicy)
	p := c.lead("c1")
	var senders []*sender
	for _, name := range []string{"n1", "n2", "n3"} {
		s := c.sender(name)
		s.joined(p)
		senders = append(senders, s)
	}
	granted := int64(0)
	round := func(when string) {
		for range 60 {
			s := senders[rng.IntN(len(senders))]
			s.backlog[docomo], s.backlog[acme] = rng.Int64N(3)*rng.Int64N(1000), rng.Int64N(3)*rng.Int64N(1000)
			if status := s.exchange(p); status != http.StatusOK {
				t.Fatalf("%s: %s is answered with %d", when, s.name, status)
			}
			s.use()
			whole(t, senders, when)
			c.permitsAreCounted(senders)
			granted = max(granted, s.inForce(docomo).Share)
		}
	}
	round("the first leader")
	if granted <= exchange.FullShare/10 {
		t.Errorf("nobody was given more than %d of %d", granted, exchange.FullShare)
	}
	next := c.start("c2")
	p.stop()
	p = next
	take := func() {
		for _, s := range senders {
			s.joined(p)
			whole(t, senders, "during the take-over")
		}
	}
	take()
	round("after a resignation")
	next = c.start("c3")
	p.wire.hold(true) // and it is never heard of again
	c.eventually("another one leads", func() bool { return next.Leading() })
	p = next
	take()
	round("after a crash")
	total := int64(0)
	for _, s := range senders {
		total += s.spent[docomo]
	}
	if total == 0 || total > 500 {
		t.Errorf("%d messages of 500 a day", total)
	}
	if m := p.Metrics(); m.Scopes != 2 {
		t.Errorf("%d scopes", m.Scopes)
	}
}

// permitsAreCounted checks that etcd counts what is out or was used.
func (c *cluster) permitsAreCounted(senders []*sender) {
	c.t.Helper()
	out := int64(0)
	for _, s := range senders {
		out += max(s.inForce(docomo).Issued, s.spent[docomo]+s.back[docomo]) - s.back[docomo]
	}
	day, _ := get[keyspace.Day](c, c.keys.Day(budgets.DayKey(docomo)))
	counted := int64(0)
	for _, slot := range day.Slots {
		counted += slot.N
	}
	if counted < out || counted > 500 {
		c.t.Fatalf("%d permits are out, etcd counts %d of 500", out, counted)
	}
}

// The only member has all of each budget. When a second one joins, it keeps that
// until it has the lower floor on its disk, and only then the other gets one.
func TestFloorIsLoweredAfterTheNodeHasConfirmed(t *testing.T) {
	c := newCluster(t, budgetPolicy)
	p := c.lead("c1")
	a := c.sender("n1")
	a.joined(p)
	member := func(name string) keyspace.Member {
		m, _ := get[keyspace.Member](c, c.keys.Member(name))
		return m
	}
	if m := member("n1"); m.Floor != exchange.FullShare || a.answer.Floor != exchange.FullShare || m.Rank != 0 {
		t.Fatalf("the only member: %+v, told %d", m, a.answer.Floor)
	}
	b := c.sender("n2")
	b.joined(p)
	if m := member("n2"); m.Floor != 0 || m.Rank != 1 {
		t.Fatalf("the second member: %+v", m)
	}
	// The first node hears of the lower floor, and its disk is slow.
	_, answer := a.send(p, a.report())
	if answer.Floor != exchange.FullShare/20 || answer.Members != 2 {
		t.Fatalf("the first node is told %+v", answer)
	}
	decisions := p.Metrics().Decisions
	c.eventually("more decisions", func() bool {
		b.exchange(p)
		a.send(p, a.report())
		return p.Metrics().Decisions > decisions+5
	})
	if m := member("n1"); m.Floor != exchange.FullShare || member("n2").Floor != 0 {
		t.Fatalf("floors moved before the node confirmed: %+v, %+v", m, member("n2"))
	}
	c.eventually("both have their part", func() bool {
		a.exchange(p)
		b.exchange(p)
		whole(t, []*sender{a, b}, "floors move")
		return member("n1").Floor == exchange.FullShare/20 && member("n2").Floor == exchange.FullShare/20 && b.answer.Floor == exchange.FullShare/20
	})
}

func TestGrantsAreShown(t *testing.T) {
	c := newCluster(t, budgetPolicy)
	p := c.lead("c1")
	other := c.start("c2")
	a, b := c.sender("n1"), c.sender("n2")
	a.joined(p)
	b.joined(p)
	a.backlog[docomo], b.backlog[acme] = 1000, 10
	for range 5 {
		a.exchange(p)
		b.exchange(p)
	}
	c.eventually("the other process shows them", func() bool {
		list, err := other.Grants(t.Context())
		return err == nil && len(list) >= 3
	})
	list, err := p.Grants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range list {
		switch {
		case g.Node == "n1" && g.Carrier == "docomo":
			if g.Kind != "carrier" || g.Limit != "1000/s,burst=60, 500 a day, 30 connections" || g.Share <= 0 || g.Rate == "" || g.Demand != 1000 || g.Outstanding < g.Share || g.ExpiresIn <= 0 || g.ExpiresIn > 5 {
				t.Errorf("%+v", g)
			}
		case g.Node == "n2" && g.Tenant == "acme":
			if g.Kind != "tenant" || g.Limit != "90/s" || g.Demand != 10 {
				t.Errorf("%+v", g)
			}
		}
	}
}

// A node that puts a site beside a carrier that is one provider would make a
// second budget of it; one that names a carrier that is gone likewise.
func TestMadeUpScopesGetNothing(t *testing.T) {
	c := newCluster(t, budgetPolicy+"---\nkind: Carrier\nname: default\nspec: {limits: {rate: 5/s}}\n")
	p := c.lead("c1")
	c.join("n0").joined(p)
	n := c.join("n1").joined(p)
	good := exchange.Scope{Kind: exchange.Carrier, Carrier: "default", Site: "mx.example.com"}
	n.fill = func(r *exchange.Report) {
		for _, s := range []exchange.Scope{
			good,
			{Kind: exchange.Carrier, Carrier: "docomo", Site: "mx.docomo.ne.jp"},
			{Kind: exchange.Carrier, Carrier: "default"},
			{Kind: exchange.Carrier, Carrier: "gone", Site: "mx.example.com"},
			{Kind: exchange.Carrier, Carrier: "gone"},
			{Kind: exchange.Tenant, Tenant: "gone"},
			{Kind: exchange.Job, Tenant: "acme", Job: "j1"},
		} {
			r.Demands = append(r.Demands, exchange.Demand{Scope: s, Backlog: 100})
		}
	}
	for range 3 {
		n.exchange(p)
	}
	list, err := p.Grants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Site != good.Site {
		t.Errorf("%+v", list)
	}
}
