package budgets_test

import (
	"testing"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// spend uses permits as far as there are any, and then the floor's part.
func (w *world) spend(n *testNode, id exchange.Scope, most int64) (sent int64) {
	p := n.permits[id]
	if p != nil {
		sent = min(most, p.issued-p.spent-p.returned)
		p.spent += sent
	}
	keeps := exchange.PartOf(w.limits[id].PerDay, n.floor)
	if id.Kind == exchange.CarrierSource {
		keeps = 0
	}
	own := max(min(most-sent, keeps-n.kept[id]), 0)
	n.kept[id] += own
	n.used[id] += sent + own
	return sent + own
}

// TestWholeDayCanBeUsed: three nodes use a day's budget to the last permit, with
// few writes, and not one more.
func TestWholeDayCanBeUsed(t *testing.T) {
	const perDay = 10_000
	w := newWorld(t, 3, map[exchange.Scope]budgets.Limit{docomo: {PerDay: perDay}})
	var sent int64
	var writes, seconds int
	for seconds = 0; seconds < 3600 && sent < perDay; seconds++ {
		for _, n := range w.nodes {
			n.backlog[docomo] = 100_000
			sent += w.spend(n, docomo, 5)
		}
		writes += w.second()
	}
	// PartOf rounds each floor down, and what is rounded off is nobody's but the leader's.
	if sent != perDay {
		t.Errorf("%d of %d were sent in an hour", sent, perDay)
	}
	if seconds > 1200 {
		t.Errorf("it took %d s, at 15 a second", seconds)
	}
	if writes > 300 {
		t.Errorf("%d writes for a day's budget in %d s", writes, seconds)
	}
	t.Logf("%d permits, %d writes in %d s", sent, writes, seconds)
	// Nothing comes back before a day has passed; then everything does.
	for range 60 {
		w.now = w.now.Add(10 * time.Minute)
		w.second()
		for _, n := range w.nodes {
			if p := n.permits[docomo]; p.issued > p.spent+p.returned {
				t.Fatalf("%d permits beyond the budget after %s", p.issued-p.spent-p.returned, w.now.Sub(start))
			}
		}
	}
	w.now = w.now.Add(15 * time.Hour)
	w.seconds(5)
	if n := w.nodes[0]; w.spend(n, docomo, 5) != 5 {
		t.Error("no permits a day later")
	}
}

// TestNoPermitBeforeItIsWritten: while etcd does not answer, nothing is given.
func TestNoPermitBeforeItIsWritten(t *testing.T) {
	w := newWorld(t, 2, map[exchange.Scope]budgets.Limit{docomo: {PerDay: 1000}})
	n := w.nodes[0]
	n.backlog[docomo] = 50
	for range 5 {
		w.now = w.now.Add(time.Second)
		w.exchange(n)
		if p := n.permits[docomo]; p != nil && p.issued > 0 {
			t.Fatalf("%d permits were given that no record counts", p.issued)
		}
	}
	if d := w.l.Due(w.now); len(d.Days) != 1 || d.Days[0].Revision != 0 {
		t.Fatalf("due: %+v", d)
	} else if again := w.l.Due(w.now); again.Days[0].Day.Slots[0] != d.Days[0].Day.Slots[0] {
		t.Error("a write whose fate is unknown is not made again as it was")
	}
	w.write()
	w.exchange(n)
	p := n.permits[docomo]
	if p == nil || p.issued == 0 || p.issued > w.days[docomo].Slots[0].N {
		t.Errorf("after the write: %+v of %+v", p, w.days[docomo])
	}
}

// TestUnusedPermitsComeBack: demand that ends gives back what it does not use,
// and another node has it at once.
func TestUnusedPermitsComeBack(t *testing.T) {
	w := newWorld(t, 2, map[exchange.Scope]budgets.Limit{docomo: {PerDay: 20}})
	a, b := w.nodes[0], w.nodes[1]
	a.backlog[docomo] = 100
	w.seconds(5)
	if p := a.permits[docomo]; p.issued-p.returned < 5 {
		t.Fatalf("a has %d permits", p.issued-p.returned)
	}
	clear(a.backlog)
	b.backlog[docomo] = 100
	w.seconds(40)
	if p := a.permits[docomo]; p.issued != p.returned {
		t.Errorf("a keeps %d permits that it does not use", p.issued-p.returned)
	}
	if p := b.permits[docomo]; p.issued-p.returned < 8 {
		t.Errorf("b has %d permits, and wants 8 at first", p.issued-p.returned)
	}
}

// TestPermitsOfADeadLeader: the next one counts what was given, calls back what
// is out, and loses no more than what the dead one had in hand.
func TestPermitsOfADeadLeader(t *testing.T) {
	const perDay = 5000
	w := newWorld(t, 2, map[exchange.Scope]budgets.Limit{docomo: {PerDay: perDay}})
	var sent int64
	elections := 0
	for i := range 3000 {
		for _, n := range w.nodes {
			n.backlog[docomo] = 1000
			sent += w.spend(n, docomo, 3)
		}
		w.second()
		if i%100 == 99 && sent < perDay/2 {
			w.elect()
			elections++
		}
	}
	if lost := perDay - sent; lost < 0 || lost > int64(elections)*perDay/100 {
		t.Errorf("%d of %d sent over %d elections", sent, perDay, elections)
	}
}

// TestKeptCountsMoveIntoTheRecord: what a node counted while it was alone, it
// has used when there are two.
func TestKeptCountsMoveIntoTheRecord(t *testing.T) {
	const perDay = 1000
	w := newWorld(t, 1, map[exchange.Scope]budgets.Limit{docomo: {PerDay: perDay}})
	a := w.nodes[0]
	a.kept[docomo] = 800
	w.seconds(3)
	rank, floor := w.l.NewMember(w.now)
	b := w.addNode("n0001", floor, rank)
	w.members()
	w.seconds(5)
	a.backlog[docomo], b.backlog[docomo] = 1000, 1000
	sent := a.kept[docomo]
	for range 600 {
		for _, n := range w.nodes {
			sent += w.spend(n, docomo, 2)
		}
		w.second()
	}
	if w.floors[a.name] != exchange.FullShare/20 {
		t.Errorf("a's floor is %d", w.floors[a.name])
	}
	if d := w.days[docomo]; d.Taken[a.name] != 800-exchange.PartOf(perDay, exchange.FullShare/20) {
		t.Errorf("record %+v", d)
	}
	if sent > perDay || sent < perDay*9/10 {
		t.Errorf("%d sent of %d", sent, perDay)
	}
}

// TestFloorsWaitForTheDay: who leaves takes what it has counted along, so with
// daily limits the others' floors do not grow for a day.
func TestFloorsWaitForTheDay(t *testing.T) {
	w := newWorld(t, 3, map[exchange.Scope]budgets.Limit{docomo: {PerDay: 1000}})
	w.seconds(3)
	w.nodes = w.nodes[:2]
	w.members()
	w.seconds(30)
	if f := w.nodes[0].floor; f != exchange.FullShare/10/3 {
		t.Errorf("floor %d soon after", f)
	}
	w.now = w.now.Add(25 * time.Hour)
	w.seconds(30)
	if f := w.nodes[0].floor; f != exchange.FullShare/10/2 {
		t.Errorf("floor %d a day after", f)
	}
}

func TestOldRecordsGo(t *testing.T) {
	w := newWorld(t, 2, map[exchange.Scope]budgets.Limit{docomo: {PerDay: 1000}})
	w.rev++
	w.days[docomo] = keyspace.Day{Slots: []keyspace.DaySlot{{Start: start.Add(-30*time.Hour).Unix() / 600 * 600, N: 5}}}
	if err := w.l.SetDay(w.now, docomo, w.rev, w.days[docomo]); err != nil {
		t.Fatal(err)
	}
	w.write()
	if d := w.days[docomo]; len(d.Slots) != 0 {
		t.Errorf("an old record stays: %+v", d)
	}
}

func TestDayKey(t *testing.T) {
	for _, x := range []exchange.Scope{
		{Kind: exchange.Carrier, Carrier: "docomo"},
		{Kind: exchange.Carrier, Carrier: "default", Site: "mx.a.test,mx.b.test"},
		{Kind: exchange.CarrierPool, Carrier: "a/b", Pool: "p q"},
		{Kind: exchange.CarrierSource, Carrier: "a", Source: "s%2f1"},
		{Kind: exchange.Tenant, Tenant: "日本"},
		{Kind: exchange.TenantCarrier, Tenant: "t", Carrier: "c"},
		{Kind: exchange.Stream, Tenant: "t", Stream: ""},
		{Kind: exchange.Job, Tenant: "t", Job: ".."},
	} {
		if got, err := budgets.ParseDayKey(budgets.DayKey(x)); got != x || err != nil {
			t.Errorf("%q is read as %+v, %v", budgets.DayKey(x), got, err)
		}
	}
	for _, bad := range []string{"", "carrier", "carrier/a", "carrier/a/b/c", "unknown/a/b", "tenant/%zz", "tenant/%41"} {
		if got, err := budgets.ParseDayKey(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

func FuzzParseDayKey(f *testing.F) {
	f.Add("carrier/docomo/")
	f.Add("job/t/%2F")
	f.Fuzz(func(t *testing.T, key string) {
		if x, err := budgets.ParseDayKey(key); err == nil && budgets.DayKey(x) != key {
			t.Errorf("%q becomes %q", key, budgets.DayKey(x))
		}
	})
}
