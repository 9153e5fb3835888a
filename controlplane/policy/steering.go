package policy

import (
	"maps"
	"slices"
	"time"
)

// Steering is what the control plane has decided about sources at carriers and
// about tenants. It lies over policy: LimitsAt takes the lower of both. It is
// data that nobody writes to; a change is a new one.
type Steering struct {
	// Revision is that of etcd at which it stood so. It rises with each change, on a
	// node also when etcd itself went back.
	Revision int64
	Lanes    map[Steered]*Course
	Holds    map[Selector]*Held // on Tenant; Tenant and Carrier; Tenant and Stream; Tenant and Job
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

// States are all of them.
func States() []string {
	return []string{StateHealthy, StateWarming, StateSlowed, StateResting, StateBlocked, StateTrial, StateRetired}
}

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
	c.steering, c.base = x, s.whole()
	return &c
}

func (s *Set) whole() *Set {
	if s.base != nil {
		return s.base
	}
	return s
}

// SamePolicy reports whether two sets differ in nothing but their Steering: one
// was made from the other by WithSteering, or both from a third.
func (s *Set) SamePolicy(o *Set) bool { return o != nil && s.whole() == o.whole() }

// Steering are the decisions in force; nil is none.
func (s *Set) Steering() *Steering { return s.steering }

// CourseOf is what was decided about a source at a carrier's site; nil is nothing. What
// was decided for one site of the default carrier goes before what holds for all.
// Of a source that is to warm up, the first day counts until something was
// decided.
func (s *Set) CourseOf(carrier, site, source string) *Course {
	if s.Carriers[carrier] == nil {
		carrier = DefaultName
	}
	if s.steering != nil {
		if carrier == DefaultName && site != "" {
			if c := s.steering.Lanes[Steered{carrier, site, source}]; c != nil {
				return c
			}
		}
		if c := s.steering.Lanes[Steered{Carrier: carrier, Source: source}]; c != nil {
			return c
		}
	}
	if len(s.index.warming) == 0 {
		return nil
	}
	return s.undecided(carrier, source)
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

// Changes are what differs between two Steerings, in no order.
type Changes struct {
	Lanes []Steered
	Holds []Selector
}

// IsZero reports whether nothing differs.
func (c *Changes) IsZero() bool { return len(c.Lanes) == 0 && len(c.Holds) == 0 }

// Since are the changes from an older Steering to x; either may be nil.
func (x *Steering) Since(old *Steering) (c Changes) {
	if x == nil {
		x = &Steering{}
	}
	if old == nil {
		old = &Steering{}
	}
	c.Lanes = differing(old.Lanes, x.Lanes, (*Course).equal)
	c.Holds = differing(old.Holds, x.Holds, (*Held).equal)
	return c
}

func differing[K comparable, V any](a, b map[K]*V, equal func(x, y *V) bool) (keys []K) {
	for k, v := range b {
		if w := a[k]; w == nil || v != w && !equal(v, w) {
			keys = append(keys, k)
		}
	}
	for k := range a {
		if b[k] == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

func (c *Course) equal(o *Course) bool {
	x, y := *c, *o
	same := x.Rate == y.Rate || x.Rate != nil && y.Rate != nil && *x.Rate == *y.Rate
	x.Rate, y.Rate = nil, nil
	until := x.Rests.Time().Equal(y.Rests.Time())
	x.Rests, y.Rests = Instant{}, Instant{}
	return same && until && x == y
}

func (h *Held) equal(o *Held) bool {
	return h.Until.Time().Equal(o.Until.Time()) && h.Decision == o.Decision && h.Reason == o.Reason
}

// firstDay is a WarmUp, and what it allows before anything was decided.
type firstDay struct {
	w      *WarmUp
	course *Course
}

// firstDays are those of the policy, by source.
func (s *Set) firstDays() map[string][]firstDay {
	days := map[string][]firstDay{}
	if s.Reputation.Mode != ModeOn {
		return days
	}
	for _, name := range slices.Sorted(maps.Keys(s.WarmUps)) {
		w := s.WarmUps[name]
		days[w.Source] = append(days[w.Source], firstDay{w, &Course{State: StateWarming, PerDay: w.Days[0], Reason: "the first day of warm-up " + name + ", until the control plane has decided"}})
	}
	return days
}

// undecided is what holds for a source at a carrier while nothing was decided
// about it though it is to warm up: the first day's count. Between the policy
// that brings a source and the first decision about it nobody may send without a
// bound. nil is nothing.
func (s *Set) undecided(carrier, source string) *Course {
	for _, d := range s.index.warming[source] {
		if len(d.w.Carriers) == 0 || slices.Contains(d.w.Carriers, carrier) {
			return d.course
		}
	}
	return nil
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
