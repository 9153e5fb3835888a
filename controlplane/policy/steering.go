package policy

import "time"

// Steering is what the control plane has decided about sources at carriers and
// about tenants. It lies over policy: LimitsAt takes the lower of both. It is
// data that nobody writes to; a change is a new one.
type Steering struct {
	Lanes map[Steered]*Course
	Holds map[Selector]*Held // on Tenant; Tenant and Carrier; Tenant and Stream; Tenant and Job
}

// Steered names a source at a carrier; at the default carrier, at one of its
// sites, where Site "" means all of them.
type Steered struct{ Carrier, Site, Source string }

// Course is what was decided about a source at a carrier. Zero fields bound
// nothing.
type Course struct {
	State       string `json:"state"` // one of the States below
	Rate        *Rate  `json:"rate,omitempty"`
	Connections int    `json:"connections,omitempty"`
	PerDay      int64  `json:"per_day,omitempty"`
	// Rests until this time: no connection, no mail.
	Rests    Instant `json:"rests,omitzero"`
	Decision string  `json:"decision,omitempty"` // its id
	Reason   string  `json:"reason,omitempty"`
}

// The states of a source at a carrier.
const (
	StateHealthy = "healthy" // nothing bounds it but policy
	StateWarming = "warming" // within the day's count of its WarmUp
	StateSlowed  = "slowed"  // below what policy allows, rising
	StateResting = "resting" // paused after too many signs of throttling
	StateBlocked = "blocked" // the carrier refuses it; probation follows
	StateTrial   = "probation"
	StateRetired = "retired" // until an operator says otherwise
)

// Held says that a tenant's mail, or part of it, waits.
type Held struct {
	Until    Instant `json:"until"`
	Decision string  `json:"decision,omitempty"`
	Reason   string  `json:"reason,omitempty"`
}

// Resting reports whether nothing may go at time t.
func (c *Course) Resting(t time.Time) bool {
	return c != nil && (c.State == StateRetired || !c.Rests.IsZero() && t.Before(c.Rests.Time()))
}

// WithSteering is the same policy under other decisions.
func (s *Set) WithSteering(x *Steering) *Set {
	c := *s
	c.steering = x
	return &c
}

// Steering are the decisions in force; nil is none.
func (s *Set) Steering() *Steering { return s.steering }

// CourseOf is what was decided about a source at a carrier's site; nil is nothing. What
// was decided for one site of the default carrier goes before what holds for all.
func (s *Set) CourseOf(carrier, site, source string) *Course {
	if s.steering == nil {
		return nil
	}
	if s.Carriers[carrier] == nil {
		carrier = DefaultName
	}
	if carrier == DefaultName && site != "" {
		if c := s.steering.Lanes[Steered{carrier, site, source}]; c != nil {
			return c
		}
	}
	return s.steering.Lanes[Steered{Carrier: carrier, Source: source}]
}

// HeldAt is the hold on a tenant's mail at time t that ends last of those on the
// tenant, on it at the carrier, on its stream and on its job; nil is none.
func (s *Set) HeldAt(t time.Time, tenant, carrier, stream, job string) *Held {
	if s.steering == nil || len(s.steering.Holds) == 0 {
		return nil
	}
	var last *Held
	for _, on := range [...]Selector{
		{Tenant: tenant}, {Tenant: tenant, Carrier: carrier}, {Tenant: tenant, Stream: stream}, {Tenant: tenant, Job: job},
	} {
		if h := s.steering.Holds[on]; h != nil && t.Before(h.Until.Time()) && (last == nil || h.Until.Time().After(last.Until.Time())) {
			last = h
		}
	}
	return last
}

// CappedBy is the lower of the limits and of what was decided.
func (l Limits) CappedBy(c *Course) Limits {
	if c == nil {
		return l
	}
	if c.Rate != nil && (l.Rate == nil || slower(c.Rate, l.Rate)) {
		l.Rate = c.Rate
	}
	if c.PerDay > 0 && (l.PerDay == 0 || c.PerDay < l.PerDay) {
		l.PerDay = c.PerDay
	}
	if c.Connections > 0 && (l.Connections == 0 || c.Connections < l.Connections) {
		l.Connections = c.Connections
	}
	return l
}

// slower compares two rates.
func slower(a, b *Rate) bool {
	return float64(a.N)*float64(b.Per) < float64(b.N)*float64(a.Per)
}
