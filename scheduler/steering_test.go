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

// steered puts courses and holds in force, in place of all before.
func (st *story) steer(lanes map[policy.Steered]*policy.Course, holds map[policy.Selector]*policy.Held) {
	x := &policy.Steering{Lanes: lanes, Holds: holds}
	set := st.s.set.WithSteering(x)
	st.s.SetSteering(st.now, set, x.Since(st.s.set.Steering()))
}

func (st *story) rest(d time.Duration) policy.Instant { return policy.At(st.now.Add(d)) }

const bigAndOther = `Carrier big {"domains":["a.example","b.example"]}`

// twoSources is a story of a pool of two sources at two carriers, told by
// source and destination.
func twoSources(t *testing.T, lines ...string) *story {
	st := clusterStory(t, append([]string{bigAndOther, `Carrier other {"domains":["c.example"]}`}, lines...)...)
	st.s.SetSources(st.now, nil)
	st.label = func(d *message.Delivery, l Lane) string { return l.Source + " " + d.Queue.Destination }
	return st
}

func TestSourceRestsAtOneCarrier(t *testing.T) {
	st := twoSources(t)
	st.stream(key("a.example", "red", "pool=ips"), 0, 60*sec, 5*time.Millisecond)
	st.stream(key("c.example", "red", "pool=ips"), 0, 60*sec, 5*time.Millisecond)
	st.play(10 * sec)
	if st.sum("ip1 a.example") < 50 || st.sum("ip2 a.example") < 50 {
		t.Fatalf("both carry the mail at first: %v", st.sent)
	}
	before := st.sum("ip1 a.example")
	course := &policy.Course{State: policy.StateBlocked, Rests: st.rest(20 * sec), Decision: "d1", Reason: "554 blocked"}
	st.steer(map[policy.Steered]*policy.Course{{Carrier: "big", Source: "ip1"}: course}, nil)
	st.play(29 * sec)
	if n := st.sum("ip1 a.example") - before; n != 0 {
		t.Errorf("%d went from the source that rests", n)
	}
	if n := st.sum("ip2 a.example"); n < 4000 {
		t.Errorf("the other source sent %d", n)
	}
	if n := st.sum("ip1 c.example"); n < 1000 {
		t.Errorf("it sent %d to another carrier", n)
	}
	if l := st.s.lanes[Lane{"ip1", "mx.a.example"}]; l == nil || l.open+l.opening != 0 {
		t.Errorf("its sessions at the carrier: %+v", l)
	}
	st.play(60 * sec)
	if n := st.sum("ip1 a.example") - before; n < 300 {
		t.Errorf("after its rest it sent %d", n)
	}
}

// Mail that has only sources that rest waits for the end of the first rest, and
// goes at that moment without anybody else's word.
func TestAllSourcesRest(t *testing.T) {
	st := twoSources(t)
	k := key("a.example", "red", "pool=ips")
	st.steer(map[policy.Steered]*policy.Course{
		{Carrier: "big", Source: "ip1"}: {State: policy.StateResting, Rests: st.rest(30 * sec), Decision: "d1", Reason: "too fast"},
		{Carrier: "big", Source: "ip2"}: {State: policy.StateRetired, Decision: "d2", Reason: "by hand"},
	}, nil)
	st.accept(k, 5)
	st.play(29 * sec)
	if n := st.sum("ip1 a.example") + st.sum("ip2 a.example"); n != 0 {
		t.Errorf("%d went", n)
	}
	why := st.s.Why(st.now, k)
	texts := fmt.Sprint(why)
	if !strings.Contains(texts, "d1: too fast") || !strings.Contains(texts, "d2: by hand") || !slices.ContainsFunc(why, func(r Reason) bool { return r.Limit == "steering" && r.Until.Equal(st.start.Add(30*sec)) }) {
		t.Errorf("why: %s", texts)
	}
	st.play(31 * sec)
	if n := st.sum("ip1 a.example"); n != 5 {
		t.Errorf("%d went at the end of the rest", n)
	}
	// Back in service before its time, by a decision.
	st.steer(map[policy.Steered]*policy.Course{{Carrier: "big", Source: "ip1"}: {State: policy.StateResting, Rests: st.rest(time.Hour)}, {Carrier: "big", Source: "ip2"}: {State: policy.StateRetired}}, nil)
	st.accept(k, 5)
	st.play(40 * sec)
	st.steer(nil, nil)
	st.play(42 * sec)
	if n := st.sum("ip1 a.example") + st.sum("ip2 a.example"); n != 10 {
		t.Errorf("%d went after the rests were taken back", n)
	}
}

func TestCourseBoundsRateAndConnections(t *testing.T) {
	st := twoSources(t)
	k := key("a.example", "red", "pool=ips")
	st.accept(k, 3000)
	st.play(sec / 2)
	st.steer(map[policy.Steered]*policy.Course{
		{Carrier: "big", Source: "ip1"}: {State: policy.StateSlowed, Rate: &policy.Rate{N: 2, Per: time.Second}, Connections: 1, Decision: "d1", Reason: "421 slow down"},
		{Carrier: "big", Source: "ip2"}: {State: policy.StateRetired},
	}, nil)
	st.play(2 * sec)
	before := st.sum("ip1 a.example")
	st.play(12*sec + 100*time.Millisecond)
	if n := st.sum("ip1 a.example") - before; n < 19 || n > 22 {
		t.Errorf("%d in 10 s at 2/s", n)
	}
	if l := st.s.lanes[Lane{"ip1", "mx.a.example"}]; l.open+l.opening > 1 {
		t.Errorf("%d connections", l.open+l.opening)
	}
	if why := fmt.Sprint(st.s.Why(st.now, k)); !strings.Contains(why, "decision d1: 421 slow down") {
		t.Errorf("why: %s", why)
	}
}

// At the default carrier, which is not one provider, a decision may be about one
// site, and then goes before what holds for all.
func TestCourseAtOneSite(t *testing.T) {
	st := twoSources(t)
	dest := func(d string) message.QueueKey { return key(d, "red", "pool=ips") }
	st.steer(map[policy.Steered]*policy.Course{
		{Carrier: policy.DefaultName, Source: "ip1"}:                       {State: policy.StateRetired},
		{Carrier: policy.DefaultName, Source: "ip1", Site: "mx.y.example"}: {State: policy.StateHealthy},
		{Carrier: policy.DefaultName, Source: "ip2", Site: "mx.x.example"}: {State: policy.StateRetired},
	}, nil)
	for _, d := range []string{"x.example", "y.example", "z.example"} {
		st.accept(dest(d), 40)
	}
	st.play(20 * sec)
	if st.sum("ip1 x.example")+st.sum("ip2 x.example")+st.sum("ip1 z.example") != 0 || st.sum("ip1 y.example") == 0 || st.sum("ip2 z.example") != 40 {
		t.Errorf("sent: %v", st.sent)
	}
	// What holds for all sites is taken back: each of them looks again.
	st.steer(map[policy.Steered]*policy.Course{{Carrier: policy.DefaultName, Source: "ip2", Site: "mx.x.example"}: {State: policy.StateRetired}}, nil)
	st.play(22 * sec)
	if st.sum("ip1 x.example") != 40 {
		t.Errorf("sent: %v", st.sent)
	}
}

func TestControlPlaneHoldsTenants(t *testing.T) {
	st := newStory(t, Config{}, "Source default {}", bigAndOther, "Tenant red {}", "Tenant blue {}")
	st.label = func(d *message.Delivery, _ Lane) string { return d.Queue.Tenant + " " + d.Queue.Destination }
	until := st.rest(30 * sec)
	st.steer(nil, map[policy.Selector]*policy.Held{
		{Tenant: "red", Carrier: "big"}: {Until: until, Decision: "d7", Reason: "6.1 % unknown users"},
		{Tenant: "blue", Job: "j1"}:     {Until: until, Decision: "d8", Reason: "authentication"},
	})
	red, job := key("a.example", "red"), key("c.example", "blue", "job=j1")
	for _, k := range []message.QueueKey{red, job, key("c.example", "red"), key("a.example", "blue")} {
		st.accept(k, 3)
	}
	st.play(29 * sec)
	if st.sum("red a.example") != 0 || st.sum("blue c.example") != 0 || st.sum("red c.example") != 3 || st.sum("blue a.example") != 3 {
		t.Errorf("sent: %v", st.sent)
	}
	for k, want := range map[message.QueueKey]string{red: "decision d7: 6.1 % unknown users", job: "decision d8: authentication"} {
		why := st.s.Why(st.now, k)
		if len(why) == 0 || why[0].Limit != "held" || !why[0].Until.Equal(until.Time()) || !strings.Contains(why[0].Text, want) {
			t.Errorf("why: %+v, want %s", why, want)
		}
		if v, _ := st.s.QueueViewOf(st.now, k); !v.Held || v.State != StateBlocked {
			t.Errorf("it is seen as %+v", v)
		}
	}
	st.play(31 * sec)
	if st.sum("red a.example") != 3 || st.sum("blue c.example") != 3 {
		t.Errorf("when the holds end: %v", st.sent)
	}
	st.accept(red, 1)
	st.steer(nil, map[policy.Selector]*policy.Held{{Tenant: "red"}: {Until: st.rest(time.Hour)}})
	st.accept(red, 3)
	st.play(33 * sec)
	st.steer(nil, nil)
	st.play(34 * sec)
	if st.sum("red a.example") != 7 {
		t.Errorf("a hold that is taken back: %v", st.sent)
	}
}

// Mail that is held, or whose sources rest, expires in its time: it is kept back,
// not kept.
func TestMailThatIsKeptBackExpires(t *testing.T) {
	st := twoSources(t)
	st.steer(map[policy.Steered]*policy.Course{{Carrier: "big", Source: "ip1"}: {State: policy.StateRetired}, {Carrier: "big", Source: "ip2"}: {State: policy.StateBlocked, Rests: st.rest(24 * time.Hour)}},
		map[policy.Selector]*policy.Held{{Tenant: "red"}: {Until: st.rest(24 * time.Hour)}})
	held, rests := key("c.example", "red", "pool=ips"), key("a.example", "blue", "pool=ips")
	for _, k := range []message.QueueKey{held, rests} {
		d := st.disk.newDelivery(k, st.now, st.now, 10*time.Minute)
		st.disk.put(d)
		st.s.Add(st.now, d)
	}
	there := func() (n int) {
		for _, k := range []message.QueueKey{held, rests} {
			if v, ok := st.s.QueueViewOf(st.now, k); ok && v.Loaded > 0 {
				n++
			}
		}
		return n
	}
	if st.play(9 * time.Minute); there() != 2 {
		t.Errorf("%d of 2 wait before their time", there())
	}
	if st.play(11 * time.Minute); there() != 0 || len(st.sent) != 0 {
		t.Errorf("%d of 2 are there after it; sent: %v", there(), st.sent)
	}
}

// Mail whose sources here all rest for long is offered to another node that has
// one that does not; not when they are soon back, and not when nobody has one.
func TestMailOfRestingSourcesIsStranded(t *testing.T) {
	st := twoSources(t)
	a, c := key("a.example", "red", "pool=ips"), key("c.example", "red", "pool=ips")
	lanes := map[policy.Steered]*policy.Course{
		{Carrier: "big", Source: "ip1"}: {State: policy.StateBlocked, Rests: st.rest(5 * time.Minute), Decision: "d1", Reason: "blocked"},
		{Carrier: "big", Source: "ip2"}: {State: policy.StateRetired, Decision: "d2", Reason: "by hand"},
	}
	st.steer(lanes, nil)
	st.accept(a, 5)
	st.accept(c, 5)
	st.play(2 * sec)
	if got := st.s.Stranded(st.now, 10); got != nil {
		t.Errorf("nobody has another source, and stranded are %v", got)
	}
	st.s.SetRefuges(st.now, map[Refuge]bool{{"ips", "big"}: true, {"ips", "nobody"}: true})
	if got := st.s.Stranded(st.now, 10); !slices.Equal(got, []message.QueueKey{a}) || st.s.Counts().Stranded != 1 {
		t.Errorf("stranded: %v", got)
	}
	if why := fmt.Sprint(st.s.Why(st.now, a)); !strings.Contains(why, "another node has one") || !strings.Contains(why, "d1") || !strings.Contains(why, "d2") {
		t.Errorf("why: %s", why)
	}
	// A held queue stays, whoever holds it.
	st.s.Hold(st.now, Hold{ID: "h", Scope: message.Scope{Tenant: "red"}})
	if got := st.s.Stranded(st.now, 10); got != nil {
		t.Errorf("held, and stranded: %v", got)
	}
	st.s.Release(st.now, "h")
	// A minute before the first is back it waits for that.
	st.play(4*time.Minute - sec)
	if len(st.s.Stranded(st.now, 10)) != 1 {
		t.Error("not stranded any more")
	}
	st.play(4*time.Minute + sec)
	if got := st.s.Stranded(st.now, 10); got != nil {
		t.Errorf("soon back, and stranded: %v", got)
	}
	st.play(5*time.Minute + sec)
	if st.sum("ip1 a.example") != 5 {
		t.Errorf("sent: %v", st.sent)
	}
	// A refuge that is gone, and one that comes while a rest is in force.
	lanes[policy.Steered{Carrier: "big", Source: "ip1"}] = &policy.Course{State: policy.StateRetired}
	st.steer(map[policy.Steered]*policy.Course{{Carrier: "big", Source: "ip1"}: {State: policy.StateRetired}, {Carrier: "big", Source: "ip2"}: {State: policy.StateRetired}}, nil)
	st.accept(a, 1)
	st.play(5*time.Minute + 2*sec)
	if len(st.s.Stranded(st.now, 10)) != 1 {
		t.Error("not stranded")
	}
	st.s.SetRefuges(st.now, nil)
	if st.s.Counts().Stranded != 0 {
		t.Error("stranded without a refuge")
	}
}

// A day's count that comes with a course is permits, as any on a source is, and
// what was counted goes on to count when the count rises.
func TestCourseCountsADay(t *testing.T) {
	st := clusterStory(t, bigAndOther)
	st.s.SetSources(st.now, map[string]bool{"ip1": true})
	x := exchange.Scope{Kind: exchange.CarrierSource, Carrier: "big", Source: "ip1"}
	grant := func(issued int64) {
		st.s.SetGrants(st.now, Grants{Spanning: true, Floor: exchange.FullShare / 3, Lease: 1, Until: st.now.Add(time.Hour), Grants: []exchange.Grant{{Scope: x, Holding: exchange.Holding{Issued: issued}}}})
	}
	grant(0)
	warming := func(n int64) {
		st.steer(map[policy.Steered]*policy.Course{{Carrier: "big", Source: "ip1"}: {State: policy.StateWarming, PerDay: n, Decision: "d1", Reason: "day 1"}}, nil)
	}
	k := key("a.example", "red", "pool=ips")
	warming(10)
	st.accept(k, 100)
	st.play(5 * sec)
	if n := st.sum("ip1"); n != 0 {
		t.Errorf("%d went without a permit", n)
	}
	if ds := st.s.Demands(st.now, 10); !slices.ContainsFunc(ds, func(d exchange.Demand) bool { return d.Scope == x && d.Backlog > 0 }) {
		t.Errorf("demands: %+v", ds)
	}
	if why := fmt.Sprint(st.s.Why(st.now, k)); !strings.Contains(why, "decision d1: day 1") {
		t.Errorf("why: %s", why)
	}
	grant(10)
	st.play(10 * sec)
	if n := st.sum("ip1"); n != 10 {
		t.Errorf("%d went with 10 permits", n)
	}
	warming(20)
	st.play(15 * sec)
	if n := st.sum("ip1"); n != 10 {
		t.Errorf("%d went with 10 permits, after the count rose", n)
	}
	grant(20)
	st.play(20 * sec)
	if n := st.sum("ip1"); n != 20 {
		t.Errorf("%d went with 20 permits", n)
	}
}

// manyLanes is a node with 300 carriers of 50 sources each, all with a lane.
func manyLanes(t testing.TB) (*bench, []policy.Steered) {
	const carriers, sources = 300, 50
	lines, pool := []string{"Source default {}"}, ""
	for i := range sources {
		lines = append(lines, fmt.Sprintf(`Source s%02d {"address":"192.0.2.%d"}`, i, i+1))
		pool += fmt.Sprintf(`,{"name":"s%02d"}`, i)
	}
	lines = append(lines, `Pool many {"sources":[`+pool[1:]+`]}`)
	for i := range carriers {
		lines = append(lines, fmt.Sprintf(`Carrier c%03d {"domains":["d%06d.example"],"per_source":{"rate":"10/s"}}`, i, i))
	}
	w := newBench(t, Config{}, lines...)
	var all []policy.Steered
	for i := range carriers {
		k := w.key(i)
		k.Pool = "many"
		w.s.Add(w.now, w.disk.newDelivery(k, w.now, w.now, 72*time.Hour))
		w.s.Actions(w.now, 100)
		w.s.Resolved(w.now, k.Destination, Resolution{Site: "mx." + k.Destination, Hosts: []string{"mx." + k.Destination}, Until: w.now.Add(24 * time.Hour)})
		w.s.Actions(w.now, 100)
		for j := range sources {
			w.s.laneFor(w.s.sites["mx."+k.Destination], fmt.Sprintf("s%02d", j), at(w.now))
			all = append(all, policy.Steered{Carrier: fmt.Sprintf("c%03d", i), Source: fmt.Sprintf("s%02d", j)})
		}
	}
	if n := len(w.s.lanes); n != carriers*sources {
		t.Fatalf("%d lanes", n)
	}
	return w, all
}

// BenchmarkSteering is a change of the courses of 50 lanes on a node with 300
// carriers and 50 sources; the other is the same change as a policy of its own.
func BenchmarkSteering(b *testing.B) {
	w, all := manyLanes(b)
	base := w.s.set
	var sets [2]*policy.Set
	for i := range sets {
		x := &policy.Steering{Lanes: map[policy.Steered]*policy.Course{}}
		for j, on := range all {
			x.Lanes[on] = &policy.Course{State: policy.StateSlowed, Rate: &policy.Rate{N: 5, Per: time.Second}}
			if j%300 == 0 { // 50 of them
				x.Lanes[on] = &policy.Course{State: policy.StateSlowed, Rate: &policy.Rate{N: int64(1 + i), Per: time.Second}}
				if i == 1 {
					x.Lanes[on].Rests = policy.At(w.now.Add(time.Hour))
				}
			}
		}
		sets[i] = base.WithSteering(x)
	}
	changes := [2]policy.Changes{sets[0].Steering().Since(sets[1].Steering()), sets[1].Steering().Since(sets[0].Steering())}
	if n := len(changes[0].Lanes); n != 50 {
		b.Fatalf("%d changes", n)
	}
	for _, way := range []struct {
		name string
		do   func(i int)
	}{
		{"steering", func(i int) { w.s.SetSteering(w.now, sets[i], changes[i]) }},
		{"policy", func(i int) { w.s.SetPolicy(w.now, sets[i]) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			w.s.SetPolicy(w.now, sets[1])
			for i := 0; b.Loop(); i++ {
				w.now = w.now.Add(time.Second)
				way.do(i % 2)
			}
		})
	}
}
