package keyspace

import (
	"time"

	"hikyaku/controlplane/policy"
)

// TenantSteering is the carrier under which decisions about tenants lie.
const TenantSteering = " tenants"

// Steering is what was decided about the sources at one carrier, or about
// tenants. It is whole: what is not in it is not bounded.
type Steering struct {
	Lanes []SteeredLane `json:"lanes,omitempty"`
	Holds []SteeredHold `json:"holds,omitempty"`
}

// MaxSteered bounds the lanes, and the holds, of one record.
const MaxSteered = 4096

// SteeredLane is the course of one source at the carrier.
type SteeredLane struct {
	Site   string `json:"site,omitempty"` // at the default carrier
	Source string `json:"source"`
	policy.Course
}

// SteeredHold is a hold on a tenant, its mail for a carrier, a stream or a job.
type SteeredHold struct {
	Tenant  string `json:"tenant"`
	Carrier string `json:"carrier,omitempty"`
	Stream  string `json:"stream,omitempty"`
	Job     string `json:"job,omitempty"`
	policy.Held
}

// Merge makes one Steering of the records, by carrier.
func Merge(records map[string]Steering) *policy.Steering {
	s := &policy.Steering{Lanes: map[policy.Steered]*policy.Course{}, Holds: map[policy.Selector]*policy.Held{}}
	for carrier, r := range records {
		for i := range r.Lanes {
			l := &r.Lanes[i]
			s.Lanes[policy.Steered{Carrier: carrier, Site: l.Site, Source: l.Source}] = &l.Course
		}
		for i := range r.Holds {
			h := &r.Holds[i]
			s.Holds[policy.Selector{Tenant: h.Tenant, Carrier: h.Carrier, Stream: h.Stream, Job: h.Job}] = &h.Held
		}
	}
	return s
}

// Decision is one thing that was decided, for people and for the next leader.
type Decision struct {
	ID string    `json:"id"` // rises with time
	At time.Time `json:"at"`
	// What it is about: a source at a carrier (and site), or a tenant's scope.
	Carrier string `json:"carrier,omitempty"`
	Site    string `json:"site,omitempty"`
	Source  string `json:"source,omitempty"`
	Tenant  string `json:"tenant,omitempty"`
	Stream  string `json:"stream,omitempty"`
	Job     string `json:"job,omitempty"`
	// Action is slow, raise, rest, block, probation, recover, retire, warm-up-day,
	// warm-up-hold, warm-up-back, warm-up-done, hold, release, warn, undo.
	Action string `json:"action"`
	// From and To are the states, or rates, before and after.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Rule is the rule by which it was decided, and Why what was seen: counts,
	// thresholds, replies.
	Rule    string    `json:"rule"`
	Why     string    `json:"why"`
	Replies []string  `json:"replies,omitempty"` // at most 5
	Until   time.Time `json:"until,omitzero"`
	// DryRun: nothing followed.
	DryRun bool `json:"dry_run,omitempty"`
	// Undone says who took it back, and when.
	UndoneBy string    `json:"undone_by,omitempty"`
	UndoneAt time.Time `json:"undone_at,omitzero"`
	Term     int64     `json:"term,omitempty"` // of the leader
}

// Passing reports whether a decision is one of the many by which a rate follows
// what a carrier takes: what came of it is in force, or is over.
func (d *Decision) Passing() bool {
	switch d.Action {
	case "slow", "raise", "probation", "recover":
		return true
	case "rest":
		return d.Rule != "operator"
	}
	return false
}

// MaxDecisions is how many decisions are kept in etcd, of those that are passing,
// and of the others; the oldest go first. All are in the leader's log as well.
const MaxDecisions = 5000
