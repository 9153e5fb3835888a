package controlplane

import (
	"sync/atomic"
	"time"

	"hikyaku/controlplane/keyspace"
)

// Metrics are what a control plane process counts. Counters begin with the
// process, gauges are of this moment; those of the cluster are 0 on a process
// that does not lead.
type Metrics struct {
	Leader    bool  // this process leads
	Term      int64 // of the leader that it knows
	Elections int64 // that it has won

	Exchanges, ExchangesRefused, ExchangeBytes int64

	Decisions    int64
	LastDecision time.Duration
	DecisionTime time.Duration // of all together

	Written      int64 // records
	Transactions int64
	Conflicts    int64 // transactions that were refused
	EtcdErrors   int64

	Members, Live int
	Scopes        int   // budgets that are kept account of
	Permits       int64 // of daily budgets, given in this term
	Homeless      int64 // movable sources that no live node may hold
	// Sources by the words of keyspace.Assignment.State.
	Sources map[string]int
	// Unreadable records in etcd, left alone.
	Unreadable int
}

type counters struct {
	elections, exchanges, refused, exchangeBytes atomic.Int64
	decisions, lastDecision, decisionTime        atomic.Int64
	written, txns, conflicts, etcdErrors         atomic.Int64
	homeless                                     atomic.Int64
}

func (m *counters) decided(took time.Duration) {
	m.decisions.Add(1)
	m.lastDecision.Store(int64(took))
	m.decisionTime.Add(int64(took))
}

// Metrics is a snapshot.
func (c *Control) Metrics() Metrics {
	m := &c.metrics
	out := Metrics{
		Term: c.seen().term, Elections: m.elections.Load(),
		Exchanges: m.exchanges.Load(), ExchangesRefused: m.refused.Load(), ExchangeBytes: m.exchangeBytes.Load(),
		Decisions: m.decisions.Load(), LastDecision: time.Duration(m.lastDecision.Load()), DecisionTime: time.Duration(m.decisionTime.Load()),
		Written: m.written.Load(), Transactions: m.txns.Load(), Conflicts: m.conflicts.Load(), EtcdErrors: m.etcdErrors.Load(),
	}
	o := c.lead()
	if o == nil {
		return out
	}
	out.Leader, out.Homeless = true, m.homeless.Load()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.tables == nil {
		return out
	}
	out.Permits = int64(o.mu.account.Metrics().Permits)
	t := o.mu.tables
	out.Members, out.Unreadable, out.Scopes = len(t.members), len(t.unreadable), o.mu.account.Scopes()
	for name := range t.members {
		if _, ok := t.live(name); ok {
			out.Live++
		}
	}
	out.Sources = map[string]int{keyspace.Held: 0, keyspace.Releasing: 0, keyspace.Quarantined: 0, keyspace.Free: 0}
	for _, a := range t.sources {
		out.Sources[a.value.State]++
	}
	return out
}
