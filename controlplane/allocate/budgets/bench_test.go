package budgets_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"hikyaku/controlplane/allocate/budgets"
	"hikyaku/controlplane/exchange"
)

// BenchmarkSecond is one second of a large cluster: 1,000 nodes report 300
// carriers each, a tenth of them with a daily limit. The time of an operation is
// the part of a core that the leader needs.
func BenchmarkSecond(b *testing.B) {
	const nodes, carriers = 1000, 300
	limits := map[exchange.Scope]budgets.Limit{}
	var ids []exchange.Scope
	for c := range carriers {
		id := exchange.Scope{Kind: exchange.Carrier, Carrier: fmt.Sprintf("carrier-%03d", c)}
		l := budgets.Limit{N: 5000, Per: time.Second, Burst: 4000, LinkN: 500, LinkPer: time.Second, LinkBurst: 3000, Connections: 5000}
		if c%10 == 0 {
			l.PerDay = 50_000_000
		}
		ids, limits[id] = append(ids, id), l
	}
	l := budgets.New(budgets.Config{Leader: "c", Term: 2, Elected: start})
	l.SetPolicy(start, budgets.Policy{Revision: 1, Daily: true, Limit: func(x exchange.Scope) budgets.Limit { return limits[x] }})
	var members []budgets.Member
	for n := range nodes {
		members = append(members, budgets.Member{Name: fmt.Sprintf("n%04d", n), Lease: int64(n) + 1, Rank: int64(n), Floor: exchange.FullShare / 10 / nodes})
	}
	l.SetMembers(start, members)
	rnd := rand.New(rand.NewPCG(1, 1))
	now, answers := start, make([]exchange.Answer, nodes)
	var rev, writes int64
	r := exchange.Report{Demands: make([]exchange.Demand, carriers)}
	for b.Loop() {
		for n := range nodes {
			now = now.Add(time.Second / nodes)
			r.Node, r.Lease, r.Floor = members[n].Name, members[n].Lease, members[n].Floor
			r.Serial, r.Term, r.Applied = answers[n].Serial+1, answers[n].Term, answers[n].Serial
			for c := range r.Demands {
				r.Demands[c] = exchange.Demand{Scope: ids[c], Backlog: rnd.Int64N(20), Used: rnd.Int64N(6)}
			}
			if err := l.Report(now, &r, &answers[n]); err != nil {
				b.Fatal(err)
			}
			if n%100 == 0 {
				for _, d := range l.Due(now).Days {
					rev++
					writes++
					if err := l.SetDay(now, d.Scope, rev, d.Day); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	}
	b.ReportMetric(float64(writes)/float64(b.N), "writes/op")
}
