package steer_test

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// oneOf is one of the values.
func oneOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// aWorld is a plant with a limit that changes, and what policy says, by a seed.
func aWorld(r *rand.Rand) (plant, policy.Steer) {
	limit := oneOf(r, 0.5, 2, 10, 20, 50, 100, 400)
	p := plant{
		limit: limit, burst: max(1, limit*oneOf(r, 0.1, 0.3, 1)), forgive: oneOf(r, 1.0, 5, 10), deferAt: oneOf(r, 0.0, 5, 30), blockAt: oneOf(r, 0.0, 40, 100),
		blockFor: oneOf(r, 60.0, 1800), chance: oneOf(r, 0, 0, 0.001, 0.003, 0.02),
	}
	x := policy.Steer{
		Start: perHour(limit / oneOf(r, 1.0, 2, 10)), Floor: perHour(limit / oneOf(r, 20.0, 100)), Ceiling: perHour(limit * oneOf(r, 0.7, 2, 5)),
		Decrease: oneOf(r, 30, 50, 80), Increase: oneOf(r, 2, 5, 20), Every: policy.Duration(oneOf(r, 10*time.Second, 30*time.Second)), Rest: policy.Duration(oneOf(r, time.Minute, 30*time.Minute)),
	}
	return p, x
}

// TestRandomWorlds: whatever the carrier does, in five hours under mail that
// comes and goes
//
//   - no rate in force is below the floor or above the ceiling
//   - a rest is never longer than policy.MaxRest, and nothing goes in it
//   - there are at most 40 decisions about the source in any hour, where a step
//     is of 30 s
//   - each decision says by which rule and why, and ids rise
//   - blocks stay few where a carrier warns before it blocks
func TestRandomWorlds(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 9))
		p, x := aWorld(r)
		set := mustSet(t, source("s1"), carrierOf("gmx", policy.Carrier{Steering: &x}))
		l := newLoop(t, set, &p, 3*p.limit)
		floor, ceiling := float64(x.Floor.N)/3600, float64(x.Ceiling.N)/3600
		l.trace = func(l *loop, c *policy.Course, sent int, _ [4]int) {
			if c == nil {
				return
			}
			if v := rateOf(c); v > 0 && (v < 0.99*floor-1.0/86400 || v > ceiling) {
				t.Fatalf("seed %d, %s: %v/s is in force, the bounds are %v and %v", seed, l.now, v, floor, ceiling)
			}
			if rest := c.Rests.Time().Sub(l.now); rest > policy.MaxRest+time.Second {
				t.Fatalf("seed %d: a rest of %s", seed, rest)
			}
			if c.Resting(l.now) && sent > 0 && c.Resting(l.now.Add(-2*time.Second)) {
				t.Fatalf("seed %d, %s: %d are sent while %s", seed, l.now, sent, c.State)
			}
		}
		for range 10 {
			l.run(30 * time.Minute)
			p.limit = max(0.1, p.limit*oneOf(r, 0.6, 1, 1, 1, 1.5))
			l.demand = p.limit * oneOf(r, 0, 0.3, 3, 3)
		}
		checkDecisions(t, seed, x.Every.D(), l.list)
	}
}

func checkDecisions(t *testing.T, seed uint64, every time.Duration, list []keyspace.Decision) {
	t.Helper()
	// The span of a step is what decides how often there is something to decide.
	most := int(40 * 30 * time.Second / every)
	for i, d := range list {
		if d.Rule == "" || d.Why == "" || d.Action == "" || d.Source != "s1" || d.Carrier != "gmx" {
			t.Errorf("seed %d: %+v", seed, d)
		}
		if i > 0 && d.ID <= list[i-1].ID {
			t.Errorf("seed %d: id %s after %s", seed, d.ID, list[i-1].ID)
		}
		if i >= most && d.At.Sub(list[i-most].At) < time.Hour {
			t.Fatalf("seed %d: %d decisions from %s to %s: %s", seed, most, list[i-most].At, d.At, actions(list[i-most:i]))
		}
	}
}

// TestTheSameAgain: the same reports give the same decisions, the same Steering
// and the same snapshots, byte for byte.
func TestTheSameAgain(t *testing.T) {
	set := mustSet(t, source("s1"), source("s2"), carrierOf("gmx", policy.Carrier{}), carrierOf("docomo", policy.Carrier{Steering: &policy.Steer{Start: perHour(5)}}),
		policy.Resource{Kind: policy.KindTenant, Name: "acme", Spec: &policy.Tenant{}},
		policy.Resource{Kind: policy.KindWarmUp, Name: "new", Spec: &policy.WarmUp{Source: "s2"}})
	type outcome struct {
		list  []keyspace.Decision
		state []keyspace.Steering
		bytes [][]byte
		score []steer.Score
	}
	run := func() (o outcome) {
		r := rand.New(rand.NewPCG(3, 4))
		d := newDrive(t, set)
		for range 3000 {
			var rows []exchange.Tally
			for range r.IntN(8) {
				y := row(oneOf(r, "gmx", "docomo", "elsewhere"), oneOf(r, "s1", "s2"), oneOf(r, "delivered", "delivered", "delivered", "rate", "unknown-user", "blocked", "temporary", "connections"), uint32(r.IntN(30)))
				y.Site, y.Job, y.Domain = oneOf(r, "a.example", "b.example"), oneOf(r, "", "j1"), oneOf(r, "x.example", "")
				rows = append(rows, y)
			}
			d.tick(rows...)
		}
		o.list = d.list
		for _, name := range []string{"gmx", "docomo", policy.DefaultName, keyspace.TenantSteering} {
			o.state = append(o.state, d.c.Steering(name))
			o.bytes = append(o.bytes, d.c.Snapshot(name))
		}
		o.score = d.c.Scores(d.now, steer.Filter{})
		return o
	}
	a, b := run(), run()
	if !reflect.DeepEqual(a.list, b.list) || len(a.list) < 10 {
		t.Errorf("%d and %d decisions, not the same", len(a.list), len(b.list))
	}
	if !reflect.DeepEqual(a.state, b.state) || !reflect.DeepEqual(a.score, b.score) {
		t.Error("what is in force, or scores, differ")
	}
	for i := range a.bytes {
		if !bytes.Equal(a.bytes[i], b.bytes[i]) {
			t.Errorf("snapshot %d differs", i)
		}
	}
}
