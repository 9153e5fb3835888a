package policy

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Selector names what a budget stands on. Which fields are set says what kind of
// thing it is:
//
//	Carrier            all sources together; at the default carrier, each site for itself
//	Carrier, Pool      the sources of a pool together; likewise
//	Carrier, Source    one source; likewise
//	Tenant             one tenant, over all carriers
//	Tenant, Carrier    one tenant at one carrier
//	Tenant, Stream     one stream of a tenant
//	Tenant, Job        one job of a tenant
//
// They are the fields of exchange.Scope but for its Site, on which no limit of
// policy depends.
type Selector struct {
	Carrier, Pool, Source, Tenant, Stream, Job string
}

// valid reports whether the fields that are set make one of the kinds.
func (x Selector) valid() bool {
	narrow := 0
	for _, s := range [...]string{x.Pool, x.Source, x.Stream, x.Job} {
		if s != "" {
			narrow++
		}
	}
	ofCarrier := x.Pool != "" || x.Source != ""
	ofTenant := x.Stream != "" || x.Job != ""
	switch {
	case x.Tenant == "":
		return x.Carrier != "" && narrow <= 1 && !ofTenant
	case x.Carrier == "":
		return narrow <= 1 && !ofCarrier
	}
	return narrow == 0
}

// String is "carrier docomo, pool bulk".
func (x Selector) String() string {
	var b strings.Builder
	for _, f := range [...][2]string{{"tenant ", x.Tenant}, {"carrier ", x.Carrier}, {"pool ", x.Pool}, {"source ", x.Source}, {"stream ", x.Stream}, {"job ", x.Job}} {
		if f[1] == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f[0] + f[1])
	}
	return b.String()
}

// On is the scope of the throttle.
func (t *Throttle) On() Selector {
	return Selector{t.Carrier, t.Pool, t.Source, t.Tenant, t.Stream, t.Job}
}

// Limits are those that the throttle sets.
func (t *Throttle) Limits() Limits {
	return Limits{Rate: t.Rate, PerDay: t.PerDay, Connections: t.Connections, ConnectionRate: t.ConnectionRate}
}

// IsZero reports whether nothing is limited.
func (l Limits) IsZero() bool { return l == Limits{} }

// replacedBy is l with the limits that o gives in place of its own.
func (l Limits) replacedBy(o Limits) Limits {
	if o.Rate != nil {
		l.Rate = o.Rate
	}
	if o.PerDay != 0 {
		l.PerDay = o.PerDay
	}
	if o.Connections != 0 {
		l.Connections = o.Connections
	}
	if o.ConnectionRate != nil {
		l.ConnectionRate = o.ConnectionRate
	}
	return l
}

// LimitsAt are the limits that hold on a scope at time t: those of its resource,
// on a source not more than what was decided about it at the carrier, and those
// of a throttle that has not expired in their place: an operator's word goes
// before what was learnt. Everything that enforces or shares out a limit asks
// here, and nowhere else.
//
// The answer changes only with the Set and at NextExpiry, so it can be kept
// until then. A carrier that is not in the set counts as the default carrier, as
// CarrierOf has it. Asking allocates nothing; the Rates belong to the set.
func (s *Set) LimitsAt(t time.Time, on Selector) Limits { return s.LimitsAtSite(t, on, "") }

// LimitsAtSite is LimitsAt at one site. Limits of policy do not depend on it, but
// at the default carrier, which is not one provider, what was decided about a
// source may.
func (s *Set) LimitsAtSite(t time.Time, on Selector, site string) Limits {
	if on.Carrier != "" && s.Carriers[on.Carrier] == nil {
		on.Carrier = DefaultName
	}
	l := s.ownLimits(on)
	if on.Source != "" {
		l = l.CappedBy(s.CourseOf(on.Carrier, site, on.Source))
	}
	if th := s.index.throttles[on]; th != nil && !th.Expires.Reached(t) {
		return l.replacedBy(th.Limits())
	}
	return l
}

// ownLimits are those that a scope has without throttles.
func (s *Set) ownLimits(on Selector) Limits {
	switch {
	case on.Tenant == "":
		c := s.Carriers[on.Carrier]
		switch {
		case c == nil:
			return Limits{}
		case on.Pool != "":
			return c.PerPool[on.Pool]
		case on.Source != "":
			return c.PerSource
		}
		return c.Limits
	case on.Job != "":
		return Limits{}
	case on.Stream != "":
		if st, _ := s.StreamOf(on.Tenant, on.Stream); st != nil {
			return Limits{Rate: st.Rate, PerDay: st.PerDay}
		}
		return Limits{}
	}
	te := s.Tenants[on.Tenant]
	switch {
	case te == nil:
		return Limits{}
	case on.Carrier != "":
		q := te.Carriers[on.Carrier]
		return Limits{Rate: q.Rate, PerDay: q.PerDay}
	}
	return Limits{Rate: te.Rate, PerDay: te.PerDay}
}

// SpanningAt is the part of LimitsAtSite that several nodes have to share, and so
// have to be granted. Of one source's limits that is the daily count alone,
// which moves with the source from node to node; the others are for the one
// node that holds it. A source that cannot move shares nothing.
func (s *Set) SpanningAt(t time.Time, on Selector, site string) Limits {
	l := s.LimitsAtSite(t, on, site)
	if on.Source == "" {
		return l
	}
	if so := s.Sources[on.Source]; so == nil || !so.Movable() {
		return Limits{}
	}
	return Limits{PerDay: l.PerDay}
}

// Daily reports whether any scope has a limit of a day at time t that nodes
// have to share.
func (s *Set) Daily(t time.Time) bool {
	for _, l := range s.Spanning(t) {
		if l.PerDay > 0 {
			return true
		}
	}
	if len(s.index.warming) > 0 {
		return true
	}
	if s.steering != nil {
		for _, c := range s.steering.Lanes {
			if c.PerDay > 0 {
				return true
			}
		}
	}
	return false
}

// NextExpiry is the first time after t at which LimitsAt changes by itself; zero
// when it does not.
func (s *Set) NextExpiry(t time.Time) time.Time {
	var next time.Time
	for _, th := range s.Throttles {
		if e := th.Expires; !e.IsZero() && e.Time().After(t) && (next.IsZero() || e.Time().Before(next)) {
			next = e.Time()
		}
	}
	return next
}

// Expired names the throttles that have expired by t, in order. The control
// plane deletes them.
func (s *Set) Expired(t time.Time) []string {
	var names []string
	for name, th := range s.Throttles {
		if th.Expires.Reached(t) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Spanning goes over all scopes that policy itself names and that have a limit at time
// t which nodes have to share, each with that limit: the most that demand can
// be about. The order is the same each time. A stream of all tenants has a
// scope for each tenant; a limit on each source has one for each that can move.
func (s *Set) Spanning(t time.Time) iter.Seq2[Selector, Limits] {
	return func(yield func(Selector, Limits) bool) {
		told := func(on Selector) bool {
			l := s.SpanningAt(t, on, "")
			return l.IsZero() || yield(on, l)
		}
		if !s.eachOfPolicy(told) {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(s.Throttles)) {
			on := s.Throttles[name].On()
			// Others have been told with their throttle.
			if s.listed(on) {
				continue
			}
			if !told(on) {
				return
			}
		}
	}
}

// listed reports whether eachOfPolicy goes over the scope.
func (s *Set) listed(on Selector) bool {
	if on.Source != "" {
		return s.Carriers[on.Carrier].PerSource.PerDay > 0
	}
	if on.Pool != "" {
		_, ok := s.Carriers[on.Carrier].PerPool[on.Pool]
		return ok
	}
	if on.Tenant != "" && on.Carrier != "" {
		_, ok := s.Tenants[on.Tenant].Carriers[on.Carrier]
		return ok
	}
	return on.Job == ""
}

// eachOfPolicy goes over the scopes that resources other than throttles name,
// until f says no, which it reports.
func (s *Set) eachOfPolicy(f func(Selector) bool) bool {
	sources := slices.Sorted(maps.Keys(s.Sources))
	for _, name := range slices.Sorted(maps.Keys(s.Carriers)) {
		c := s.Carriers[name]
		if !f(Selector{Carrier: name}) {
			return false
		}
		for _, pool := range slices.Sorted(maps.Keys(c.PerPool)) {
			if !f(Selector{Carrier: name, Pool: pool}) {
				return false
			}
		}
		if c.PerSource.PerDay == 0 {
			continue
		}
		for _, source := range sources {
			if !f(Selector{Carrier: name, Source: source}) {
				return false
			}
		}
	}
	streams := s.streamsWithoutTenant()
	for _, name := range slices.Sorted(maps.Keys(s.Tenants)) {
		if !f(Selector{Tenant: name}) {
			return false
		}
		for _, carrier := range slices.Sorted(maps.Keys(s.Tenants[name].Carriers)) {
			if !f(Selector{Tenant: name, Carrier: carrier}) {
				return false
			}
		}
		for _, stream := range streams {
			if !f(Selector{Tenant: name, Stream: stream}) {
				return false
			}
		}
	}
	return true
}

// streamsWithoutTenant are the names by which queues know the streams.
func (s *Set) streamsWithoutTenant() []string {
	names := map[string]bool{}
	for name := range s.Streams {
		if _, own, ok := strings.Cut(name, "/"); ok {
			name = own
		}
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}
