package api

import "time"

// Metrics is a snapshot of all counters and gauges of the node. The parts keep
// plain numbers; only this package knows how they are printed. Counters are
// totals since the start. Maps may have any number of keys: the collector
// prints the largest and sums up the rest as "other".
type Metrics struct {
	Node     string
	Version  string
	Started  time.Time
	Ready    bool
	Policy   int64 // revision of the policy in force
	SilentNS int64 // longest time that a due delivery had no event, in nanoseconds

	Ingest    IngestMetrics
	Spool     SpoolMetrics
	Scheduler SchedulerMetrics
	Delivery  DeliveryMetrics
	Signing   SigningMetrics
	DNS       DNSMetrics
	Events    EventMetrics
	Transfer  TransferMetrics
	Feedback  FeedbackMetrics
}

// Histogram is counts by upper bound in seconds; the last count is for values
// beyond the last bound.
type Histogram struct {
	Bounds []float64
	Counts []uint64 // one more than Bounds, not cumulative
	Sum    float64  // seconds
}

// IngestMetrics is the way in.
type IngestMetrics struct {
	Connections        map[string]int64  // open, by listener
	ConnectionsTotal   map[string]uint64 // by listener
	ConnectionsRefused map[string]uint64 // by reason: limit, client_limit, network …
	Messages           map[string]uint64 // accepted, by tenant
	Recipients         map[string]uint64 // accepted, by tenant
	Bytes              map[string]uint64 // by via: smtp, http, dsn
	Refused            map[string]uint64 // messages and recipients refused, by reason
	AuthFailed         uint64
	TLSFailed          uint64
	Accept             Histogram // from the end of the content to the answer
}

// SpoolMetrics is what is on disk.
type SpoolMetrics struct {
	Queued         int64
	QueuedCarrier  map[string]int64
	QueuedTenant   map[string]int64
	Destinations   int64
	Counted        bool
	Appends        uint64 // submissions made durable
	Commits        uint64 // transitions made durable
	Batches        uint64 // syncs they shared
	Sync           Histogram
	Quarantined    uint64
	OutboxRecords  int64
	FreeBytes      uint64
	DiskBytes      uint64
	Gates          map[string]bool // name → closed
	L0Files        int64
	ReadAmp        int64
	MemTableBytes  uint64
	WALBytes       uint64
	CompactionDebt uint64
	WriteStalls    uint64
	CacheHits      uint64
	CacheMisses    uint64
}

// TransferMetrics is what goes to other nodes and comes from them.
type TransferMetrics struct {
	Sent, Received, Returned uint64 // deliveries
	SentBytes, ReceivedBytes uint64
	Refused                  uint64 // requests of other nodes
	Reclaimed                uint64 // deliveries, by an operator
	Open, Stuck              int64  // transfers of which it is not known who has them
	Moving                   int64  // deliveries in them
	OldestSeconds            float64
	ReceivingBytes           int64 // of parcels in memory
	ReceivingMax             int64
}

// SchedulerMetrics is what is held in memory.
type SchedulerMetrics struct {
	Queues      int64
	InMemory    int64 // deliveries
	InMemoryMax int64
	Ready       int64
	InFlight    int64
	Held        int64
	// Stranded is deliveries in queues that are due and have no source here.
	Stranded, StrandedQueues int64
	Sites                    int64
	Lanes                    int64
	Dispatched               map[string]uint64 // by priority
	Waiting                  map[string]int64  // queues by the limit that binds their head
	Pages                    uint64
	HandoffFull              uint64 // accepted deliveries that did not fit and wait on disk
}

// DeliveryMetrics is the way out.
type DeliveryMetrics struct {
	Connections  map[string]int64 // open, by carrier
	Idle         int64
	Opened       map[string]uint64 // connections, by carrier
	ConnectFault map[string]uint64 // by fault: refused, timeout …
	Attempts     map[string]uint64 // transactions, by carrier
	Delivered    map[string]uint64 // recipients, by carrier
	Deferred     map[string]uint64
	Bounced      map[string]uint64
	Expired      uint64
	Cancelled    uint64
	Replies      map[ReplyKey]uint64
	Verdicts     map[VerdictKey]uint64 // recipients' replies that were no success
	TLS          map[string]uint64     // sessions by version; "none" without
	Bytes        uint64
	Stages       map[string]Histogram // by stage: queued, resolve, connect, sign, mail, data, total
}

// ReplyKey tells kinds of replies apart. There are at most 15 phases × 5 classes.
type ReplyKey struct {
	Phase string
	Class string // "2", "4", "5" or a fault's name
}

// VerdictKey is what a carrier's replies meant, in the words of package
// reputation.
type VerdictKey struct{ Carrier, Category string }

// SigningMetrics is DKIM.
type SigningMetrics struct {
	Signed    uint64 // signatures made
	Failed    uint64 // keys or messages that could not be signed
	Unsigned  uint64 // messages whose domain has no key
	Fallbacks uint64 // signatures that libcrypto failed to make and crypto/rsa made
	Keys      int
	Seconds   float64 // in private keys' operations
	RSA       string  // what makes RSA signatures: libcrypto or crypto/rsa
}

// DNSMetrics is the resolver.
type DNSMetrics struct {
	Queries  map[string]uint64 // by result: answer, nxdomain, servfail, timeout …
	Hits     uint64
	Misses   uint64
	Entries  int64
	Capacity int64
	Time     Histogram
}

// EventMetrics is the event log.
type EventMetrics struct {
	Records      uint64
	ContentBytes uint64
	FileBytes    uint64
	DiskBytes    int64
	Segments     int
	Syncs        uint64
	SyncTime     time.Duration
	Lags         uint64
	Refilled     uint64
	Errors       uint64
	TornTails    uint64
	DamagedBytes int64
	Buffered     int
	Behind       uint64            // transitions not yet durable in the log
	Consumers    map[string]uint64 // behind, by consumer
	ConsumerLost map[string]uint64
}
