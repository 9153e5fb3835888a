package controlplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/controlplane/store"
)

// mod is the revision at which a key last changed, 0 if it is not there.
func (c *cluster) mod(key string) int64 {
	c.t.Helper()
	got, err := c.client.Get(c.t.Context(), key)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(got.Kvs) == 0 {
		return 0
	}
	return got.Kvs[0].ModRevision
}

// A decision is marked as taken back with what that changes, or after it: a leader
// that ends in between must not leave in force what nobody can take back again.
func TestUndoIsMarkedWithItsEffect(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1")
	c.eventually("it has begun", func() bool { return p.Metrics().Steering.Rounds > 0 })
	rest := func(source string) string {
		l, err := p.SetLane(t.Context(), state.SetLane{Carrier: "docomo", Source: source, State: policy.StateResting, Until: time.Now().Add(time.Hour), Author: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		c.eventually("the decision is there", func() bool { return c.mod(c.keys.Decision(l.Decision)) > 0 })
		return l.Decision
	}
	rest("s2")
	for range 5 {
		id := rest("s1")
		before := c.mod(c.keys.Steering("docomo"))
		if _, err := p.Undo(t.Context(), state.Undo{ID: id, Author: "ann"}); err != nil {
			t.Fatal(err)
		}
		effect, mark := c.mod(c.keys.Steering("docomo")), c.mod(c.keys.Decision(id))
		if effect <= before || mark < effect {
			t.Fatalf("marked at revision %d, and in force no more from %d on", mark, effect)
		}
	}
}

// What is in force can be taken back though its record has been deleted, as the
// oldest are.
func TestUndoOfWhatIsOlderThanItsRecord(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	hold := fmt.Sprintf(`{"holds":[{"tenant":"acme","carrier":"docomo","until":%q,"decision":"20260101T000000.000-00001","reason":"unknown-users: many"}]}`, time.Now().Add(10*time.Hour).UTC().Format(time.RFC3339))
	if _, err := c.client.Put(t.Context(), c.keys.Steering(keyspace.TenantSteering), hold); err != nil {
		t.Fatal(err)
	}
	p := c.lead("c1")
	c.eventually("it has begun", func() bool { return p.Metrics().Steering.Rounds > 0 })
	l, err := p.SetLane(t.Context(), state.SetLane{Carrier: "docomo", Source: "s1", State: policy.StateRetired, Author: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	c.eventually("the decision is there", func() bool { return c.mod(c.keys.Decision(l.Decision)) > 0 })
	if _, err := c.client.Delete(t.Context(), c.keys.Decision(l.Decision)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"20260101T000000.000-00001", l.Decision} {
		d, err := p.Undo(t.Context(), state.Undo{ID: id, Author: "ann"})
		if err != nil || d.UndoneBy != "ann" || d.Carrier != "docomo" {
			t.Errorf("%s: %+v, %v", id, d, err)
		}
	}
	if hs, err := p.Holds(t.Context()); err != nil || len(hs) != 0 || c.courseOf("docomo", "s1") != nil {
		t.Errorf("in force: %+v, %v, %+v", hs, err, c.courseOf("docomo", "s1"))
	}
}

// Rates that go up and down all day do not push out who blocked us, and whose mail
// is held.
func TestPassingDecisionsDoNotPushOutOthers(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	const more = 50
	id := func(i int) string { return fmt.Sprintf("20200101T%06d.000-00001", i) }
	for from := 0; from < keyspace.MaxDecisions+more; from += 100 {
		var puts []clientv3.Op
		for i := from; i < min(from+100, keyspace.MaxDecisions+more); i++ {
			d := keyspace.Decision{ID: id(i), At: time.Unix(int64(i), 0), Carrier: "docomo", Source: "s1", Action: "slow"}
			if i < more {
				d.Action = []string{"block", "hold", "warn", "warm-up-day", "undo"}[i%5]
			}
			b, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			puts = append(puts, clientv3.OpPut(c.keys.Decision(id(i)), string(b)))
		}
		if _, err := c.client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	p := c.lead("c1")
	c.eventually("it has begun", func() bool { return p.Metrics().Steering.Rounds > 0 })
	for range 3 { // one too many of the passing ones
		if _, err := p.SetLane(t.Context(), state.SetLane{Carrier: "docomo", Source: "s1", State: policy.StateRetired, Author: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.client.Put(t.Context(), c.keys.Decision(id(999_998)), `{"id":"`+id(999_998)+`","action":"slow"}`); err != nil {
		t.Fatal(err)
	}
	c.eventually("the oldest that is passing is deleted", func() bool { return c.mod(c.keys.Decision(id(more))) == 0 })
	for i := range more {
		if c.mod(c.keys.Decision(id(i))) == 0 {
			t.Fatalf("decision %d of those that last is gone", i)
		}
	}
}

// A carrier of which much is decided does not outgrow what etcd takes, and what is
// graver stays.
func TestLargeRecordsFitIntoEtcd(t *testing.T) {
	for name, site := range map[string]string{"of one provider": "", "of sites": "mx.example.com", "of sites with names as long as they get": strings.Repeat("x", 250)} {
		var r keyspace.Steering
		for i := range keyspace.MaxSteered {
			l := keyspace.SteeredLane{Source: fmt.Sprintf("source-%04d", i), Course: policy.Course{
				State: policy.StateSlowed, Rate: &policy.Rate{N: 1234, Per: time.Minute}, Decision: fmt.Sprintf("20261122T000000.000-%05d", i), Reason: "too-fast: " + strings.Repeat("y", 290),
			}}
			if site != "" {
				l.Site = fmt.Sprintf("%s-%d", site, i)
			}
			if i%100 == 99 {
				l.State, l.Rests = policy.StateBlocked, policy.At(time.Now().Add(time.Hour))
			}
			r.Lanes = append(r.Lanes, l)
		}
		b, cut := controlplane.EncodeSteering(r)
		var back keyspace.Steering
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		grave := 0
		for _, l := range back.Lanes {
			if l.State == policy.StateBlocked {
				grave++
			}
			if l.Decision == "" || l.Reason != "too-fast" {
				t.Fatalf("%s: %+v", name, l)
			}
		}
		if len(b) > 1<<20 || len(back.Lanes)+cut != keyspace.MaxSteered || len(site) < 100 && cut > 0 || grave != keyspace.MaxSteered/100 {
			t.Errorf("%s: %d bytes, %d lanes of which %d are blocked, %d cut", name, len(b), len(back.Lanes), grave, cut)
		}
		if r.Lanes[0].Reason == "too-fast" {
			t.Error("what is in force has lost its reasons")
		}
	}
}

func TestHowLongAChangeMayWait(t *testing.T) {
	rate := func(n int64) *policy.Rate { return &policy.Rate{N: n, Per: time.Minute} }
	of := func(c policy.Course) keyspace.Steering {
		return keyspace.Steering{Lanes: []keyspace.SteeredLane{{Source: "s0", Course: policy.Course{State: policy.StateSlowed, Rate: rate(60)}}, {Source: "s1", Course: c}}}
	}
	soon := policy.At(time.Now().Add(time.Hour))
	slowed := of(policy.Course{State: policy.StateSlowed, Rate: rate(60), Connections: 4})
	held := slowed
	held.Holds = []keyspace.SteeredHold{{Tenant: "acme"}}
	for name, tt := range map[string]struct {
		have, want keyspace.Steering
		bytes      int
		wait       time.Duration
	}{
		"the first of all":            {keyspace.Steering{}, slowed, 80 << 10, 0},
		"a rate is raised":            {slowed, of(policy.Course{State: policy.StateSlowed, Rate: rate(61), Connections: 4}), 16 << 10, 2 * time.Second},
		"in a record that is small":   {slowed, of(policy.Course{State: policy.StateSlowed, Rate: rate(61), Connections: 4}), 512, time.Second / 16},
		"and in one that is large":    {slowed, of(policy.Course{State: policy.StateSlowed, Rate: rate(61), Connections: 4}), 1 << 20, 10 * time.Second},
		"a rate is lowered":           {slowed, of(policy.Course{State: policy.StateSlowed, Rate: rate(59), Connections: 4}), 16 << 10, time.Second / 2},
		"connections are":             {slowed, of(policy.Course{State: policy.StateSlowed, Rate: rate(61), Connections: 3}), 16 << 10, time.Second / 2},
		"nothing bounds it any more":  {slowed, keyspace.Steering{Lanes: slowed.Lanes[:1]}, 16 << 10, 2 * time.Second},
		"a block":                     {slowed, of(policy.Course{State: policy.StateBlocked, Rests: soon}), 1 << 20, 0},
		"a longer rest":               {of(policy.Course{State: policy.StateBlocked, Rests: policy.At(time.Now())}), of(policy.Course{State: policy.StateBlocked, Rests: soon}), 1 << 20, 0},
		"another day of a warm-up":    {slowed, of(policy.Course{State: policy.StateWarming, PerDay: 50}), 1 << 20, 0},
		"a hold":                      {slowed, held, 1 << 20, 0},
		"the trial after a rest":      {of(policy.Course{State: policy.StateBlocked, Rests: soon}), of(policy.Course{State: policy.StateTrial, Rate: rate(1), Connections: 1}), 8 << 10, time.Second / 4},
		"a source that was not bound": {keyspace.Steering{Lanes: slowed.Lanes[:1]}, slowed, 8 << 10, time.Second / 4},
	} {
		if got := controlplane.Patience(&tt.have, &tt.want, tt.bytes); got != tt.wait {
			t.Errorf("%s: %s, want %s", name, got, tt.wait)
		}
	}
}

// What was learnt about a carrier goes with the carrier.
func TestWhatWasLearntGoesWithItsCarrier(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	c.blocked(p, n, "au", "s1")
	p.stop()
	if c.mod(c.keys.Learnt("au")) == 0 {
		t.Fatal("nothing was learnt")
	}
	p = c.lead("c2")
	c.eventually("it has begun", func() bool { return p.Metrics().Steering.Rounds > 0 })
	if _, err := c.store.Apply(t.Context(), store.Batch{Author: "test", Changes: []store.Change{{Kind: policy.KindCarrier, Name: "au"}}}); err != nil {
		t.Fatal(err)
	}
	c.eventually("its record is gone", func() bool { return c.mod(c.keys.Steering("au")) == 0 })
	p.stop()
	if c.mod(c.keys.Learnt("au")) != 0 {
		t.Error("what was learnt about it stays for ever")
	}
}

// lateWatch tells of changes later than they are made, while it is held.
type lateWatch struct {
	clientv3.Watcher
	held chan struct{} // closed: no longer
}

func (w *lateWatch) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	in, out := w.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for r := range in {
			for _, e := range r.Events {
				if !strings.Contains(string(e.Kv.Key), "/steering/") {
					continue
				}
				select {
				case <-w.held:
				case <-ctx.Done():
					return
				}
			}
			select {
			case out <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// leadLate starts a leader that is told of what it has written when the channel is
// closed, and not before.
func (c *cluster) leadLate(id string) (*process, chan struct{}) {
	w := &lateWatch{held: make(chan struct{})}
	p := c.lead(id, func(o *controlplane.Options) {
		w.Watcher = o.Client.Watcher
		o.Client.Watcher = w
	})
	return p, w.held
}

// A term that ends by an order leaves everything to the next one: what it has
// written itself and not yet been told of, and what it has heard and not yet
// looked at.
func TestNothingIsLostWithAnOrderlyEnd(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p, _ := c.leadLate("c1")
	n := c.join("n1").joined(p)
	c.blocked(p, n, "au", "s1")
	// The round that wrote this still waits to be told of it, and what is heard of
	// now waits for the next.
	n.says(blocks("docomo", "s2"))
	n.exchange(p)
	p.stop()
	for carrier, source := range map[string]string{"au": "s1", "docomo": "s2"} {
		if l := c.courseOf(carrier, source); l == nil || l.State != policy.StateBlocked {
			t.Errorf("%s at %s: %+v", source, carrier, l)
		} else if c.mod(c.keys.Decision(l.Decision)) == 0 {
			t.Errorf("%s at %s: nobody can tell why", source, carrier)
		}
		if got, err := c.client.Get(t.Context(), c.keys.Learnt(carrier)); err != nil || len(got.Kvs) != 1 || !strings.Contains(string(got.Kvs[0].Value), fmt.Sprintf("%q", source)) {
			t.Errorf("what was learnt about %s: %+v, %v", carrier, got, err)
		}
	}
}

// An order that meets a record of which the watch has not told yet waits for it,
// and is carried out: what the operator orders must not hang on who is faster.
func TestAnOrderWaitsForTheWatch(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p, held := c.leadLate("c1")
	n := c.join("n1").joined(p)
	l := c.blocked(p, n, "docomo", "s1") // and the leader has not been told
	answer := make(chan error, 1)
	go func() {
		_, err := p.Undo(t.Context(), state.Undo{ID: l.Decision, Author: "ann"})
		if l := c.courseOf("docomo", "s1"); l != nil && l.State != policy.StateHealthy {
			t.Errorf("when the order was answered the course was %+v", l)
		}
		answer <- err
	}()
	c.eventually("the order to be taken", func() bool { return p.Metrics().Steering.Controller.Undone > 0 })
	close(held)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// What a record says that is not what was decided does not stay: whether somebody
// has changed or removed it, or the answer to a write was lost.
func TestARecordThatSomebodyChanged(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	l := c.blocked(p, n, "docomo", "s1")
	for _, change := range []clientv3.Op{
		clientv3.OpDelete(c.keys.Steering("docomo")),
		clientv3.OpPut(c.keys.Steering("docomo"), `{}`),
		clientv3.OpPut(c.keys.Steering("au"), `{"lanes":[{"source":"s1","state":"blocked","rests":"2099-01-01T00:00:00Z"}]}`),
	} {
		if _, err := c.client.Do(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		c.eventually("it to be as it was decided", func() bool {
			got := c.courseOf("docomo", "s1")
			return got != nil && got.Decision == l.Decision && c.courseOf("au", "s1") == nil
		})
	}
}

// Whoever asks how the cluster is hears of what keeps mail back.
func TestAlarmsTellOfWhatKeepsMailBack(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	hold := fmt.Sprintf(`{"holds":[{"tenant":"acme","job":"j1","until":%q,"decision":"d9"},{"tenant":"old","until":"2020-01-01T00:00:00Z"}]}`, time.Now().Add(10*time.Hour).UTC().Format(time.RFC3339))
	if _, err := c.client.Put(t.Context(), c.keys.Steering(keyspace.TenantSteering), hold); err != nil {
		t.Fatal(err)
	}
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	alarm := func(text string) bool {
		l, err := p.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(l.Alarms, func(a string) bool { return strings.Contains(a, text) })
	}
	c.eventually("a hold", func() bool { return alarm("tenant acme, job j1 is held until") && alarm("by decision d9") })
	if m := p.Metrics(); m.Alarms != 1 {
		t.Errorf("%d alarms", m.Alarms)
	}
	c.blocked(p, n, "docomo", "s1")
	c.eventually("a block", func() bool { return alarm("carrier docomo blocks s1") })
	if alarm("all its sources") || alarm("tenant old") {
		t.Error("too much is told")
	}
	c.blocked(p, n, "docomo", "s2")
	c.eventually("the last source", func() bool {
		return alarm("carrier docomo blocks s1, s2") && alarm("pool default: all its sources rest at carrier docomo until")
	})
	for _, source := range []string{"s1", "s2"} {
		if _, err := p.SetLane(t.Context(), state.SetLane{Carrier: "docomo", Source: source, State: policy.StateRetired, Author: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("by hand", func() bool {
		return alarm("pool default: all its sources are retired at carrier docomo") && !alarm("blocks")
	})
	c.apply("kind: WarmUp\nname: w\nspec: {source: s1, carriers: [au], days: [50, 100]}\n")
	c.blocked(p, n, "au", "s1")
	c.eventually("a warm-up that does not get on", func() bool { return alarm("warm-up w stays at day 1 of 2 at carrier au: block") })
}

// A node that got no answer says the same again. It counts once, and what is new
// counts; under a new lease, or another leader, nobody knows better than to count.
func TestTalliesThatComeTwiceCountOnce(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	var tallied uint64
	n.fill = func(r *exchange.Report) {
		r.Tallies, r.Tallied = []exchange.Tally{{Carrier: "docomo", Source: "s1", Category: "blocked", N: 1}}, tallied
	}
	n.exchange(p)
	tallied = n.serial
	for range 3 {
		n.exchange(p)
	}
	c.eventually("it is counted", func() bool { return p.Metrics().Steering.Controller.Rows >= 1 })
	rounds := p.Metrics().Steering.Rounds
	c.eventually("and looked at", func() bool { return p.Metrics().Steering.Rounds > rounds+2 })
	if m := p.Metrics().Steering; m.Controller.Rows != 1 || m.TalliesAgain != 3 || m.Decisions["block"] != 0 {
		t.Errorf("one reply that refuses a source, told four times: %+v", m)
	}
	tallied = 0
	n.exchange(p)
	c.eventually("a second one is a block", func() bool { return p.Metrics().Steering.Decisions["block"] == 1 })
}
