package exchange

import "time"

// Timing of the exchange.
const (
	// Interval is the time from one exchange to the next.
	Interval = time.Second
	// GrantTTL is how long a grant holds without a new one.
	GrantTTL = 5 * time.Second
	// GrantMargin is taken off on the node, for clocks that run apart.
	GrantMargin = 500 * time.Millisecond
	// PermitTTL is how long a permit of a daily budget may stay unused.
	PermitTTL = 5 * time.Minute
)

// Bounds of one report and answer.
const (
	MaxScopes  = 4096
	MaxSignals = 20_000
	MaxTallies = 20_000
	MaxSamples = 200
	MaxSources = 10_000
	MaxWire    = 8 << 20 // bytes
)

// FullShare is the whole of a budget; shares are parts of it.
const FullShare = 1 << 16

// Kind is the kind of thing that a budget stands on.
type Kind uint8

// The kinds. The fields of a Scope that each uses stand beside it.
const (
	Carrier       Kind = iota // Carrier, Site (default carrier only)
	CarrierPool               // Carrier, Site, Pool
	CarrierSource             // Carrier, Site, Source: spans no nodes but for its daily count
	Tenant                    // Tenant
	TenantCarrier             // Tenant, Carrier
	Stream                    // Tenant, Stream
	Job                       // Tenant, Job
	kinds
)

var kindNames = [kinds]string{"carrier", "carrier-pool", "carrier-source", "tenant", "tenant-carrier", "stream", "job"}

// String is the word used in listings.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "unknown"
}

// Scope names one budget. Comparable; fields that the kind does not use are "".
type Scope struct {
	Kind    Kind
	Carrier string
	Site    string // the default carrier is not one provider: there each site has a budget of its own
	Pool    string
	Source  string
	Tenant  string
	Stream  string
	Job     string
}

// Holding is what a node may use of a scope: in a Demand, what is in force; in a
// Grant, what shall be.
type Holding struct {
	// Share of the rate and of the connection rate, in FullShare parts.
	Share int64
	// Burst is the part of the burst, in messages. A node with 0 cannot send.
	Burst int64
	// LinkBurst is the part of the connection rate's burst.
	LinkBurst int64
	// Connections may be open at once.
	Connections int64
	// Issued and Void count permits of the daily budget since the node's lease
	// began; neither ever falls. The node may use the permits numbered from
	// max(used, Void) to Issued.
	Issued, Void int64
}

// Demand is one scope in a Report: a scope with a limit that spans nodes, and
// mail waiting or anything in use.
type Demand struct {
	Scope
	Holding // in force
	// Backlog is the mail that is due and could go but for budgets.
	Backlog int64
	// Used is how many messages were dispatched since the report before.
	Used int64
	// Open is how many connections are open or opening; it may be above
	// Connections for a while after that was lowered.
	Open int64
	// Spent is how many permits were used since the node's lease began, and
	// Returned how many of those below Void were not.
	Spent, Returned int64
	// Kept is what was counted against the daily limit without permits in the
	// last 24 hours: within the floor, or before the node joined.
	Kept int64
}

// HeldSource is a source that the node has, or has just let go.
type HeldSource struct {
	Source string
	Epoch  int64
	// Released: the node has stopped using it and will not again under this
	// epoch; nothing of it is in flight.
	Released bool
	// Fault is why it cannot be used though it is held: the address is not on
	// this machine, attaching it failed. "" otherwise.
	Fault string
	// Backlog is the mail that waits for it.
	Backlog int64
}

// Signal counts what carriers said to one source since the report before.
type Signal struct {
	Carrier, Source, Tenant                          string
	Delivered, Deferred, Bounced, Connected, Refused uint32
}

// Tally counts what replies meant, since the report before. A node adds up over
// the fields that it has no room for, and leaves them empty.
type Tally struct {
	Carrier string
	Site    string // at the default carrier
	Source  string
	Tenant  string
	Stream  string
	Job     string
	Domain  string // of the From header: whose name the mail bears
	// Category is one of package reputation's, "delivered" among them.
	Category string
	N        uint32
}

// Sample is a reply that was seen, and how often: why a decision was made, and
// what no rule knows.
type Sample struct {
	Carrier, Source string
	Category        string
	Phase           string
	Code            uint16
	Enhanced        string
	Text            string // without what differs from message to message, at most 200 bytes
	N               uint32
}

// Report goes from the node to the leader.
type Report struct {
	Node  string
	Lease int64 // of the node's registration; another one is refused
	// Serial numbers this node's reports since its start; Term and Applied name
	// the answer in force (0 none), Left how long its grants still hold.
	Serial    uint64
	Term      int64
	Applied   uint64
	Left      time.Duration
	Floor     int64 // that the node has on its disk
	Revision  int64 // of the policy in force
	Draining  bool
	Queued    int64
	Stranded  int64 // deliveries whose pool has no source here
	PerSecond float64
	Demands   []Demand
	Sources   []HeldSource
	Signals   []Signal
	Tallies   []Tally
	Samples   []Sample
	// Tallied is the Serial of the report in which these Tallies and Samples were
	// sent first, when that one was not answered: whether the leader had it nobody
	// knows. 0: they are new.
	Tallied       uint64
	SpoolFreePart float64 // 0 to 1, of the disk
}

// Grant is one scope in an Answer.
type Grant struct {
	Scope
	Holding
}

// Answer goes from the leader to the node.
type Answer struct {
	Leader string
	Term   int64  // the create revision of the leader's key: rises with each leader
	Serial uint64 // of the report it answers
	TTL    time.Duration
	// Floor is the share that the node shall keep when grants have run out, and
	// Rank its number among members (keyspace.Member).
	Floor, Rank int64
	Members     int64 // how many nodes there are; floors of bursts follow from it
	Revision    int64 // the newest policy that the leader knows
	Drain       bool
	// Grants replace all earlier ones; a scope that is missing falls to its
	// floor.
	Grants []Grant
	// Homes says which node has sources of a pool, for mail that has none here:
	// pool → node names, best first.
	Homes []Home
}

// Home is a pool and the nodes that hold sources of it; with a Carrier, sources
// that may be used there, while others may not.
type Home struct {
	Pool    string
	Carrier string
	Nodes   []string
}

// FloorOf is a node's own part of a burst, and of anything else that is counted
// in whole things: its share of it, and at least one for each of the lowest
// ranks, as far as half of the whole goes. So a budget with a burst below twice
// the number of nodes has no floor on the highest ranks, and one with a burst of
// 1 has none at all: two nodes with a message each in hand would be two.
func FloorOf(whole, share, rank int64) int64 {
	own := PartOf(whole, share)
	if own == 0 && share > 0 && rank >= 0 && rank < whole/2 {
		return 1
	}
	return own
}

// PartOf is a share of something counted in whole things, rounded down.
func PartOf(whole, share int64) int64 {
	if share >= FullShare {
		return whole
	}
	return whole/FullShare*share + whole%FullShare*share/FullShare
}
