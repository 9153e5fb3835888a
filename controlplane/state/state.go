package state

import "time"

// Node is a member of the cluster: what is known of it for good, its
// registration while it lives, and a digest of its last report.
type Node struct {
	Name     string            `json:"name"`
	NodeID   string            `json:"node_id" doc:"The identity of the node's spool."`
	Live     bool              `json:"live" doc:"It is registered in etcd by a lease that has not run out."`
	Joined   time.Time         `json:"joined"`
	Version  string            `json:"version,omitempty"`
	Started  time.Time         `json:"started,omitzero"`
	Peer     string            `json:"peer,omitempty" doc:"Where other nodes and the control plane reach it, host:port."`
	Gossip   string            `json:"gossip,omitempty" doc:"Its gossip address, host:port."`
	Labels   map[string]string `json:"labels,omitempty"`
	Capacity int               `json:"capacity,omitempty" doc:"How many sources' worth of work it takes beside others."`
	Lease    int64             `json:"lease,omitempty" doc:"The etcd lease of its registration."`

	Drain       string    `json:"drain,omitempty" enum:"draining,drained" doc:"Absent: it takes part."`
	DrainAt     time.Time `json:"drain_at,omitzero" doc:"When the drain was ordered."`
	SourcesLeft int       `json:"sources_left" doc:"Movable sources that it holds or is letting go."`

	Rank           int     `json:"rank" doc:"Tells members apart by a small number: the lowest ranks have a floor where a budget is too small for all."`
	Floor          float64 `json:"floor" doc:"The percentage of each budget that it may use without a grant."`
	FloorConfirmed float64 `json:"floor_confirmed" doc:"The same, as the node last said that it has on its disk."`

	ExchangeAge   *float64 `json:"exchange_age_seconds,omitempty" doc:"Seconds since its last exchange with this leader; absent: none yet. All below is from that exchange."`
	Revision      int64    `json:"revision,omitempty" doc:"The policy revision in force on it."`
	Queued        int64    `json:"queued,omitempty" doc:"Deliveries queued."`
	Stranded      int64    `json:"stranded,omitempty" doc:"Deliveries whose pool has no source here."`
	PerSecond     float64  `json:"per_second,omitempty" doc:"Messages leaving per second."`
	SpoolFreePart float64  `json:"spool_free_part,omitempty" doc:"The free part of the spool's disk, 0 to 1."`
	Sources       int      `json:"sources,omitempty" doc:"Sources that it has, of any mode."`
	Scopes        int      `json:"scopes,omitempty" doc:"Budgets that it asks for."`
	Alarms        []string `json:"alarms,omitempty" doc:"What wants a person's eye, in words."`
}

// The modes of a source.
const (
	Movable = "movable" // held by one node at a time, by lease
	Pinned  = "pinned"  // bound to a node by policy
	Local   = "local"   // no address: each node has its own
)

// Source is a sending address and who holds it.
type Source struct {
	Name     string    `json:"name"`
	Address  string    `json:"address,omitempty"`
	Pools    []string  `json:"pools,omitempty"`
	Mode     string    `json:"mode" enum:"movable,pinned,local" doc:"movable: held by one node at a time, by lease; pinned: bound to a node by policy; local: no address, each node has its own."`
	Disabled bool      `json:"disabled,omitempty"`
	State    string    `json:"state,omitempty" enum:"held,releasing,quarantined,free" doc:"Of a movable source."`
	Node     string    `json:"node,omitempty" doc:"The node that holds it, that must let it go, or that it is bound to."`
	Lease    int64     `json:"lease,omitempty"`
	Epoch    int64     `json:"epoch,omitempty" doc:"Rises with each new holder and never falls."`
	Since    time.Time `json:"since,omitzero" doc:"When it came into its state."`
	Reason   string    `json:"reason,omitempty" doc:"Why it stands so."`
	Fault    string    `json:"fault,omitempty" doc:"Why its holder cannot use it."`
	Backlog  int64     `json:"backlog,omitempty" doc:"Mail that waits for it."`
}

// Scope names a budget.
type Scope struct {
	Kind    string `json:"kind" enum:"carrier,carrier-pool,carrier-source,tenant,tenant-carrier,stream,job"`
	Carrier string `json:"carrier,omitempty"`
	Site    string `json:"site,omitempty" doc:"Under the default carrier each site has a budget of its own."`
	Pool    string `json:"pool,omitempty"`
	Source  string `json:"source,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	Stream  string `json:"stream,omitempty"`
	Job     string `json:"job,omitempty"`
}

// Grant is one node's part of a budget.
type Grant struct {
	Scope
	Node        string  `json:"node"`
	Limit       string  `json:"limit" doc:"The whole budget, over all nodes, as policy writes it."`
	Share       float64 `json:"share" doc:"The node's percentage of the rate, its floor in it."`
	Rate        string  `json:"rate,omitempty" doc:"What that is as a rate."`
	Burst       int64   `json:"burst,omitempty" doc:"The node's part of the burst, in messages."`
	Connections int64   `json:"connections,omitempty" doc:"Connections that it may have open."`
	Open        int64   `json:"open,omitempty" doc:"Connections that it has open."`
	Issued      int64   `json:"issued,omitempty" doc:"Permits of the daily budget given to it since its lease began."`
	Spent       int64   `json:"spent,omitempty" doc:"Permits of the daily budget that it has used."`
	Demand      int64   `json:"demand,omitempty" doc:"Mail that could go but for budgets."`
	Used        float64 `json:"used_per_second,omitempty" doc:"Messages per second under it, over the last exchange."`
	Outstanding float64 `json:"outstanding" doc:"The percentage that the leader must count as in use, until the node has confirmed a smaller one."`
	Waits       bool    `json:"waits,omitempty" doc:"The budget is too small for all at once, and it is another node's turn."`
	ExpiresIn   float64 `json:"expires_in_seconds" doc:"Seconds until the grant ends if it is not renewed."`
}

// Lease is an etcd lease by which something is held.
type Lease struct {
	ID     int64   `json:"id"`
	Holder string  `json:"holder" enum:"node,leader"`
	Name   string  `json:"name" doc:"Of the node or control plane."`
	TTL    float64 `json:"ttl_seconds"`
	Left   float64 `json:"left_seconds" doc:"Until etcd ends it without a renewal."`
	// Sources is how many sending addresses hang on it.
	Sources int `json:"sources" doc:"Sources held by it."`
}

// Leader is the control plane that assigns and grants, and how it fares.
type Leader struct {
	Name         string    `json:"name"`
	Address      string    `json:"address" doc:"Where nodes make their exchange, host:port."`
	Since        time.Time `json:"since"`
	Version      string    `json:"version,omitempty"`
	Term         int64     `json:"term" doc:"Rises with each leader."`
	Revision     int64     `json:"revision" doc:"The policy revision that it decides by."`
	Members      int       `json:"members"`
	Live         int       `json:"live"`
	Scopes       int       `json:"scopes" doc:"Budgets that it keeps account of."`
	Exchanges    float64   `json:"exchanges_per_second"`
	LastDecision float64   `json:"last_decision_seconds" doc:"How long the last look at all assignments took."`
	EtcdWrites   int64     `json:"etcd_writes" doc:"Since it became leader."`
	Conflicts    int64     `json:"conflicts" doc:"Transactions refused since something had changed meanwhile."`
	Alarms       []string  `json:"alarms,omitempty" doc:"What wants a person's eye and is no one node's."`
}

// Applied says which nodes have a revision of policy.
type Applied struct {
	Revision int64         `json:"revision"`
	Applied  int           `json:"applied" doc:"Live nodes that have it, or a later one."`
	Live     int           `json:"live"`
	Nodes    []AppliedNode `json:"nodes"`
}

// AppliedNode is one node of Applied.
type AppliedNode struct {
	Node     string `json:"node"`
	Live     bool   `json:"live"`
	Revision int64  `json:"revision" doc:"In force on it; 0: not known yet."`
	Applied  bool   `json:"applied"`
}

// GossipKey is one key of the ring with which gossip is encrypted. The key itself
// is shown to nobody.
type GossipKey struct {
	ID     string    `json:"id" doc:"The beginning of a hash of the key, as the nodes list it."`
	InUse  bool      `json:"in_use" doc:"Nodes encrypt with it; with the others they only read."`
	Added  time.Time `json:"added"`
	Author string    `json:"author,omitempty"`
}
