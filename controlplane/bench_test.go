package controlplane_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
)

// BenchmarkExchange is the leader's part of one exchange with a node at full
// work: 300 carriers, each with a limit and one on a pool, 50 sources at each.
// A node makes one a second, so 10 ms would be a hundredth of a core.
func BenchmarkExchange(b *testing.B) {
	const carriers, held = 300, 50
	var policy strings.Builder
	for i := range carriers {
		fmt.Fprintf(&policy, "---\nkind: Carrier\nname: c%d\nspec: {domains: [d%d.example], limits: {rate: \"1000/s,burst=100\", connections: 100}, per_pool: {bulk: {rate: \"500/s,burst=50\"}}}\n", i, i)
	}
	members := []string{}
	for i := range held {
		fmt.Fprintf(&policy, "---\nkind: Source\nname: s%d\nspec: {address: 10.0.0.%d}\n", i, i+1)
		members = append(members, fmt.Sprintf("{name: s%d}", i))
	}
	fmt.Fprintf(&policy, "---\nkind: Pool\nname: bulk\nspec: {sources: [%s]}\n", strings.Join(members, ", "))
	c := newCluster(b, policy.String())
	p := c.lead("c1")
	n := c.join("n1").joined(p)
	c.join("n2").joined(p)
	n.fill = func(r *exchange.Report) {
		for i := range carriers {
			carrier := fmt.Sprintf("c%d", i)
			for _, s := range []exchange.Scope{{Kind: exchange.Carrier, Carrier: carrier}, {Kind: exchange.CarrierPool, Carrier: carrier, Pool: "bulk"}} {
				r.Demands = append(r.Demands, exchange.Demand{Scope: s, Backlog: int64(1000 + r.Serial%7), Used: 33, Open: 10})
			}
			for s := range held {
				r.Signals = append(r.Signals, exchange.Signal{Carrier: carrier, Source: fmt.Sprintf("s%d", s), Tenant: "acme", Delivered: uint32(s), Connected: 1})
			}
		}
	}
	handler := p.Handler()
	b.ReportAllocs()
	size, answered := 0, 0
	c.eventually("it has its grants", func() bool { return n.exchange(p) == http.StatusOK && len(n.answer.Grants) == 2*carriers })
	r := n.report()
	for b.Loop() {
		b.StopTimer()
		r.Serial++
		r.Term, r.Applied = n.answer.Term, n.answer.Serial
		body, err := exchange.AppendReport(nil, r)
		if err != nil {
			b.Fatal(err)
		}
		req := httptest.NewRequest(http.MethodPost, exchange.Path, bytes.NewReader(body))
		w := httptest.NewRecorder()
		b.StartTimer()
		handler.ServeHTTP(w, req)
		b.StopTimer()
		if w.Code != http.StatusOK {
			b.Fatalf("status %d: %s", w.Code, w.Body)
		}
		size, answered = len(body), w.Body.Len()
		if err := exchange.DecodeAnswer(w.Body.Bytes(), &n.answer); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(size), "report-bytes")
	b.ReportMetric(float64(answered), "answer-bytes")
}

// BenchmarkDecision is a look at everything with nothing to change.
func BenchmarkDecision(b *testing.B) {
	const sources = 2000
	var policy strings.Builder
	for i := range sources {
		fmt.Fprintf(&policy, "---\nkind: Source\nname: s%d\nspec: {address: 10.0.%d.%d}\n", i, i/250, i%250+1)
	}
	c := newCluster(b, policy.String())
	for i := range 20 {
		c.join(fmt.Sprintf("n%02d", i))
	}
	p := c.lead("c1")
	c.eventually("all are held", func() bool { return p.Metrics().Sources[keyspace.Held] == sources })
	b.ReportMetric(float64(p.Metrics().Transactions), "transactions")
	for b.Loop() {
		before := p.Metrics().Decisions
		c.eventually("a decision", func() bool { return p.Metrics().Decisions > before })
	}
	m := p.Metrics()
	b.ReportMetric(float64(m.LastDecision.Microseconds()), "µs/decision")
}
