package controlplane_test

import (
	"encoding/json"
	"errors"
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
)

// steeringPolicy has two movable sources in a pool and two carriers, of which one
// is disliked for an hour at once.
const steeringPolicy = `kind: Reputation
name: default
spec: {catalogue: none}
---
kind: Carrier
name: docomo
spec: {domains: [docomo.ne.jp], per_source: {rate: 100/s}, steering: {rest: 1h}}
---
kind: Carrier
name: au
spec: {domains: [au.com]}
---
kind: Source
name: s1
spec: {address: 192.0.2.1}
---
kind: Source
name: s2
spec: {address: 192.0.2.2}
---
kind: Pool
name: default
spec: {sources: [{name: s1}, {name: s2}]}
`

// says adds tallies to each report of a node from now on, with a sample of each.
func (n *node) says(ts ...exchange.Tally) {
	n.fill = func(r *exchange.Report) {
		r.Tallies = append(r.Tallies, ts...)
		for _, t := range ts {
			if t.Category != "delivered" {
				r.Samples = append(r.Samples, exchange.Sample{Carrier: t.Carrier, Source: t.Source, Category: t.Category, Code: 554, Text: "blocked for spam", N: t.N})
			}
		}
	}
}

// blocks is what a carrier says that blocks a source.
func blocks(carrier, source string) exchange.Tally {
	return exchange.Tally{Carrier: carrier, Source: source, Tenant: "acme", Category: "blocked", N: 20}
}

// steered is a carrier's record.
func (c *cluster) steered(carrier string) keyspace.Steering {
	s, _ := get[keyspace.Steering](c, c.keys.Steering(carrier))
	return s
}

// courseOf is what was decided about a source; nil is nothing.
func (c *cluster) courseOf(carrier, source string) *keyspace.SteeredLane {
	r := c.steered(carrier)
	for i := range r.Lanes {
		if r.Lanes[i].Source == source {
			return &r.Lanes[i]
		}
	}
	return nil
}

// blocked waits until a source is blocked at a carrier, while the node reports it.
func (c *cluster) blocked(p *process, n *node, carrier, source string) *keyspace.SteeredLane {
	c.t.Helper()
	n.says(blocks(carrier, source))
	var l *keyspace.SteeredLane
	c.eventually(source+" is blocked at "+carrier, func() bool {
		n.exchange(p)
		l = c.courseOf(carrier, source)
		return l != nil && l.State == policy.StateBlocked
	})
	n.fill = nil
	return l
}

func (c *cluster) decisions(p *process, f state.DecisionFilter) []state.Decision {
	c.t.Helper()
	page, err := p.Decisions(c.t.Context(), f)
	if err != nil {
		c.t.Fatal(err)
	}
	return page.Decisions
}

func TestBlockedSourceIsDecidedOn(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1")
	other := c.start("c2")
	n := c.join("n1").joined(p)
	l := c.blocked(p, n, "docomo", "s1")
	if !l.Rests.Time().After(time.Now().Add(50*time.Minute)) || l.Decision == "" || c.courseOf("au", "s1") != nil {
		t.Errorf("the course is %+v", l)
	}
	var d state.Decision
	c.eventually("the decision is there", func() bool {
		ds := c.decisions(other, state.DecisionFilter{Carrier: "docomo", Action: "block", Limit: 10})
		if len(ds) > 0 {
			d = ds[0]
		}
		return len(ds) > 0
	})
	if d.ID != l.Decision || d.Source != "s1" || d.Why == "" || d.Rule == "" || d.Until.IsZero() || d.Term == 0 || !strings.Contains(strings.Join(d.Replies, " "), "blocked for spam") {
		t.Errorf("the decision is %+v", d)
	}
	if ds := c.decisions(p, state.DecisionFilter{Source: "s2", Limit: 10}); len(ds) != 0 {
		t.Errorf("about another source: %+v", ds)
	}
	if ds := c.decisions(p, state.DecisionFilter{Since: time.Now().Add(time.Hour), Limit: 10}); len(ds) != 0 {
		t.Errorf("of the future: %+v", ds)
	}
	scores, err := other.Scores(t.Context(), state.ScoreFilter{Of: state.OfSources, Limit: 10})
	if err != nil || len(scores) == 0 || scores[0].Source != "s1" || scores[0].Score > 50 || len(scores[0].Reasons) == 0 {
		t.Errorf("scores: %+v, %v", scores, err)
	}
	lanes, err := other.Lanes(t.Context(), state.LaneFilter{State: policy.StateBlocked})
	if err != nil || len(lanes) != 1 || lanes[0].Source != "s1" {
		t.Errorf("lanes: %+v, %v", lanes, err)
	}
	var m controlplane.SteeringMetrics
	c.eventually("the leader to be told of what it wrote", func() bool {
		m = p.Metrics().Steering
		return m.Lanes[policy.StateBlocked] == 1 && m.Pending == 0
	})
	if m.Decisions["block"] != 1 || m.Lanes[policy.StateBlocked] != 1 || m.Rounds == 0 || m.Kept == 0 || m.Controller.Rows == 0 {
		t.Errorf("metrics: %+v", m)
	}
	// Asked of the one that does not lead, as all orders are.
	u := state.Undo{ID: d.ID, Author: "ann", Reason: "a mistake of theirs"}
	back, err := other.Undo(t.Context(), u)
	if err != nil || back.UndoneBy != "ann" || back.UndoneAt.IsZero() {
		t.Fatalf("%+v, %v", back, err)
	}
	if l := c.courseOf("docomo", "s1"); l != nil && l.State != policy.StateHealthy {
		t.Errorf("when the order was answered the course was %+v", l)
	}
	if _, err := other.Undo(t.Context(), u); !errors.Is(err, state.ErrRefused) {
		t.Errorf("undone again: %v", err)
	}
	if _, err := other.Undo(t.Context(), state.Undo{ID: "nothing", Author: "ann"}); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a decision that is not there: %v", err)
	}
	if got, err := p.Decision(t.Context(), d.ID); err != nil || got.UndoneBy != "ann" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLanesAreSetByHand(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1")
	c.eventually("it has begun", func() bool { return p.Metrics().Steering.Rounds > 0 })
	set := func(carrier, source, to string, until time.Time) (*state.Lane, error) {
		return p.SetLane(t.Context(), state.SetLane{Carrier: carrier, Source: source, State: to, Until: until, Author: "ann", Reason: "why not"})
	}
	for _, tt := range []struct {
		to    string
		until time.Time
		want  string
	}{
		{policy.StateRetired, time.Time{}, policy.StateRetired},
		{policy.StateHealthy, time.Time{}, policy.StateHealthy},
		{policy.StateHealthy, time.Time{}, policy.StateHealthy},
		{policy.StateResting, time.Now().Add(time.Hour), policy.StateResting},
		{policy.StateRetired, time.Time{}, policy.StateRetired},
		{policy.StateHealthy, time.Time{}, policy.StateHealthy},
	} {
		l, err := set("docomo", "s1", tt.to, tt.until)
		if err != nil || l.State != tt.want {
			t.Errorf("%s: %+v, %v", tt.to, l, err)
		}
		written := policy.StateHealthy
		if x := c.courseOf("docomo", "s1"); x != nil {
			written = x.State
		}
		if written != tt.want {
			t.Errorf("%s: etcd has %s", tt.to, written)
		}
	}
	for _, tt := range []struct {
		carrier, source, to string
		until               time.Time
		want                error
	}{
		{"nobody", "s1", policy.StateRetired, time.Time{}, state.ErrNotFound},
		{"docomo", "nobody", policy.StateRetired, time.Time{}, state.ErrNotFound},
		{"docomo", "s1", policy.StateResting, time.Now().Add(-time.Hour), state.ErrRefused},
	} {
		if _, err := set(tt.carrier, tt.source, tt.to, tt.until); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	c.apply("kind: Reputation\nname: default\nspec: {mode: dry-run}\n")
	c.eventually("it is refused in a dry run", func() bool {
		_, err := set("docomo", "s1", policy.StateRetired, time.Time{})
		return errors.Is(err, state.ErrRefused)
	})
}

// The next leader goes on with what is in force, and one that is cut off writes
// nothing more.
func TestDecisionsOutliveTheLeader(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	a := c.lead("c1")
	b := c.start("c2")
	n := c.join("n1").joined(a)
	c.blocked(a, n, "docomo", "s1")
	a.wire.hold(true)
	n.says(blocks("au", "s2"))
	n.exchange(a) // it hears of it and cannot write any more
	n.fill = nil
	c.eventually("the other one leads", func() bool { return b.Leading() })
	n.joined(b)
	c.eventually("it has begun", func() bool { return b.Metrics().Steering.Rounds > 2 })
	if l := c.courseOf("docomo", "s1"); l == nil || l.State != policy.StateBlocked {
		t.Errorf("under the next leader: %+v", l)
	}
	a.wire.hold(false)
	c.eventually("the old one knows who leads", func() bool { l, err := a.Leader(t.Context()); return err == nil && l.Name == "c2" })
	if l := c.courseOf("au", "s2"); l != nil {
		t.Errorf("one that no longer leads wrote %+v", l)
	}
	// Orderly this time: what was learnt is written at the end.
	c.blocked(b, n, "au", "s2")
	b.stop()
	c.eventually("the first leads again", func() bool { return a.Leading() })
	if got, err := c.client.Get(t.Context(), c.keys.Learnt("au")); err != nil || len(got.Kvs) != 1 || !strings.Contains(string(got.Kvs[0].Value), `"s2"`) {
		t.Errorf("what was learnt: %+v, %v", got, err)
	}
	c.eventually("it has begun", func() bool { return a.Metrics().Steering.Lanes[policy.StateBlocked] == 2 })
}

// What cannot be read is left alone and told of; what was learnt and cannot be
// read is learnt anew.
func TestUnreadableDecisionsAreLeftAlone(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	bad := `{"lanes":[{"source":7}]}`
	for key, value := range map[string]string{c.keys.Steering("docomo"): bad, c.keys.Learnt("docomo"): "{", c.keys.Decision("0"): "{"} {
		if _, err := c.client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	c.blocked(p, n, "au", "s1")
	n.says(blocks("docomo", "s1"))
	c.eventually("a block at docomo too", func() bool { n.exchange(p); return p.Metrics().Steering.Decisions["block"] >= 2 })
	c.eventually("an alarm", func() bool {
		l, err := p.Leader(t.Context())
		return err == nil && slices.ContainsFunc(l.Alarms, func(a string) bool { return strings.Contains(a, c.keys.Steering("docomo")) })
	})
	if got, err := c.client.Get(t.Context(), c.keys.Steering("docomo")); err != nil || string(got.Kvs[0].Value) != bad {
		t.Errorf("it became %+v, %v", got, err)
	}
	if m := p.Metrics().Steering; m.LearntLost != 1 {
		t.Errorf("%+v", m)
	}
	page, err := p.Decisions(t.Context(), state.DecisionFilter{Limit: 100})
	if err != nil || page.Unreadable != 1 || len(page.Decisions) == 0 {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestDecisionsAreBoundedAndPaged(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	const more = 120
	id := func(i int) string { return fmt.Sprintf("20200101T%06d.000-00001", i) }
	for from := 0; from < keyspace.MaxDecisions+more; from += 100 {
		var puts []clientv3.Op
		for i := from; i < min(from+100, keyspace.MaxDecisions+more); i++ {
			b, err := json.Marshal(keyspace.Decision{ID: id(i), At: time.Unix(int64(i), 0), Carrier: []string{"au", "docomo"}[i%2], Action: "slow"})
			if err != nil {
				t.Fatal(err)
			}
			puts = append(puts, clientv3.OpPut(c.keys.Decision(id(i)), string(b)))
		}
		if _, err := c.client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	p := c.start("c1")
	var got []string
	for page := ""; ; {
		ds, err := p.Decisions(t.Context(), state.DecisionFilter{Carrier: "au", Limit: 300, Page: page})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds.Decisions {
			got = append(got, d.ID)
		}
		if page = ds.Next; page == "" {
			break
		}
	}
	if n := (keyspace.MaxDecisions + more) / 2; len(got) > n || len(got) < n-more || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("%d of %d, newest first", len(got), n)
	}
	c.eventually("the oldest are deleted", func() bool {
		r, err := c.client.Get(t.Context(), c.keys.Decision(""), clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && r.Count == keyspace.MaxDecisions
	})
	if _, err := p.Decision(t.Context(), id(0)); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := p.Decision(t.Context(), id(more)); err != nil {
		t.Errorf("a newer one: %v", err)
	}
}

// A node whose sources all rest at a carrier is told who has one that does not,
// for that carrier alone.
func TestHomesForMailOfRestingSources(t *testing.T) {
	c := newCluster(t, steeringPolicy)
	p := c.lead("c1", func(o *controlplane.Options) { o.Timing.MinHold = time.Millisecond })
	a, b := c.join("n1").joined(p), c.join("n2").joined(p)
	c.eventually("a source on each", func() bool {
		a.exchange(p)
		b.exchange(p)
		h := c.holders(p)
		return h["n1"] == 1 && h["n2"] == 1
	})
	source := "s1"
	if c.assignment("s2").Node == "n1" {
		source = "s2"
	}
	find := func(n *node) *exchange.Home {
		for i := range n.answer.Homes {
			if h := &n.answer.Homes[i]; h.Carrier == "docomo" && h.Pool == policy.DefaultName {
				return h
			}
		}
		return nil
	}
	c.blocked(p, a, "docomo", source)
	c.eventually("n1 is told", func() bool { a.exchange(p); return find(a) != nil })
	if h := find(a); !slices.Equal(h.Nodes, []string{"n2"}) {
		t.Errorf("the mail may go to %v", h.Nodes)
	}
	if slices.ContainsFunc(a.answer.Homes, func(h exchange.Home) bool { return h.Carrier == "au" }) {
		t.Errorf("other carriers' mail may go too: %+v", a.answer.Homes)
	}
	// Nobody has another one.
	c.blocked(p, b, "docomo", map[string]string{"s1": "s2", "s2": "s1"}[source])
	c.eventually("it is taken back", func() bool { a.exchange(p); return find(a) == nil })
}
