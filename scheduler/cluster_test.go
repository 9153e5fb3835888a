package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/spool/message"
)

const twoIPs = `Pool ips {"sources":[{"name":"ip1"},{"name":"ip2"}]}`

// clusterStory is a story on one node among several.
func clusterStory(t *testing.T, lines ...string) *story {
	st := newStory(t, Config{}, append([]string{"Source default {}", `Source ip1 {"address":"192.0.2.1"}`, `Source ip2 {"address":"192.0.2.2"}`, twoIPs}, lines...)...)
	st.label = bySource
	st.s.SetSources(st.now, map[string]bool{"default": true})
	st.s.SetGrants(st.now, Grants{Spanning: true, Floor: exchange.FullShare, Lease: 1})
	return st
}

func (st *story) sum(label string) (n int) {
	for _, k := range st.sent[label] {
		n += k
	}
	return n
}

func TestMailWithoutASourceHereIsStranded(t *testing.T) {
	st := clusterStory(t)
	k := key("a.example", "red", "pool=ips")
	st.accept(k, 5)
	st.accept(key("b.example", "red"), 5)
	st.play(2 * sec)
	if v, _ := st.s.QueueViewOf(st.now, k); v.State != StateStranded {
		t.Errorf("it is %s", v.State)
	}
	if why := st.s.Why(st.now, k); len(why) == 0 || why[0].Text != "no source of pool ips on this node" {
		t.Errorf("why: %+v", why)
	}
	if got := st.s.Stranded(st.now, 10); !slices.Equal(got, []message.QueueKey{k}) || st.s.Counts().Stranded != 1 {
		t.Errorf("stranded: %v, counted %d", got, st.s.Counts().Stranded)
	}
	if st.sum("default") != 5 || st.sum("ip1") != 0 {
		t.Errorf("sent: %v", st.sent)
	}
	// A source comes: all goes at once.
	st.s.SetSources(st.now, map[string]bool{"default": true, "ip1": true})
	st.play(4 * sec)
	if st.sum("ip1") != 5 || st.s.Counts().Stranded != 0 || st.s.Stranded(st.now, 10) != nil {
		t.Errorf("sent: %v, stranded %d", st.sent, st.s.Counts().Stranded)
	}
}

// A pool that has no source anywhere has nothing to wait for on another node.
func TestPoolWithoutSourcesAnywhereIsNotStranded(t *testing.T) {
	st := clusterStory(t, `Source off {"disabled":true}`, `Pool dead {"sources":[{"name":"off"}]}`)
	k := key("a.example", "red", "pool=dead")
	st.accept(k, 1)
	st.play(sec)
	if got := st.s.Stranded(st.now, 10); got != nil {
		t.Errorf("stranded: %v", got)
	}
	if why := st.s.Why(st.now, k); len(why) == 0 || why[0].Text != "pool dead has no usable source" {
		t.Errorf("why: %+v", why)
	}
}

func TestStrandedTakesTurnsAndExpires(t *testing.T) {
	st := clusterStory(t)
	for i := range 20 {
		st.accept(key(fmt.Sprintf("n%d.example", i), "noisy", "pool=ips"), 1)
	}
	st.accept(key("a.example", "quiet", "pool=ips"), 1)
	later := st.disk.newDelivery(key("l.example", "quiet", "pool=ips"), st.now, st.now.Add(time.Hour), 72*time.Hour)
	st.disk.put(later)
	st.s.Add(st.now, later)
	short := st.disk.newDelivery(key("s.example", "quiet", "pool=ips"), st.now, st.now, 10*time.Minute)
	st.disk.put(short)
	st.s.Add(st.now, short)
	st.settle()
	first := st.s.Stranded(st.now, 4)
	if n := countTenant(first, "quiet"); n != 2 {
		t.Errorf("of %v %d are of the quiet tenant, want 2", first, n)
	}
	seen := map[message.QueueKey]int{}
	for range 6 {
		got := st.s.Stranded(st.now, 4)
		for _, k := range got {
			seen[k]++
		}
	}
	if n := st.s.Counts().Stranded; n != 22 || len(seen) < 12 {
		t.Errorf("%d stranded, %d seen in six calls of four", n, len(seen))
	}
	if got := st.s.Stranded(st.now, 1000); len(got) != 22 {
		t.Errorf("all are %d, want 22 (one is not due)", len(got))
	}
	st.play(11 * time.Minute)
	if st.disk.byID[short.ID] != nil || st.s.Counts().Stranded != 21 {
		t.Errorf("ten minutes later its expiry was not kept; %d stranded", st.s.Counts().Stranded)
	}
}

func countTenant(keys []message.QueueKey, tenant string) (n int) {
	for _, k := range keys {
		if k.Tenant == tenant {
			n++
		}
	}
	return n
}

// Sessions of a source that is taken away end: those that wait at once, those
// that carry mail after it. A connection that was asked for is not opened.
func TestSourceTakenAwayEndsItsSessions(t *testing.T) {
	st := clusterStory(t, `Carrier default {"per_source":{"connections":3}}`)
	st.s.SetSources(st.now, map[string]bool{"ip1": true})
	k := key("a.example", "red", "pool=ips")
	st.accept(k, 40)
	st.at(300*time.Millisecond, func() {
		if st.s.Counts().Sessions == 0 {
			t.Error("no session to take away")
		}
		st.s.SetSources(st.now, map[string]bool{})
		lane := Lane{"ip1", "mx.a.example"}
		if _, _, ok := st.s.Next(st.now, lane); ok {
			t.Error("mail for a source that is gone")
		}
		if st.s.Reconnect(st.now, lane) {
			t.Error("a connection from a source that is gone")
		}
		if !st.s.Crowded(st.now, lane) {
			t.Error("its sessions are not told to end")
		} else {
			st.s.countLeaving(st.s.lanes[lane], -1) // we are none of them
		}
		st.accept(k, 500)
	})
	st.play(400 * time.Millisecond)
	if n := st.s.Counts().Sessions; n != 0 {
		t.Errorf("%d sessions 100 ms later", n)
	}
	if err := st.s.check(at(st.now)); err != nil {
		t.Error(err)
	}
}

// What comes to this node has been used elsewhere until a moment ago.
func TestSourceThatComesBeginsWithoutABurst(t *testing.T) {
	st := clusterStory(t, `Carrier default {"per_source":{"rate":"10/s,burst=50","connections":1}}`)
	k := key("a.example", "red", "pool=ips")
	st.s.SetSources(st.now, map[string]bool{"ip1": true})
	st.accept(k, 1)
	st.play(20 * sec) // its bucket is full now
	st.s.SetSources(st.now, map[string]bool{})
	st.s.SetSources(st.now, map[string]bool{"ip1": true})
	before := st.sum("ip1")
	st.accept(k, 200)
	st.play(22 * sec)
	if n := st.sum("ip1") - before; n > 20 || n < 15 {
		t.Errorf("%d in the first 2 s at 10/s", n)
	}
}

func TestBrake(t *testing.T) {
	st := clusterStory(t, `Carrier big {"domains":["a.example","b.example"]}`, `Carrier other {"domains":["c.example"]}`)
	st.s.SetSources(st.now, nil)
	st.s.Brake(st.now, "big", "ip1", st.now.Add(time.Hour))     // a minute at most
	st.s.Brake(st.now, "nobody", "ip1", st.now.Add(time.Hour))  // no such carrier
	st.s.Brake(st.now, "default", "ip1", st.now.Add(time.Hour)) // not one provider
	st.s.Brake(st.now, "big", "nobody", st.now.Add(time.Hour))
	if n := len(st.s.limits.links); n != 1 {
		t.Errorf("a stranger's hint made %d budgets", n)
	}
	for _, d := range []string{"a", "b", "c"} {
		st.accept(key(d+".example", "red", "pool=ips"), 10)
	}
	st.label = func(d *message.Delivery, l Lane) string { return l.Source + " " + d.Queue.Destination }
	st.play(30 * sec)
	if st.sum("ip1 a.example")+st.sum("ip1 b.example") != 0 || st.sum("ip2 a.example") != 10 {
		t.Errorf("sent: %v", st.sent)
	}
	if st.sum("ip1 c.example")+st.sum("ip2 c.example") != 10 {
		t.Errorf("another carrier's mail: %v", st.sent)
	}
	st.s.SetSources(st.now, map[string]bool{"ip1": true})
	st.accept(key("a.example", "red", "pool=ips"), 10)
	st.play(59 * sec)
	why := st.s.Why(st.now, key("a.example", "red", "pool=ips"))
	if st.sum("ip1 a.example") != 0 || !slices.ContainsFunc(why, func(r Reason) bool { return r.Limit == "brake" }) {
		t.Errorf("sent: %v; why %+v", st.sent, why)
	}
	st.play(63 * sec)
	if st.sum("ip1 a.example") != 10 {
		t.Errorf("after the minute: %v", st.sent)
	}
}

// Connections above what the node may have now end within seconds, whether
// they have mail or not.
func TestFewerConnections(t *testing.T) {
	for _, mail := range []int{400, 100_000} {
		st := clusterStory(t, `Carrier big {"domains":["a.example"],"limits":{"connections":12}}`)
		st.accept(key("a.example", "red"), mail)
		st.play(3 * sec)
		if mail > 400 && st.s.Counts().Sessions != 12 {
			t.Fatalf("%d connections of 12", st.s.Counts().Sessions)
		}
		g := Grants{Spanning: true, Floor: exchange.FullShare / 20, Until: st.now.Add(4 * time.Second), Lease: 1}
		g.Grants = []exchange.Grant{{Scope: exchange.Scope{Kind: exchange.Carrier, Carrier: "big"}, Holding: exchange.Holding{Connections: 5}}}
		st.s.SetGrants(st.now, g)
		st.play(4 * sec)
		if n := st.s.Counts().Sessions; n > 5 || mail > 400 && n != 5 {
			t.Errorf("%d waiting: %d connections a second later, 5 are granted", mail, n)
		}
		st.play(9 * sec) // the grant has ended: the floor of 12 is 1
		if n := st.s.Counts().Sessions; n > 1 {
			t.Errorf("%d waiting: %d connections after the grant, the floor is 1", mail, n)
		}
	}
}

func TestPermits(t *testing.T) {
	st := clusterStory(t, `Tenant red {"per_day":1000}`)
	x := exchange.Scope{Kind: exchange.Tenant, Tenant: "red"}
	give := func(issued, void int64) {
		st.s.SetGrants(st.now, Grants{Spanning: true, Floor: exchange.FullShare / 100, Lease: 1, Until: st.now.Add(exchange.GrantTTL - exchange.GrantMargin),
			Grants: []exchange.Grant{{Scope: x, Holding: exchange.Holding{Issued: issued, Void: void}}}})
	}
	demand := func() exchange.Demand {
		for _, d := range st.s.Demands(st.now, 100) {
			if d.Scope == x {
				return d
			}
		}
		t.Fatal("no demand")
		return exchange.Demand{}
	}
	expect := func(what string, sent int, spent, returned, kept int64) {
		t.Helper()
		if d := demand(); st.sum("default") != sent || d.Spent != spent || d.Returned != returned || d.Kept != kept {
			t.Errorf("%s: sent %d, spent %d, returned %d, kept %d; want %d, %d, %d, %d", what, st.sum("default"), d.Spent, d.Returned, d.Kept, sent, spent, returned, kept)
		}
	}
	give(0, 0)
	st.accept(key("a.example", "red"), 500)
	st.play(3 * sec)
	expect("the floor alone", 9, 0, 0, 9)
	give(30, 0)
	st.play(6 * sec)
	expect("with permits", 39, 30, 0, 9)
	give(50, 45) // 15 became void before they were used
	st.play(9 * sec)
	expect("with void permits", 44, 35, 15, 9)

	// One that was not used after all comes back.
	give(51, 45)
	st.s.Actions(st.now, 10)
	d, _, ok := st.s.Next(st.now, Lane{"default", "mx.a.example"})
	if !ok || demand().Spent != 36 {
		t.Fatalf("a permit more: %v, %+v", ok, demand())
	}
	st.s.PutBack(st.now, d.Delivery)
	if got := demand(); got.Spent != 35 || got.Used != 0 {
		t.Errorf("given back: %+v", got)
	}
	st.play(10 * sec)
	expect("used again", 45, 36, 15, 9)

	// Without the leader they die, and never come alive again.
	give(81, 45)
	st.s.Hold(st.now, Hold{ID: "h", Scope: message.Scope{Tenant: "red"}})
	st.at(10*sec+exchange.PermitTTL, func() { st.s.Release(st.now, "h") })
	st.play(30*sec + exchange.PermitTTL)
	expect("after their time", 45, 36, 45, 9)
	give(81, 45)
	st.play(35*sec + exchange.PermitTTL)
	expect("told of again", 45, 36, 45, 9)

	// Those of another lease are counted anew.
	st.s.SetGrants(st.now, Grants{Spanning: true, Lease: 2, Until: st.now.Add(sec), Grants: []exchange.Grant{{Scope: x, Holding: exchange.Holding{Issued: 2}}}})
	st.play(40*sec + exchange.PermitTTL)
	expect("another lease", 47, 2, 0, 9)
}

// What is counted on a source that moves goes with it: on one node among several
// it is the leader's permits alone. One that cannot move has all of its limit.
func TestDailyLimitOfASource(t *testing.T) {
	st := clusterStory(t, `Carrier big {"domains":["a.example"],"per_source":{"per_day":20}}`)
	st.s.SetSources(st.now, nil)
	floor := int64(exchange.FullShare / 30)
	st.s.SetGrants(st.now, Grants{Spanning: true, Floor: floor, Lease: 1})
	st.accept(key("a.example", "red", "pool=ips"), 100)
	st.accept(key("a.example", "red"), 100)
	st.play(3 * sec)
	if st.sum("ip1")+st.sum("ip2") != 0 || st.sum("default") != 20 {
		t.Errorf("sent: %v", st.sent)
	}
	x := exchange.Scope{Kind: exchange.CarrierSource, Carrier: "big", Source: "ip1"}
	if ds := st.s.Demands(st.now, 100); !slices.ContainsFunc(ds, func(d exchange.Demand) bool { return d.Scope == x && d.Backlog > 0 }) {
		t.Errorf("no demand for permits of ip1: %+v", ds)
	}
	st.s.SetGrants(st.now, Grants{Spanning: true, Floor: floor, Lease: 1, Until: st.now.Add(sec), Grants: []exchange.Grant{{Scope: x, Holding: exchange.Holding{Issued: 7}}}})
	st.play(6 * sec)
	if st.sum("ip1") != 7 || st.sum("ip2") != 0 {
		t.Errorf("sent: %v", st.sent)
	}
}

// A node that is all there is needs no permit: there is nowhere for a source to
// go, and the leader, who counts its floor as the whole, gives none.
func TestDailyLimitOfASourceOfALoneNode(t *testing.T) {
	st := clusterStory(t, `Carrier big {"domains":["a.example"],"per_source":{"per_day":20}}`)
	st.s.SetSources(st.now, nil)
	st.s.SetGrants(st.now, Grants{Spanning: true, Floor: exchange.FullShare, Lease: 1})
	st.accept(key("a.example", "red", "pool=ips"), 100)
	st.play(3 * sec)
	if st.sum("ip1") != 20 || st.sum("ip2") != 20 {
		t.Errorf("sent: %v", st.sent)
	}
}

// A tenant that has used up what it may send to one carrier waits there, and
// neither its mail elsewhere nor that of others does.
func TestTenantAtOneCarrier(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}", `Tenant red {"carriers":{"big":{"rate":"2/s"}}}`, `Carrier big {"domains":["a.example","b.example"]}`)
	st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Tenant + " " + d.Queue.Destination }
	for _, d := range []string{"a.example", "b.example", "c.example"} {
		st.accept(key(d, "red"), 100)
		st.accept(key(d, "blue"), 100)
	}
	st.play(10*sec - 100*time.Millisecond)
	if a, b := st.sum("red a.example"), st.sum("red b.example"); a+b < 18 || a+b > 20 || a < 8 || b < 8 {
		t.Errorf("red at the carrier: %d and %d in 10 s, want 20 in all, half of them to each site", a, b)
	}
	if st.sum("red c.example") != 100 || st.sum("blue a.example") != 100 || st.sum("blue b.example") != 100 {
		t.Errorf("sent: %v", st.sent)
	}
	why := st.s.Why(st.now, key("a.example", "red"))
	if len(why) == 0 || why[0].Scope != "tenant red, carrier big" || why[0].Limit != "rate" {
		t.Errorf("why: %+v", why)
	}
}

func TestPoolAtOneCarrier(t *testing.T) {
	st := newStory(t, Config{}, "Source s1 {}", "Source s2 {}", "Source s3 {}", `Pool ab {"sources":[{"name":"s1"},{"name":"s2"}]}`, `Pool c {"sources":[{"name":"s3"}]}`,
		`Carrier big {"domains":["a.example"],"per_pool":{"ab":{"rate":"10/s","connections":2}}}`)
	st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Pool + " " + d.Queue.Destination }
	for _, d := range []string{"a.example", "b.example"} {
		st.accept(key(d, "red", "pool=ab"), 300)
		st.accept(key(d, "red", "pool=c"), 300)
	}
	st.play(10 * sec)
	if n := st.sum("ab a.example"); n < 95 || n > 101 {
		t.Errorf("the pool sent %d in 10 s at 10/s", n)
	}
	if st.sum("c a.example") != 300 || st.sum("ab b.example") != 300 {
		t.Errorf("sent: %v", st.sent)
	}
	if n := st.s.limits.links[linkKey{carrier: "big", pool: "ab"}].conns; n > 2 {
		t.Errorf("%d connections of the pool, 2 are allowed", n)
	}
	why := st.s.Why(st.now, key("a.example", "red", "pool=ab"))
	if !slices.ContainsFunc(why, func(r Reason) bool { return r.Scope == "carrier big, pool ab" }) {
		t.Errorf("why: %+v", why)
	}
}

// A throttle stops at its time by itself, and keeps the bucket's debt.
func TestThrottleEnds(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}", `Carrier big {"domains":["a.example"],"limits":{"rate":"50/s,burst=5"}}`,
		fmt.Sprintf(`Throttle less {"carrier":"big","rate":"1/s","expires":"%s"}`, worldStart.Add(10*sec).Format(time.RFC3339)))
	st.accept(key("a.example", "red"), 5000)
	st.play(15 * sec)
	throttled, after := 0, 0
	for i, n := range st.sent["red"] {
		if i < 10 {
			throttled += n
		} else {
			after += n
		}
	}
	if throttled > 10 || throttled < 8 || after > 255 || after < 240 {
		t.Errorf("%d in the 10 s of the throttle, %d in the 5 s after it", throttled, after)
	}
}

// A node that may send nothing of a budget still asks for it, also when all of
// its mail is on disk: else nobody would ever grant it anything.
func TestDemandOfWhatCannotGo(t *testing.T) {
	st := clusterStory(t, `Carrier big {"domains":["a.example"],"limits":{"rate":"100/s,burst=1"}}`)
	st.s.SetGrants(st.now, Grants{Spanning: true, Floor: 1, Rank: 9, Lease: 1})
	k := key("a.example", "red")
	for range 50 {
		st.disk.put(st.disk.newDelivery(k, st.now, st.now, 72*time.Hour))
	}
	st.s.AddQueue(st.now, k, st.now)
	st.play(20 * sec)
	x := exchange.Scope{Kind: exchange.Carrier, Carrier: "big"}
	ds := st.s.Demands(st.now, 100)
	i := slices.IndexFunc(ds, func(d exchange.Demand) bool { return d.Scope == x })
	if i < 0 || ds[i].Backlog == 0 || ds[i].Burst != 0 || ds[i].Share != 1 {
		t.Fatalf("demands: %+v", ds)
	}
	st.s.SetGrants(st.now, Grants{Spanning: true, Floor: 1, Rank: 9, Lease: 1, Until: st.now.Add(5 * sec),
		Grants: []exchange.Grant{{Scope: x, Holding: exchange.Holding{Share: exchange.FullShare, Burst: 1}}}})
	st.play(21 * sec)
	if n := st.sum("default"); n < 40 {
		t.Errorf("%d sent in the second after the grant", n)
	}
}

func TestDemandsAreBoundedAndOrdered(t *testing.T) {
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf(`Carrier c%02d {"domains":["d%02d.example"],"limits":{"rate":"1/h"}}`, i, i))
	}
	st := clusterStory(t, lines...)
	for i := range 30 {
		st.accept(key(fmt.Sprintf("d%02d.example", i), "red"), 1+i)
	}
	st.play(sec)
	ds := st.s.Demands(st.now, 10)
	if len(ds) != 10 {
		t.Fatalf("%d demands", len(ds))
	}
	for i, d := range ds {
		if want := fmt.Sprintf("c%02d", 29-i); d.Carrier != want || d.Backlog != int64(30-i) {
			t.Errorf("demand %d is of %s with %d, want %s with %d", i, d.Carrier, d.Backlog, want, 30-i)
		}
	}
	if b := st.s.SourceBacklogs(st.now); b["default"] != 30*31/2 {
		t.Errorf("waiting for the source: %v", b)
	}
	if ds := newStory(t, Config{}, "Source default {}").s.Demands(worldStart, 10); ds != nil {
		t.Errorf("a node alone demands %+v", ds)
	}
}

func TestSharedBudgetsAreShown(t *testing.T) {
	st := clusterStory(t, `Carrier big {"domains":["a.example"],"limits":{"rate":"16/s,burst=32","connections":8}}`)
	x := exchange.Scope{Kind: exchange.Carrier, Carrier: "big"}
	g := Grants{Spanning: true, Floor: exchange.FullShare / 16, Lease: 1, Until: st.now.Add(5 * sec),
		Grants: []exchange.Grant{{Scope: x, Holding: exchange.Holding{Share: exchange.FullShare / 4, Burst: 3, Connections: 2}}}}
	st.s.SetGrants(st.now, g)
	k := key("a.example", "red")
	st.accept(k, 200)
	st.play(3*sec - 100*time.Millisecond)
	rate := func() BudgetView {
		for _, b := range st.s.Budgets(st.now) {
			if b.Scope == "carrier big" && b.Kind == "rate" {
				return b
			}
		}
		t.Fatal("no such budget")
		return BudgetView{}
	}
	if b := rate(); !b.Shared || !b.Granted || b.Share != exchange.FullShare/4 || b.Part != 3 || b.Limit != "16/s,burst=32" {
		t.Errorf("granted: %+v", b)
	}
	text := st.s.Why(st.now, k)[0].Text
	if want := "carrier big: rate 16/s,burst=32, of which this node is granted 25 %"; text[:min(len(text), len(want))] != want {
		t.Errorf("why: %s", text)
	}
	st.play(8*sec - 100*time.Millisecond)
	if b := rate(); b.Granted || b.Share != exchange.FullShare/16 || b.Part != 2 {
		t.Errorf("after the grant: %+v", b)
	}
	text = st.s.Why(st.now, k)[0].Text
	if want := "carrier big: rate 16/s,burst=32, of which this node has its floor of 6.25 %: its grant ran out at 2026-03-02 09:00:05 UTC"; text[:min(len(text), len(want))] != want {
		t.Errorf("why: %s", text)
	}
}

// A limit that comes while a delivery is out holds for its further transactions
// too, though no other mail has asked for it yet.
func TestLimitThatComesWhileADeliveryIsOut(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}", `Carrier big {"domains":["a.example"]}`, "Tenant red {}")
	st.latency = func(Lane) time.Duration { return time.Hour }
	st.accept(key("a.example", "red"), 1)
	st.play(sec)
	var id message.DeliveryID
	for id = range st.disk.byID {
	}
	lane := Lane{"default", "mx.a.example"}
	if !st.s.Again(st.now, lane, id) {
		t.Fatal("no further transaction without any limit")
	}
	st.s.SetPolicy(st.now, policyOf(t, "Source default {}", `Carrier big {"domains":["a.example"]}`, `Tenant red {"carriers":{"big":{"rate":"1/s"}}}`))
	if st.s.Again(st.now, lane, id) {
		t.Error("a transaction at once where 1/s is the limit, and the bucket begins empty")
	}
	if !st.s.Again(st.now.Add(sec), lane, id) || st.s.Again(st.now.Add(sec), lane, id) {
		t.Error("a second later it may have one, and one only")
	}
}
