package steer_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/policy"
)

// world is a plant whose hidden limit changes, by a seed.
type world struct {
	seed    uint64
	start   float64
	plant   plant
	changes []float64 // the limits of the phases
	phase   time.Duration
}

func newWorld(seed uint64) world {
	r := rand.New(rand.NewPCG(seed, 5))
	limit := []float64{0.5, 2, 10, 20, 50, 100, 400}[r.IntN(7)]
	w := world{seed: seed, phase: 2 * time.Hour}
	w.plant = plant{
		limit: limit, burst: max(1, limit*[]float64{0.1, 0.3, 1}[r.IntN(3)]), forgive: []float64{1, 5, 10}[r.IntN(3)],
		deferAt: []float64{0, 5, 30}[r.IntN(3)], blockAt: []float64{0, 40, 100}[r.IntN(3)], blockFor: 60, chance: []float64{0, 0, 0.001, 0.003}[r.IntN(4)],
	}
	w.start = limit / []float64{1, 2, 10}[r.IntN(3)]
	for range 6 {
		w.changes = append(w.changes, limit)
		limit *= []float64{0.5, 0.7, 1, 1, 1.5, 2}[r.IntN(6)]
	}
	return w
}

func TestWorlds(t *testing.T) {
	total, n := 0.0, 0
	for seed := range uint64(60) {
		w := newWorld(seed)
		set := mustSet(t, carrierOf("gmx", policy.Carrier{Steering: &policy.Steer{Start: rateText(w.start)}}),
			policy.Resource{Kind: policy.KindSource, Name: "s1", Spec: &policy.Source{Address: "192.0.2.1"}})
		p := w.plant
		l := newLoop(t, set, &p, 1000)
		got, could := 0.0, 0.0
		line := ""
		for _, limit := range w.changes {
			p.limit, l.demand = limit, 3*limit
			before := p.delivered
			l.run(w.phase)
			part := (p.delivered - before) / (limit * w.phase.Seconds())
			line += fmt.Sprintf(" %.4g:%.3f", limit, part)
			got, could = got+p.delivered-before, could+limit*w.phase.Seconds()
		}
		total += got / could
		n++
		t.Logf("seed %d burst %.3g forgive %.0f defer %.0f block %.0f chance %.3f start %.3g: %.3f, %d blocks, %d decisions;%s", seed, p.burst, p.forgive, p.deferAt, p.blockAt, p.chance, w.start, got/could, p.blocks, len(l.list), line)
		if testing.Verbose() && got/could < 0.9 {
			for i, d := range l.list {
				if i < 15 {
					t.Log("   ", d.At.Format("15:04:05"), d.Action, d.From, d.To, d.Rule, d.Why)
				}
			}
		}
	}
	t.Logf("mean %.3f", total/float64(n))
}

func rateText(v float64) *policy.Rate {
	r, err := policy.ParseRate(fmt.Sprintf("%d/h", int(v*3600)))
	if err != nil {
		panic(err)
	}
	return &r
}
