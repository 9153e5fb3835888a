package api

// Cluster is the node's parts that join it to others. They stand beside the
// node, which knows none of them, so whoever joins them gives this snapshot.
type Cluster struct {
	// Alarms are what a person should look at, in words.
	Alarms  []string
	Control ControlMetrics
	Policy  PolicyMetrics
	Gossip  *GossipMetrics // nil: switched off
	Attach  AttachMetrics
}

// ControlMetrics is how the node stands with the control plane.
type ControlMetrics struct {
	Alarms      int
	Registered  bool
	LeaseLeft   float64  // seconds
	ExchangeAge *float64 // seconds; nil: there was none
	GrantsLeft  float64  // seconds
	Grants      int
	Floor       float64 // 0 to 1
	Rank        int64
	Members     int64
	Term        int64
	Revision    int64          // the newest policy that the leader knows
	Sources     map[string]int // by state

	Registrations, Losses, Renewals uint64
	Exchanges, ExchangeErrors       uint64
	StaleAnswers                    uint64
	GrantsLapsed                    uint64
	ConnectionsCut                  uint64
	WatchRestarts                   uint64
}

// PolicyMetrics is how policy is followed.
type PolicyMetrics struct {
	Connected bool
	Age       float64 // seconds since etcd last answered
	Alarm     bool

	Applied, Refused, WentBack, Forked, SaveFailed, Reconnected int64
	// Steered counts changes of what the control plane decided about sources and
	// tenants; SteeringRevision is etcd's of the one in force.
	Steered, SteeringRevision int64
}

// GossipMetrics is what nodes tell each other.
type GossipMetrics struct {
	Members, Lost, Warnings, Health int

	Joined, Gone, Refused, Conflicts, JoinsFailed  uint64
	StatesHeard                                    uint64
	WarningsSent, WarningsHeard, Repeated, Dropped uint64
	Unreadable, Foreign, Complaints                uint64
}

// AttachMetrics is addresses on interfaces.
type AttachMetrics struct {
	Attached                                               int
	Attaches, Detaches, Failures, Commands, AnnounceFailed uint64
}

func (p printer) cluster(c *Cluster) {
	p.control(&c.Control)
	p.policy(&c.Policy)
	if c.Gossip != nil {
		p.gossip(c.Gossip)
	}
	p.attach(&c.Attach)
}

func (p printer) control(m *ControlMetrics) {
	gauge(p, "control_alarms", "What a person should look at, as the overview says in words.", m.Alarms)
	gauge(p, "control_registered", "1 while the node has a lease that holds; without one it may use no movable source.", truth(m.Registered))
	gauge(p, "control_lease_remaining_seconds", "How long the lease holds without a renewal.", m.LeaseLeft)
	if m.ExchangeAge != nil {
		gauge(p, "control_exchange_age_seconds", "Time since the leader last answered; absent before the first answer.", *m.ExchangeAge)
	}
	gauge(p, "control_grants_remaining_seconds", "How long the grants hold without an exchange; 0: the node is down to its floor.", m.GrantsLeft)
	gauge(p, "control_grants", "Budgets of which the node has a grant.", m.Grants)
	gauge(p, "control_floor_ratio", "Part of each budget that is the node's without a grant, 0 to 1.", m.Floor)
	gauge(p, "control_rank", "Rank among the members; the lowest have a floor where a budget is too small for all.", m.Rank)
	gauge(p, "control_members", "Members of the cluster, as the leader last said.", m.Members)
	gauge(p, "control_leader_term", "Term of the leader that the node knows.", m.Term)
	gauge(p, "control_leader_policy_revision", "Newest policy revision that the leader has told of.", m.Revision)
	by(p, gaugeKind, "control_sources", "Sources that the node has or is letting go, by state.", "state", m.Sources)
	counter(p, "control_registrations_total", "Registrations with a new lease.", m.Registrations)
	counter(p, "control_lease_losses_total", "Leases lost: each one stopped the movable sources.", m.Losses)
	counter(p, "control_lease_renewals_total", "Renewals that were answered.", m.Renewals)
	counter(p, "control_exchanges_total", "Exchanges with the leader that were answered.", m.Exchanges)
	counter(p, "control_exchange_failures_total", "Exchanges that failed.", m.ExchangeErrors)
	counter(p, "control_stale_answers_total", "Answers of one who no longer led, not used.", m.StaleAnswers)
	counter(p, "control_grants_lapsed_total", "Times the grants ran out and the node went down to its floor.", m.GrantsLapsed)
	counter(p, "control_connections_cut_total", "Connections cut because their source was no longer the node's.", m.ConnectionsCut)
	counter(p, "control_watch_restarts_total", "Times a watch of etcd had to begin again.", m.WatchRestarts)
}

func (p printer) policy(m *PolicyMetrics) {
	gauge(p, "policy_connected", "1 while etcd is watched for new policy.", truth(m.Connected))
	gauge(p, "policy_age_seconds", "Time since etcd last answered.", m.Age)
	gauge(p, "policy_alarm", "1 while the policy in force is not the newest for a reason that a person should look at.", truth(m.Alarm))
	counter(p, "policy_applied_total", "Times a newer policy came into force.", m.Applied)
	counter(p, "policy_refused_total", "Revisions that were not valid here and not used.", m.Refused)
	counter(p, "policy_went_back_total", "Times etcd was found to hold an older policy.", m.WentBack)
	counter(p, "policy_forked_total", "Times etcd was found to have another history.", m.Forked)
	counter(p, "policy_save_failures_total", "Policies that could not be written to disk.", m.SaveFailed)
	counter(p, "policy_watch_restarts_total", "Times the watch for policy had to begin again.", m.Reconnected)
	counter(p, "steering_applied_total", "Changes of what the control plane decided about sources and tenants that came into force.", m.Steered)
	gauge(p, "steering_revision", "Revision of etcd at which what was decided stood as it is in force here.", m.SteeringRevision)
}

func (p printer) gossip(m *GossipMetrics) {
	gauge(p, "gossip_members", "Nodes that gossip, this one among them.", m.Members)
	gauge(p, "gossip_members_lost", "Nodes that do not answer and are looked for.", m.Lost)
	gauge(p, "gossip_warnings", "Warnings in force.", m.Warnings)
	gauge(p, "gossip_health_score", "0 is well; more: this node is slow to answer others.", m.Health)
	counter(p, "gossip_joins_total", "Nodes that came.", m.Joined)
	counter(p, "gossip_leaves_total", "Nodes that went.", m.Gone)
	counter(p, "gossip_members_refused_total", "Nodes not taken in: too many, or a bad name.", m.Refused)
	counter(p, "gossip_name_conflicts_total", "Words of a second node with a name that is taken.", m.Conflicts)
	counter(p, "gossip_join_failures_total", "Tries to reach a node that failed.", m.JoinsFailed)
	counter(p, "gossip_states_heard_total", "States of other nodes heard.", m.StatesHeard)
	counter(p, "gossip_warnings_sent_total", "Warnings sent.", m.WarningsSent)
	counter(p, "gossip_warnings_heard_total", "Warnings of other nodes heard.", m.WarningsHeard)
	counter(p, "gossip_warnings_repeated_total", "Warnings heard before, or sent again too soon.", m.Repeated)
	counter(p, "gossip_warnings_dropped_total", "Warnings dropped for want of room.", m.Dropped)
	counter(p, "gossip_unreadable_total", "Texts that were not understood.", m.Unreadable)
	counter(p, "gossip_foreign_total", "Texts that speak for nobody who is a member.", m.Foreign)
	counter(p, "gossip_complaints_total", "Warnings and errors of the gossip library: packets with another key, connections that fail.", m.Complaints)
}

func (p printer) attach(m *AttachMetrics) {
	gauge(p, "attach_addresses", "Addresses that the node has put on an interface.", m.Attached)
	counter(p, "attach_attaches_total", "Addresses attached.", m.Attaches)
	counter(p, "attach_detaches_total", "Addresses detached.", m.Detaches)
	counter(p, "attach_failures_total", "Attaches and detaches that failed.", m.Failures)
	counter(p, "attach_commands_total", "Programs run to attach or detach.", m.Commands)
	counter(p, "attach_announce_failures_total", "Addresses that could not be announced to the neighbours.", m.AnnounceFailed)
}
