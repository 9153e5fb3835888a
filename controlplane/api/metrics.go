package api

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"hikyaku/controlplane"
	"hikyaku/controlplane/access"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// Metrics is a snapshot of a process's part of the control plane. A nil field
// is a part that the process has not, or not yet.
type Metrics struct {
	Control *controlplane.Metrics
	Store   *store.EtcdMetrics
	Admin   *access.Metrics
	// Process is set where no node tells of the process.
	Process *ProcessMetrics
}

// ProcessMetrics is what a node says of its process, for one without a node.
type ProcessMetrics struct {
	Name, Version string
	Started       time.Time
	Ready         bool
}

// Collector prints the snapshots that are made by look, at most one at a time.
func Collector(look func() Metrics) prometheus.Collector { return collector{look} }

// MetricsHandler is GET /metrics of a process without a node.
func MetricsHandler(log *slog.Logger, all ...prometheus.Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(all...)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		Timeout:             30 * time.Second,
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
}

// collector is unchecked (Describe sends nothing), because parts come later.
type collector struct{ look func() Metrics }

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	m, p := c.look(), printer{ch}
	if m.Process != nil {
		p.process(m.Process)
	}
	if m.Control != nil {
		p.control(m.Control)
	}
	if m.Store != nil {
		p.store(m.Store)
	}
	if m.Admin != nil {
		p.admin(m.Admin)
	}
}

// printer turns numbers into metrics.
type printer struct{ ch chan<- prometheus.Metric }

type number interface {
	~int | ~int64 | ~uint64 | ~float64
}

func (p printer) one(kind prometheus.ValueType, name, help string, v float64, labels []string, values ...string) {
	p.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("hikyaku_"+name, help, labels, nil), kind, v, values...)
}

func gauge[N number](p printer, name, help string, v N) {
	p.one(prometheus.GaugeValue, name, help, float64(v), nil)
}

func counter[N number](p printer, name, help string, v N) {
	p.one(prometheus.CounterValue, name, help, float64(v), nil)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// process has the names and words of node/api, so that one look finds all
// processes.
func (p printer) process(m *ProcessMetrics) {
	p.one(prometheus.GaugeValue, "build_info", "Version of the node, always 1.", 1, []string{"node", "version"}, m.Name, m.Version)
	gauge(p, "ready", "1 when the node serves.", truth(m.Ready))
	gauge(p, "start_time_seconds", "When the node started, Unix time.", float64(m.Started.UnixMilli())/1000)
}

func (p printer) control(m *controlplane.Metrics) {
	gauge(p, "controlplane_leader", "1 while this process leads; the sum over all processes is 1.", truth(m.Leader))
	gauge(p, "controlplane_term", "Term of the leader that this process knows; it rises with each leader.", m.Term)
	counter(p, "controlplane_elections_won_total", "Times this process became leader.", m.Elections)
	counter(p, "controlplane_exchanges_total", "Exchanges with nodes that were answered.", m.Exchanges)
	counter(p, "controlplane_exchanges_refused_total", "Exchanges that were refused: malformed, of a stranger, or to one who does not lead.", m.ExchangesRefused)
	counter(p, "controlplane_exchange_bytes_total", "Bytes of reports and answers.", m.ExchangeBytes)
	counter(p, "controlplane_decisions_total", "Looks at all members, sources and budgets.", m.Decisions)
	counter(p, "controlplane_decision_seconds_total", "Time in decisions.", m.DecisionTime.Seconds())
	gauge(p, "controlplane_last_decision_seconds", "Time of the last decision.", m.LastDecision.Seconds())
	counter(p, "controlplane_records_written_total", "Records written to etcd as leader.", m.Written)
	counter(p, "controlplane_transactions_total", "Transactions of the leader, those refused among them.", m.Transactions)
	counter(p, "controlplane_conflicts_total", "Transactions refused because something had changed meanwhile, or this process no longer led.", m.Conflicts)
	counter(p, "controlplane_etcd_errors_total", "Requests to etcd that failed.", m.EtcdErrors)
	p.steering(&m.Steering, m.Leader)
	if m.Leader {
		p.office(m)
	}
}

// steering is what was decided about sources and tenants.
func (p printer) steering(m *controlplane.SteeringMetrics, leads bool) {
	for _, action := range slices.Sorted(maps.Keys(m.Decisions)) {
		p.one(prometheus.CounterValue, "reputation_decisions_total", "Decisions about sources and tenants that this process has made as leader, by action.", float64(m.Decisions[action]), []string{"action"}, action)
	}
	counter(p, "reputation_rounds_total", "Looks of the controller at what nodes reported, as leader.", m.Rounds)
	counter(p, "reputation_round_seconds_total", "Time in those looks.", m.RoundTime.Seconds())
	gauge(p, "reputation_last_round_seconds", "Time of the last look.", m.LastRound.Seconds())
	counter(p, "reputation_tallies_lost_total", "Rows of reports dropped since too many waited.", m.TalliesLost)
	counter(p, "reputation_tallies_again_total", "Rows of reports that came twice, since a node had got no answer. They count once.", m.TalliesAgain)
	counter(p, "reputation_decisions_lost_total", "Decisions that are in the log only, since etcd took none for too long.", m.DecisionsLost)
	counter(p, "reputation_lanes_cut_total", "Sources at carriers about which was decided what found no room in their carrier's record.", m.LanesCut)
	counter(p, "reputation_learnt_lost_total", "Records of what was learnt that could not be read by a new leader.", m.LearntLost)
	if !leads {
		return
	}
	for _, state := range policy.States() {
		p.one(prometheus.GaugeValue, "reputation_lanes", "Sources at carriers by what is in force about them. Told by the leader only.", float64(m.Lanes[state]), []string{"state"}, state)
	}
	gauge(p, "reputation_holds", "Holds on tenants' mail. Told by the leader only.", m.Holds)
	gauge(p, "reputation_decisions_pending", "Decisions on their way to etcd. Told by the leader only.", m.Pending)
	gauge(p, "reputation_decisions_kept", "Decisions in etcd; the oldest are deleted. Told by the leader only.", m.Kept)
	gauge(p, "reputation_known_lanes", "Sources at carriers that are kept account of. Told by the leader only.", m.Controller.Lanes)
	gauge(p, "reputation_known_scopes", "Tenants, jobs and sender domains that are kept account of. Told by the leader only.", m.Controller.Scopes)
	gauge(p, "reputation_forgotten", "Sources, tenants and domains that gave way to others in this term, since there are too many. Told by the leader only.", m.Controller.LostLanes+m.Controller.LostScopes)
	gauge(p, "reputation_unsteered", "Sources at carriers that should be bounded and are not, since a carrier's record is full. Told by the leader only.", m.Controller.Unsteered)
}

// office is the cluster as its leader sees it. The others do not print it, for
// a 0 of theirs would say that there are no nodes.
func (p printer) office(m *controlplane.Metrics) {
	gauge(p, "controlplane_members", "Nodes that have joined and were not removed. Told by the leader only.", m.Members)
	gauge(p, "controlplane_members_live", "Members that are registered. Told by the leader only.", m.Live)
	gauge(p, "controlplane_budgets", "Budgets of which the leader keeps account. Told by the leader only.", m.Scopes)
	gauge(p, "controlplane_permits", "Permits of daily budgets given in this term. Told by the leader only.", m.Permits)
	gauge(p, "controlplane_sources_homeless", "Movable sources that no live node may hold. Told by the leader only.", m.Homeless)
	for _, state := range []string{keyspace.Held, keyspace.Releasing, keyspace.Quarantined, keyspace.Free} {
		p.one(prometheus.GaugeValue, "controlplane_sources", "Movable sources by state. Told by the leader only.", float64(m.Sources[state]), []string{"state"}, state)
	}
	gauge(p, "controlplane_unreadable_records", "Records in etcd that cannot be read and are left alone. Told by the leader only.", m.Unreadable)
	gauge(p, "controlplane_alarms", "What a person should look at, as the leader says in words. Told by the leader only.", m.Alarms)
}

func (p printer) store(m *store.EtcdMetrics) {
	gauge(p, "store_revision", "Newest policy revision that this process has read from etcd.", m.Revision)
	gauge(p, "store_degraded", "1 while policy cannot be followed or must not be changed; the log says why.", truth(m.Degraded))
	counter(p, "store_alarms_total", "Times the store became degraded.", m.Alarms)
	counter(p, "store_watch_restarts_total", "Times the watch for policy had to begin again.", m.WatchFailures)
}

func (p printer) admin(m *access.Metrics) {
	for _, r := range []struct {
		reason string
		n      uint64
	}{{"key", m.Refused}, {"limited", m.Limited}, {"role", m.Forbidden}} {
		p.one(prometheus.CounterValue, "admin_refused_total", "Requests to the admin API refused: no valid key, too many failures from the address, or a role that is not enough.",
			float64(r.n), []string{"reason"}, r.reason)
	}
	gauge(p, "admin_failing_addresses", "Addresses of which failed logins are remembered.", m.Addresses)
	counter(p, "admin_addresses_evicted_total", "Addresses forgotten since the table was full.", m.Evicted)
	counter(p, "admin_refusals_unaudited_total", "Refused logins that have no line of their own in the audit log.", m.Unaudited)
}
