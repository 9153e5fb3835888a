package controlplane

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/keyspace"
	"hikyaku/reputation/steer"
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
	// Alarms are what somebody should look at, as Leader says in words.
	Alarms int

	// What was decided about sources and tenants.
	Steering SteeringMetrics
}

// SteeringMetrics count since the process began; the gauges are 0 on a process
// that does not lead.
type SteeringMetrics struct {
	Decisions map[string]int64 // by action
	// Rounds are looks of the controller at what was reported.
	Rounds               int64
	LastRound, RoundTime time.Duration // of the last, and of all together
	// Lost found no room: rows of reports, decisions that were never written, and
	// snapshots that could not be read.
	TalliesLost, DecisionsLost, LearntLost int64
	// TalliesAgain are rows that came twice, since a node had got no answer; they
	// were counted once.
	TalliesAgain int64
	// LanesCut are courses that found no room in their carrier's record.
	LanesCut int64

	Lanes   map[string]int // courses in force, by state
	Holds   int
	Pending int // decisions on their way to etcd
	Kept    int // decisions in etcd
	// Controller is what it keeps, and has counted in this term.
	Controller steer.Metrics
}

type counters struct {
	elections, exchanges, refused, exchangeBytes atomic.Int64
	decisions, lastDecision, decisionTime        atomic.Int64
	written, txns, conflicts, etcdErrors         atomic.Int64
	homeless                                     atomic.Int64

	rounds, lastRound, roundTime           atomic.Int64
	talliesLost, decisionsLost, learntLost atomic.Int64
	talliesAgain, lanesCut                 atomic.Int64
	actions                                struct {
		sync.Mutex
		n map[string]int64
	}
}

func (m *counters) steered(took time.Duration) {
	m.rounds.Add(1)
	m.lastRound.Store(int64(took))
	m.roundTime.Add(int64(took))
}

func (m *counters) decidedOn(action string) {
	m.actions.Lock()
	defer m.actions.Unlock()
	if m.actions.n == nil {
		m.actions.n = map[string]int64{}
	}
	m.actions.n[action]++
}

// steering is what there is to say without leading.
func (m *counters) steering() SteeringMetrics {
	m.actions.Lock()
	defer m.actions.Unlock()
	return SteeringMetrics{
		Decisions: maps.Clone(m.actions.n), Rounds: m.rounds.Load(), LastRound: time.Duration(m.lastRound.Load()), RoundTime: time.Duration(m.roundTime.Load()),
		TalliesLost: m.talliesLost.Load(), DecisionsLost: m.decisionsLost.Load(), LearntLost: m.learntLost.Load(),
		TalliesAgain: m.talliesAgain.Load(), LanesCut: m.lanesCut.Load(),
	}
}

// metrics adds what only the leader knows.
func (s *steering) metrics(m *SteeringMetrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Pending = len(s.mu.pending)
	if s.mu.ctl != nil {
		m.Controller = s.mu.ctl.Metrics()
	}
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
		Steering: m.steering(),
	}
	o := c.lead()
	if o == nil {
		return out
	}
	out.Leader, out.Homeless = true, m.homeless.Load()
	o.steering.metrics(&out.Steering)
	stuck := o.steering.stuck()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.tables == nil {
		return out
	}
	out.Permits = int64(o.mu.account.Metrics().Permits)
	t := o.mu.tables
	if out.Alarms = len(o.mu.alarms[""]) + len(stuck); o.mu.policy != nil {
		out.Alarms += len(o.steeringAlarmsLocked())
	}
	if out.Homeless > 0 {
		out.Alarms++
	}
	out.Members, out.Unreadable, out.Scopes = len(t.members), len(t.unreadable), o.mu.account.Scopes()
	for name := range t.members {
		if _, ok := t.live(name); ok {
			out.Live++
		}
	}
	out.Steering.Lanes, out.Steering.Kept = t.lanesByState(), len(t.decisions)
	out.Steering.Holds = len(t.steering[keyspace.TenantSteering].value.Holds)
	out.Sources = map[string]int{keyspace.Held: 0, keyspace.Releasing: 0, keyspace.Quarantined: 0, keyspace.Free: 0}
	for _, a := range t.sources {
		out.Sources[a.value.State]++
	}
	return out
}
