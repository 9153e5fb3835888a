package api

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// maxLabels bounds the values of one label; the rest is summed up as "other".
const maxLabels = 100

// collector prints a snapshot of the node. It is unchecked (Describe sends
// nothing), because label values come and go.
type collector struct {
	node     Node
	cluster  func() *Cluster // nil: the node stands alone
	webhooks Webhooks        // nil, as senders: not there
	senders  Senders
	list     Suppressions // nil: likewise
}

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := c.node.Metrics()
	if m == nil {
		return
	}
	p := printer{ch}
	p.node(m)
	p.ingest(&m.Ingest)
	p.spool(&m.Spool)
	p.scheduler(&m.Scheduler)
	p.delivery(&m.Delivery)
	p.signing(&m.Signing)
	p.dns(&m.DNS)
	p.events(&m.Events)
	p.transfer(&m.Transfer)
	p.feedback(&m.Feedback)
	if c.cluster != nil {
		p.cluster(c.cluster())
	}
	if c.webhooks != nil {
		p.webhooks(c.webhooks.Webhooks())
	}
	if c.senders != nil {
		p.blocklists(c.senders.Blocklists())
	}
	if c.list != nil {
		p.suppressions(c.list.Metrics())
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

// by prints a map with one label, the largest values first, bounded.
func by[N number](p printer, kind prometheus.ValueType, name, help, label string, m map[string]N) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	other, labels := float64(0), []string{label}
	for i, k := range keys {
		if i >= maxLabels || k == "other" {
			other += float64(m[k])
			continue
		}
		p.one(kind, name, help, float64(m[k]), labels, k)
	}
	if len(keys) > maxLabels || other > 0 {
		p.one(kind, name, help, other, labels, "other")
	}
}

func (p printer) histogram(name, help string, h Histogram, labels []string, values ...string) {
	if len(h.Counts) != len(h.Bounds)+1 {
		return // nothing measured yet
	}
	total, buckets := uint64(0), make(map[float64]uint64, len(h.Bounds))
	for i, b := range h.Bounds {
		total += h.Counts[i]
		buckets[b] = total
	}
	total += h.Counts[len(h.Bounds)]
	p.ch <- prometheus.MustNewConstHistogram(prometheus.NewDesc("hikyaku_"+name, help, labels, nil), total, h.Sum, buckets, values...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

const (
	gaugeKind   = prometheus.GaugeValue
	counterKind = prometheus.CounterValue
)

func (p printer) node(m *Metrics) {
	p.one(gaugeKind, "build_info", "Version of the node, always 1.", 1, []string{"node", "version"}, m.Node, m.Version)
	gauge(p, "ready", "1 when the node serves.", truth(m.Ready))
	gauge(p, "start_time_seconds", "When the node started, Unix time.", float64(m.Started.UnixMilli())/1000)
	gauge(p, "policy_revision", "Revision of the policy in force.", m.Policy)
	gauge(p, "oldest_silent_delivery_seconds", "Longest time that a due delivery had no event.", float64(m.SilentNS)/1e9)
}

func (p printer) ingest(m *IngestMetrics) {
	by(p, gaugeKind, "ingest_connections", "Open incoming connections.", "listener", m.Connections)
	by(p, counterKind, "ingest_connections_total", "Incoming connections.", "listener", m.ConnectionsTotal)
	by(p, counterKind, "ingest_connections_refused_total", "Incoming connections refused.", "reason", m.ConnectionsRefused)
	by(p, counterKind, "ingest_messages_total", "Messages accepted.", "tenant", m.Messages)
	by(p, counterKind, "ingest_recipients_total", "Recipients accepted.", "tenant", m.Recipients)
	by(p, counterKind, "ingest_bytes_total", "Bytes of content accepted.", "via", m.Bytes)
	by(p, counterKind, "ingest_refused_total", "Messages and recipients refused.", "reason", m.Refused)
	counter(p, "ingest_auth_failures_total", "Logins that failed.", m.AuthFailed)
	counter(p, "ingest_tls_failures_total", "Incoming TLS handshakes that failed.", m.TLSFailed)
	p.histogram("ingest_accept_seconds", "From the end of the content to the answer.", m.Accept, nil)
}

func (p printer) spool(m *SpoolMetrics) {
	gauge(p, "queued", "Deliveries in the spool.", m.Queued)
	by(p, gaugeKind, "queued_by_carrier", "Deliveries in the spool.", "carrier", m.QueuedCarrier)
	by(p, gaugeKind, "queued_by_tenant", "Deliveries in the spool.", "tenant", m.QueuedTenant)
	gauge(p, "queued_destinations", "Destinations with deliveries.", m.Destinations)
	gauge(p, "queued_counted", "0 while the queues are still being counted after a start.", truth(m.Counted))
	counter(p, "spool_appends_total", "Submissions made durable.", m.Appends)
	counter(p, "spool_commits_total", "Transitions made durable.", m.Commits)
	counter(p, "spool_batches_total", "Syncs that appends and commits shared.", m.Batches)
	p.histogram("spool_sync_seconds", "Time of a sync of the write-ahead log.", m.Sync, nil)
	counter(p, "spool_quarantined_total", "Records that could not be read.", m.Quarantined)
	gauge(p, "spool_outbox_records", "Transitions whose events are not yet in the event log.", m.OutboxRecords)
	gauge(p, "spool_free_bytes", "Free space on the spool's disk.", m.FreeBytes)
	gauge(p, "spool_disk_bytes", "Bytes the spool takes on disk.", m.DiskBytes)
	gates := make(map[string]float64, len(m.Gates))
	for name, closed := range m.Gates {
		gates[name] = truth(closed)
	}
	by(p, gaugeKind, "gate_closed", "1 while new mail is refused for this reason.", "gate", gates)
	gauge(p, "pebble_l0_files", "Files in level 0.", m.L0Files)
	gauge(p, "pebble_read_amplification", "Levels a read may have to look at.", m.ReadAmp)
	gauge(p, "pebble_memtable_bytes", "Bytes in memory tables.", m.MemTableBytes)
	gauge(p, "pebble_wal_bytes", "Bytes in write-ahead logs.", m.WALBytes)
	gauge(p, "pebble_compaction_debt_bytes", "Bytes still to be compacted.", m.CompactionDebt)
	counter(p, "pebble_write_stalls_total", "Times writes had to wait for compaction.", m.WriteStalls)
	counter(p, "pebble_cache_hits_total", "Block cache hits.", m.CacheHits)
	counter(p, "pebble_cache_misses_total", "Block cache misses.", m.CacheMisses)
}

func (p printer) transfer(m *TransferMetrics) {
	counter(p, "transfer_sent_total", "Deliveries handed over to other nodes.", m.Sent)
	counter(p, "transfer_received_total", "Deliveries taken from other nodes.", m.Received)
	counter(p, "transfer_returned_total", "Deliveries that were offered and came back.", m.Returned)
	counter(p, "transfer_sent_bytes_total", "Bytes of parcels sent.", m.SentBytes)
	counter(p, "transfer_received_bytes_total", "Bytes of parcels taken.", m.ReceivedBytes)
	counter(p, "transfer_refused_total", "Requests of other nodes refused.", m.Refused)
	counter(p, "transfer_reclaimed_total", "Deliveries that an operator took back without an answer.", m.Reclaimed)
	gauge(p, "transfer_open", "Transfers of which it is not known yet who has the deliveries.", m.Open)
	gauge(p, "transfer_stuck", "Open transfers that need an operator.", m.Stuck)
	gauge(p, "transfer_moving", "Deliveries in open transfers; they wait.", m.Moving)
	gauge(p, "transfer_oldest_seconds", "How long the oldest transfer has been open.", m.OldestSeconds)
	gauge(p, "transfer_receiving_bytes", "Bytes of parcels of other nodes in memory.", m.ReceivingBytes)
	gauge(p, "transfer_receiving_bytes_max", "Bound on bytes of parcels in memory.", m.ReceivingMax)
}

func (p printer) scheduler(m *SchedulerMetrics) {
	gauge(p, "scheduler_queues", "Queues known.", m.Queues)
	gauge(p, "scheduler_in_memory", "Deliveries held in memory.", m.InMemory)
	gauge(p, "scheduler_in_memory_max", "Bound on deliveries held in memory.", m.InMemoryMax)
	gauge(p, "scheduler_ready", "Deliveries that are due.", m.Ready)
	gauge(p, "scheduler_in_flight", "Deliveries being attempted.", m.InFlight)
	gauge(p, "scheduler_held", "Deliveries held by an operator.", m.Held)
	gauge(p, "scheduler_stranded", "Deliveries in queues that are due and whose pool has no source on this node.", m.Stranded)
	gauge(p, "scheduler_stranded_queues", "Queues that are due and whose pool has no source on this node.", m.StrandedQueues)
	gauge(p, "scheduler_sites", "MX host sets known.", m.Sites)
	gauge(p, "scheduler_lanes", "Lanes: source × site.", m.Lanes)
	by(p, counterKind, "scheduler_dispatched_total", "Deliveries given out.", "priority", m.Dispatched)
	by(p, gaugeKind, "scheduler_waiting_queues", "Queues by the limit that binds their head.", "limit", m.Waiting)
	counter(p, "scheduler_pages_total", "Pages read from the spool.", m.Pages)
	counter(p, "scheduler_handoff_full_total", "Fresh deliveries that had no room in memory.", m.HandoffFull)
}

func (p printer) delivery(m *DeliveryMetrics) {
	by(p, gaugeKind, "delivery_connections", "Open outgoing connections.", "carrier", m.Connections)
	gauge(p, "delivery_connections_idle", "Outgoing connections with nothing to send.", m.Idle)
	by(p, counterKind, "delivery_connections_opened_total", "Outgoing connections opened.", "carrier", m.Opened)
	by(p, counterKind, "delivery_connect_failures_total", "Connections that could not be opened.", "fault", m.ConnectFault)
	by(p, counterKind, "delivery_attempts_total", "Transactions.", "carrier", m.Attempts)
	by(p, counterKind, "delivered_total", "Recipients delivered.", "carrier", m.Delivered)
	by(p, counterKind, "deferred_total", "Recipients put off.", "carrier", m.Deferred)
	by(p, counterKind, "bounced_total", "Recipients refused for good.", "carrier", m.Bounced)
	counter(p, "expired_total", "Recipients that ran out of time.", m.Expired)
	counter(p, "cancelled_total", "Recipients cancelled.", m.Cancelled)
	for k, n := range m.Replies {
		p.one(counterKind, "delivery_replies_total", "Replies by phase and first digit or fault.", float64(n), []string{"phase", "class"}, k.Phase, k.Class)
	}
	p.verdicts(m.Verdicts)
	by(p, counterKind, "delivery_tls_total", "Outgoing sessions by TLS version.", "version", m.TLS)
	counter(p, "delivery_bytes_total", "Bytes of content sent.", m.Bytes)
	for stage, h := range m.Stages {
		p.histogram("delivery_stage_seconds", "Where the time of an attempt went.", h, []string{"stage"}, stage)
	}
}

// verdicts prints the most frequent ones, and of the others the sum of each
// category: how often no rule knew a reply is known of all carriers together.
func (p printer) verdicts(m map[VerdictKey]uint64) {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b VerdictKey) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Category, b.Category))
	})
	others := map[string]uint64{}
	one := func(carrier, category string, n uint64) {
		p.one(counterKind, "delivery_verdicts_total", "Recipients' replies that were no success, by what they meant.", float64(n), []string{"carrier", "category"}, carrier, category)
	}
	for i, k := range keys {
		if i >= maxVerdicts || k.Carrier == "other" {
			others[k.Category] += m[k]
			continue
		}
		one(k.Carrier, k.Category, m[k])
	}
	for category, n := range others {
		one("other", category, n)
	}
}

// maxVerdicts bounds the pairs of carrier and category that are printed.
const maxVerdicts = 500

func (p printer) signing(m *SigningMetrics) {
	counter(p, "dkim_signatures_total", "DKIM signatures made.", m.Signed)
	counter(p, "dkim_failures_total", "Keys or messages that could not be signed.", m.Failed)
	counter(p, "dkim_unsigned_total", "Messages whose domain has no signing key.", m.Unsigned)
	counter(p, "dkim_fallbacks_total", "Signatures that libcrypto failed to make and crypto/rsa made.", m.Fallbacks)
	counter(p, "dkim_seconds_total", "Time in private keys' operations.", m.Seconds)
	gauge(p, "dkim_keys", "Signing keys in use.", m.Keys)
	by(p, gaugeKind, "dkim_rsa_signer", "What makes RSA signatures.", "signer", map[string]int64{m.RSA: 1})
}

func (p printer) dns(m *DNSMetrics) {
	by(p, counterKind, "dns_queries_total", "Queries sent, by result.", "result", m.Queries)
	counter(p, "dns_cache_hits_total", "Answers from the cache.", m.Hits)
	counter(p, "dns_cache_misses_total", "Answers not in the cache.", m.Misses)
	gauge(p, "dns_cache_entries", "Answers in the cache.", m.Entries)
	gauge(p, "dns_cache_capacity", "Bound on answers in the cache.", m.Capacity)
	p.histogram("dns_seconds", "Time of a query.", m.Time, nil)
}

func (p printer) events(m *EventMetrics) {
	counter(p, "events_records_total", "Lines written to the event log.", m.Records)
	counter(p, "events_json_bytes_total", "Bytes of JSON written.", m.ContentBytes)
	counter(p, "events_file_bytes_total", "Bytes written after compression.", m.FileBytes)
	gauge(p, "events_disk_bytes", "Bytes of the event log on disk.", m.DiskBytes)
	gauge(p, "events_segments", "Segments of the event log.", m.Segments)
	counter(p, "events_syncs_total", "Syncs of the event log.", m.Syncs)
	counter(p, "events_sync_seconds_total", "Time in syncs of the event log.", m.SyncTime.Seconds())
	counter(p, "events_lags_total", "Times the buffer was full and the outbox had to be read.", m.Lags)
	counter(p, "events_refilled_total", "Lines read again from the outbox.", m.Refilled)
	counter(p, "events_errors_total", "Writes to the event log that failed.", m.Errors)
	counter(p, "events_torn_tails_total", "Tails moved aside after a crash.", m.TornTails)
	gauge(p, "events_damaged_bytes", "Bytes of the event log that cannot be read.", m.DamagedBytes)
	gauge(p, "events_buffered_bytes", "Bytes waiting for the disk.", m.Buffered)
	gauge(p, "events_behind", "Transitions not yet durable in the event log.", m.Behind)
	by(p, gaugeKind, "events_consumer_behind", "Transitions a consumer has yet to read.", "consumer", m.Consumers)
	by(p, counterKind, "events_consumer_lost_total", "Transitions removed before a consumer read them.", "consumer", m.ConsumerLost)
}
