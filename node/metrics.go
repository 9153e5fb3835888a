package node

import (
	"context"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"hikyaku/node/api"
	"hikyaku/node/ingest"
	"hikyaku/node/mx"
	"hikyaku/scheduler"
	"hikyaku/spool"
	"hikyaku/spool/message"
)

// Metrics is api.Node: every part's counters, in one snapshot.
func (n *Node) Metrics() *api.Metrics {
	m := &api.Metrics{Node: n.name, Version: n.cfg.Version, Started: n.started, Ready: len(n.NotReady()) == 0, Policy: n.policy.Load().Revision}
	m.SilentNS = int64(n.survey().silent(n.now()))
	n.ingestMetrics(&m.Ingest)
	n.spoolMetrics(&m.Spool)
	n.schedulerMetrics(&m.Scheduler)
	n.deliveryMetrics(&m.Delivery)
	n.signingMetrics(&m.Signing)
	n.dnsMetrics(&m.DNS)
	n.eventMetrics(&m.Events)
	n.transferMetrics(&m.Transfer)
	n.news.feedbackMetrics(&m.Feedback)
	return m
}

func (n *Node) ingestMetrics(m *api.IngestMetrics) {
	m.Connections, m.ConnectionsTotal, m.ConnectionsRefused = map[string]int64{}, map[string]uint64{}, map[string]uint64{}
	m.Refused, m.Bytes = map[string]uint64{}, map[string]uint64{}
	m.Messages, m.Recipients = map[string]uint64{}, map[string]uint64{}
	for _, b := range ingest.AcceptBounds {
		m.Accept.Bounds = append(m.Accept.Bounds, b.Seconds())
	}
	m.Accept.Counts = make([]uint64, len(ingest.AcceptBounds)+1)
	add := func(counts []uint64, sum time.Duration) {
		for i, c := range counts {
			m.Accept.Counts[i] += c
		}
		m.Accept.Sum += sum.Seconds()
	}
	for _, s := range n.smtp.Metrics() {
		m.Connections[s.Listen], m.ConnectionsTotal[s.Listen] = s.Open, s.Connections
		m.ConnectionsRefused["smtp"] += s.Refused
		m.AuthFailed += s.AuthFailed
		m.TLSFailed += s.TLSFailed
		m.Bytes["smtp"] += s.Bytes
		for k, v := range s.Errors {
			m.Refused[k] += v
		}
		add(s.AcceptBuckets[:], s.AcceptSum)
	}
	if n.http != nil {
		h := n.http.Metrics()
		m.Connections[h.Listen], m.ConnectionsTotal[h.Listen] = h.Open, h.Connections
		m.ConnectionsRefused["http"] += h.Refused
		m.Bytes["http"] += h.Bytes
		for k, v := range h.Errors {
			m.Refused[k] += v
		}
		add(h.AcceptBuckets[:], h.AcceptSum)
	}
	b := &n.count.byName
	b.Lock()
	defer b.Unlock()
	for name, t := range b.tenants {
		m.Messages[name], m.Recipients[name] = t.messages, t.recipients
	}
}

func (n *Node) spoolMetrics(m *api.SpoolMetrics) {
	st, sm := n.spool.Stats(), n.spool.Metrics()
	*m = api.SpoolMetrics{Queued: st.Deliveries, Counted: st.Counted, Commits: n.count.transitions.Load(), Batches: sm.Commits, Quarantined: uint64(max(0, sm.Quarantined)),
		OutboxRecords: st.Outbox, FreeBytes: sm.FreeBytes, DiskBytes: sm.DiskBytes, ReadAmp: int64(sm.ReadAmp), MemTableBytes: sm.MemTableBytes,
		WALBytes: sm.WALBytes, CompactionDebt: sm.CompactionDebt, WriteStalls: sm.WriteStalls, CacheHits: uint64(sm.CacheHits), CacheMisses: uint64(sm.CacheMisses)}
	m.Appends = n.count.acceptedMessages.Load()
	m.Gates = map[string]bool{"space": sm.LowSpace, "failed": sm.Failed, "drain": n.draining.Load()}
	m.Sync = api.Histogram{Counts: sm.Sync.Buckets[:], Sum: sm.Sync.Sum.Seconds()}
	for _, b := range spool.LatencyBounds {
		m.Sync.Bounds = append(m.Sync.Bounds, b.Seconds())
	}
	look := n.survey()
	m.QueuedCarrier, m.QueuedTenant, m.Destinations = look.carriers, look.tenants, look.destinations
}

func (n *Node) schedulerMetrics(m *api.SchedulerMetrics) {
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		c := s.Counts()
		*m = api.SchedulerMetrics{Queues: int64(c.Queues), InMemory: int64(c.Loaded), InFlight: int64(c.InFlight), Sites: int64(c.Sites), Lanes: int64(c.Lanes), Pages: c.Paged, StrandedQueues: int64(c.Stranded)}
		m.InMemoryMax = int64(s.MaxLoaded())
		m.Dispatched = map[string]uint64{}
		for p := range n.count.dispatched {
			m.Dispatched[message.Priority(p).String()] = n.count.dispatched[p].Load()
		}
	})
	look := n.survey()
	m.Waiting, m.Held, m.Ready, m.Stranded = look.states, look.held, look.ready, look.stranded
	m.HandoffFull = n.count.noRoom.Load()
}

func (n *Node) deliveryMetrics(m *api.DeliveryMetrics) {
	d := n.client.Metrics()
	m.Expired, m.Cancelled, m.Bytes = n.count.expired.Load(), n.count.cancelled.Load(), d.BytesOut
	m.TLS = map[string]uint64{"tls": d.TLS, "fallback": d.TLSFallback, "none": d.Opened - min(d.TLS, d.Opened)}
	m.ConnectFault = map[string]uint64{}
	for f, c := range d.ConnectFailed {
		if c > 0 {
			m.ConnectFault[message.Fault(f).String()] = c
		}
	}
	m.Connections = map[string]int64{}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		for _, l := range s.Lanes(now) {
			m.Connections[l.Carrier] += int64(l.Open)
			m.Idle += int64(l.Idle)
		}
	})
	m.Attempts, m.Delivered, m.Deferred, m.Bounced = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	m.Opened = map[string]uint64{}
	m.Replies, m.Stages = map[api.ReplyKey]uint64{}, map[string]api.Histogram{}
	m.Verdicts = map[api.VerdictKey]uint64{}
	b := &n.count.byName
	b.Lock()
	defer b.Unlock()
	for name, c := range b.carriers {
		m.Opened[name], m.Attempts[name], m.Delivered[name], m.Deferred[name], m.Bounced[name] = c.opened, c.attempts, c.delivered, c.deferred, c.bounced
		for category, n := range c.meant {
			m.Verdicts[api.VerdictKey{Carrier: name, Category: string(category)}] = n
		}
	}
	for k, v := range b.replies {
		m.Replies[api.ReplyKey{Phase: k.phase, Class: k.class}] = v
	}
	for i := range b.stages {
		h := api.Histogram{Sum: b.stages[i].sum.Seconds(), Counts: append([]uint64(nil), b.stages[i].counts[:]...)}
		for _, bound := range bounds {
			h.Bounds = append(h.Bounds, bound.Seconds())
		}
		m.Stages[stageNames[i]] = h
	}
}

func (n *Node) signingMetrics(m *api.SigningMetrics) {
	s := n.signers.Load().Metrics()
	m.Signed, m.Failed, m.Unsigned, m.Fallbacks = s.Signed, s.Failed, s.Unsigned, s.Fallbacks
	m.Keys, m.Seconds, m.RSA = s.Keys, s.Time.Seconds(), s.RSA.Signer
}

func (n *Node) dnsMetrics(m *api.DNSMetrics) {
	d := n.resolver.Metrics()
	m.Hits, m.Misses, m.Entries = d.CacheHits, d.CacheMisses, int64(d.Entries)
	if m.Capacity = int64(n.cfg.Resolver.CacheEntries); m.Capacity == 0 {
		m.Capacity = mx.DefaultCacheEntries
	}
	m.Queries = map[string]uint64{"sent": d.Queries, "timeout": d.Timeouts, "servfail": d.ServFail, "refused": d.Refused,
		"malformed": d.Malformed, "foreign": d.Foreign, "truncated": d.Truncated, "other": d.OtherFaults}
	for _, b := range mx.LatencyBounds {
		m.Time.Bounds = append(m.Time.Bounds, b.Seconds())
	}
	m.Time.Counts, m.Time.Sum = d.Latency[:], d.LatencySum.Seconds()
}

func (n *Node) eventMetrics(m *api.EventMetrics) {
	e := n.events.Metrics()
	*m = api.EventMetrics{Records: e.Records, ContentBytes: e.ContentBytes, FileBytes: e.FileBytes, DiskBytes: e.DiskBytes, Segments: e.Segments,
		Syncs: e.Syncs, SyncTime: e.SyncTime, Lags: e.Lags, Refilled: e.Refilled, Errors: e.Errors, TornTails: e.TornTails,
		DamagedBytes: e.DamagedBytes, Buffered: e.BufferedBytes, Behind: uint64(max(0, n.spool.Stats().Outbox))}
	m.Consumers, m.ConsumerLost = map[string]uint64{}, map[string]uint64{}
}

const topQueues = 20

// Overview is api.Node.
func (n *Node) Overview(ctx context.Context) (*api.Overview, error) {
	o := &api.Overview{Node: n.name, Version: n.cfg.Version, Time: n.now(), Started: n.started, NotReady: n.NotReady()}
	o.Rates.Accepted, o.Rates.Delivered, o.Rates.Deferred, o.Rates.Bounced, o.Rates.Attempts = n.rates.perSecond()
	st, sm := n.spool.Stats(), n.spool.Metrics()
	o.Queue = api.QueueTotals{Queued: st.Deliveries, Counted: st.Counted, Silent: n.survey().silent(n.now())}
	o.EventsBack = uint64(max(0, st.Outbox))
	var sch api.SchedulerMetrics
	n.schedulerMetrics(&sch)
	o.Queue.Ready, o.Queue.InFlight, o.Queue.Held = sch.Ready, sch.InFlight, sch.Held
	for _, s := range n.smtp.Metrics() {
		o.Connections.In += s.Open
	}
	if n.http != nil {
		o.Connections.In += n.http.Metrics().Open
	}
	list, err := n.Queues(ctx, api.QueueFilter{Sort: "size", Limit: topQueues})
	if err != nil {
		return nil, err
	}
	o.Top = list.Queues
	o.Queue.Destinations = n.survey().destinations
	lanes, err := n.Lanes(ctx, api.ListFilter{Limit: 10_000})
	if err != nil {
		return nil, err
	}
	for i := range lanes {
		o.Connections.Out += int64(lanes[i].Connections)
		o.Connections.OutIdle += int64(lanes[i].Idle)
	}
	o.Lanes = lanes[:min(len(lanes), topQueues)]
	o.Gates = []api.Gate{{Name: "space", Closed: sm.LowSpace}, {Name: "spool", Closed: sm.Failed}, {Name: "drain", Closed: n.draining.Load()}}
	o.Latency = n.latencies()
	o.Latency = append(o.Latency, api.Latency{Name: "sync", P50: sm.Sync.P50, P90: sm.Sync.P90, P99: sm.Sync.P99, Max: sm.Sync.Max})
	o.Errors = n.topErrors()
	o.Memory = memoryUse()
	return o, nil
}

func (n *Node) latencies() []api.Latency {
	b := &n.count.byName
	b.Lock()
	defer b.Unlock()
	var out []api.Latency
	for i := range b.stages {
		h := &b.stages[i]
		out = append(out, api.Latency{Name: stageNames[i], P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), Max: h.max})
	}
	return out
}

func (n *Node) topErrors() []api.ErrorCount {
	b := &n.count.byName
	b.Lock()
	defer b.Unlock()
	out := []api.ErrorCount{}
	for k, e := range b.errors {
		if n.now().Sub(e.last) < 5*time.Minute {
			out = append(out, api.ErrorCount{Carrier: k.carrier, Phase: k.phase, Reply: k.reply, Count: e.n})
		}
	}
	slices.SortFunc(out, func(x, y api.ErrorCount) int { return int(y.Count - x.Count) })
	return out[:min(len(out), topQueues)]
}

func memoryUse() api.MemoryUse {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	u := api.MemoryUse{Heap: s[0].Value.Uint64(), Goroutines: runtime.NumGoroutine()}
	// Linux only; elsewhere it stays 0.
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseUint(f[1], 10, 64)
			u.Resident = pages * uint64(os.Getpagesize())
		}
	}
	return u
}
