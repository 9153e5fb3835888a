package steer_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation/steer"
)

// crowd is a policy of so many carriers and sources, and a report that has rows
// about all of them.
func crowd(t testing.TB, carriers, sources, rows int) (*policy.Set, []exchange.Tally) {
	var rs []policy.Resource
	for i := range carriers {
		rs = append(rs, carrierOf(fmt.Sprintf("carrier-%d", i), policy.Carrier{PerSource: policy.Limits{Rate: &policy.Rate{N: 100, Per: time.Second}}}))
	}
	for i := range sources {
		rs = append(rs, policy.Resource{Kind: policy.KindSource, Name: fmt.Sprintf("source-%d", i), Spec: &policy.Source{Address: fmt.Sprintf("192.0.2.%d", i+1)}})
	}
	// A report that was decoded has each text once.
	names := func(form string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(form, i))
		}
		return list
	}
	ofCarriers, ofSources, tenants, jobs, domains := names("carrier-%d", carriers), names("source-%d", sources), names("tenant-%d", 20), names("job-%d", 40), names("sender-%d.example", 20)
	list := make([]exchange.Tally, rows)
	for i := range list {
		lane := i % (carriers * sources)
		list[i] = exchange.Tally{
			Carrier: ofCarriers[lane%carriers], Source: ofSources[lane/carriers], Tenant: tenants[i%20], Stream: "bulk", Job: jobs[i%40], Domain: domains[i%20],
			Category: "delivered", N: 7,
		}
		if i >= carriers*sources {
			list[i].Category, list[i].N = []string{"rate", "unknown-user", "mailbox-full"}[i%3], 1
		}
	}
	// A node counts in a map, so rows come in any order.
	rand.New(rand.NewPCG(1, 2)).Shuffle(rows, func(i, j int) { list[i], list[j] = list[j], list[i] })
	return mustSet(t, rs...), list
}

func BenchmarkObserve(b *testing.B) {
	set, list := crowd(b, 300, 50, exchange.MaxTallies)
	c := steer.New(set, epoch)
	now := epoch
	c.Observe(now, "node-1", list, nil)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		c.Observe(now, "node-1", list, nil)
		b.StopTimer()
		c.Decide(now)
		b.StartTimer()
	}
	b.ReportMetric(float64(len(list)), "rows")
}

func BenchmarkDecide(b *testing.B) {
	set, list := crowd(b, 300, 50, exchange.MaxTallies)
	c := steer.New(set, epoch)
	now := epoch
	c.Observe(now, "node-1", list, nil)
	c.Decide(now)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		now = now.Add(time.Second)
		c.Observe(now, "node-1", list, nil)
		b.StartTimer()
		c.Decide(now)
	}
}

// TestTheCostOfAReport holds Observe to no allocation once the rows are known.
func TestTheCostOfAReport(t *testing.T) {
	set, list := crowd(t, 20, 10, 400)
	c := steer.New(set, epoch)
	now := epoch
	c.Observe(now, "node-1", list, nil)
	c.Decide(now)
	if n := testing.AllocsPerRun(100, func() { c.Observe(now, "node-1", list, nil) }); n > 0 {
		t.Errorf("%v allocations a report", n)
	}
}
