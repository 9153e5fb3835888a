package policy

import (
	"maps"
	"slices"
	"strings"
)

// New validates resources as a whole and makes a Set of them. The resources'
// specs are copied, so their owner may go on using them. The Set is nil when
// there are problems.
func New(resources []Resource) (*Set, Problems) {
	s := &Set{
		Tenants:     map[string]*Tenant{},
		Streams:     map[string]*Stream{},
		Pools:       map[string]*Pool{},
		Sources:     map[string]*Source{},
		Carriers:    map[string]*Carrier{},
		Routes:      map[string]*Route{},
		SigningKeys: map[string]*SigningKey{},
		Throttles:   map[string]*Throttle{},
		AdminKeys:   map[string]*AdminKey{},
		ReplyRules:  map[string]*ReplyRule{},
		WarmUps:     map[string]*WarmUp{},
		Webhooks:    map[string]*Webhook{},
	}
	v := &validation{set: s}
	for i := range resources {
		v.add(&resources[i])
	}
	s.fillDefaults()
	// A second pass, since a resource may refer to one that comes after it.
	for i := range resources {
		v.check(&resources[i])
	}
	if len(v.problems) > 0 {
		return nil, v.problems
	}
	s.buildIndex()
	return s, nil
}

// add puts one resource into the set, if its kind and name allow that.
func (v *validation) add(r *Resource) {
	v.at(r)
	if NewSpec(r.Kind) == nil {
		v.bad("kind", "unknown kind %q; the kinds are %s", r.Kind, strings.Join(Kinds(), ", "))
		return
	}
	v.checkResourceName(r)
	switch spec := r.Spec.(type) {
	case *Tenant:
		put(v, r, KindTenant, v.set.Tenants, spec)
	case *Stream:
		put(v, r, KindStream, v.set.Streams, spec)
	case *Pool:
		put(v, r, KindPool, v.set.Pools, spec)
	case *Source:
		put(v, r, KindSource, v.set.Sources, spec)
	case *Carrier:
		put(v, r, KindCarrier, v.set.Carriers, spec)
	case *Route:
		put(v, r, KindRoute, v.set.Routes, spec)
	case *SigningKey:
		put(v, r, KindSigningKey, v.set.SigningKeys, spec)
	case *Throttle:
		put(v, r, KindThrottle, v.set.Throttles, spec)
	case *AdminKey:
		put(v, r, KindAdminKey, v.set.AdminKeys, spec)
	case *ReplyRule:
		put(v, r, KindReplyRule, v.set.ReplyRules, spec)
	case *WarmUp:
		put(v, r, KindWarmUp, v.set.WarmUps, spec)
	case *Webhook:
		put(v, r, KindWebhook, v.set.Webhooks, spec)
	case *Reputation:
		one := map[string]*Reputation{}
		if v.set.Reputation != nil {
			one[DefaultName] = v.set.Reputation
		}
		if put(v, r, KindReputation, one, spec); r.Name != DefaultName {
			v.bad("name", "there is one resource of this kind, named %q", DefaultName)
		} else {
			v.set.Reputation = one[r.Name]
		}
	default:
		v.bad("spec", "a %s needs a spec; write spec: {} for all defaults", r.Kind)
	}
}

func put[T any](v *validation, r *Resource, kind string, into map[string]*T, spec *T) {
	switch {
	case r.Kind != kind:
		v.bad("spec", "BUG: the spec is that of a %s", kind)
	case spec == nil:
		v.bad("spec", "a %s needs a spec; write spec: {} for all defaults", kind)
	case into[r.Name] != nil:
		v.bad("name", "there are two of this kind and name; leave one out")
	default:
		c := *spec
		into[r.Name] = &c
	}
}

// fillDefaults adds the resources that always exist and sets the fields that
// were left out.
func (s *Set) fillDefaults() {
	ensure(s.Tenants)
	ensure(s.Streams)
	ensure(s.Sources)
	ensure(s.Carriers)
	if s.Pools[DefaultName] == nil {
		s.Pools[DefaultName] = &Pool{Sources: []PoolMember{{Name: DefaultName}}}
	}
	if s.Reputation == nil {
		s.Reputation = new(Reputation)
	}
	s.fillReputation()
	for _, t := range s.Tenants {
		orDefault(&t.Weight, DefaultWeight)
		orDefault(&t.DSN, DSNFailure)
		t.Carriers = maps.Clone(t.Carriers)
	}
	for _, st := range s.Streams {
		orDefault(&st.Priority, "normal")
		orDefault(&st.Expires, Duration(DefaultExpires))
		orDefault(&st.DelayNotice, Duration(DefaultDelayNotice))
		orDefault(&st.Weight, DefaultWeight)
		st.Retry = st.Retry.filled()
		st.Windows = slices.Clone(st.Windows)
		for i := range st.Windows {
			orDefault(&st.Windows[i].TZ, "UTC")
		}
	}
	for _, p := range s.Pools {
		p.Sources = slices.Clone(p.Sources)
		for i := range p.Sources {
			orDefault(&p.Sources[i].Weight, DefaultWeight)
		}
	}
	for _, so := range s.Sources {
		orDefault(&so.Attach, AttachNone)
		so.Labels = maps.Clone(so.Labels)
	}
	for _, c := range s.Carriers {
		c.PerPool = maps.Clone(c.PerPool)
		orDefault(&c.PerSource.Connections, DefaultConnections)
		orDefault(&c.MessagesPerConnection, DefaultMessagesPerConnection)
		orDefault(&c.RecipientsPerTransaction, DefaultRecipientsPerTransaction)
		orDefault(&c.IdleTimeout, Duration(DefaultIdleTimeout))
		orDefault(&c.Backoff, Duration(DefaultBackoff))
		orDefault(&c.TLS, TLSOpportunistic)
		orDefault(&c.Addresses, AddressesAny)
		if c.Retry == nil {
			c.Retry = s.Carriers[DefaultName].Retry
		}
		if c.Retry == nil {
			c.Retry = &Retry{}
		}
		c.Retry = c.Retry.filled() // filling twice changes nothing, so the order of carriers does not matter
	}
}

// filled is a copy with defaults set; nil stays nil.
func (r *Retry) filled() *Retry {
	if r == nil {
		return nil
	}
	c := *r
	if len(c.Schedule) == 0 {
		c.Schedule = slices.Clone(DefaultSchedule)
	}
	if c.Jitter == nil {
		jitter := DefaultRetryJitter
		c.Jitter = &jitter
	}
	return &c
}

func ensure[T any](m map[string]*T) {
	if m[DefaultName] == nil {
		m[DefaultName] = new(T)
	}
}

func orDefault[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// buildIndex prepares RouteOf, CarrierOf and LimitsAt. It runs on a valid set only, so no
// pattern has two owners.
func (s *Set) buildIndex() {
	s.index = index{
		routeExact: map[string]string{}, routeSuffix: map[string]string{},
		carrierExact: map[string]string{}, carrierSuffix: map[string]string{}, carrierMX: map[string]string{},
		throttles: make(map[Selector]*Throttle, len(s.Throttles)),
	}
	for _, t := range s.Throttles {
		s.index.throttles[t.On()] = t
	}
	s.index.warming = s.firstDays()
	for name, r := range s.Routes {
		for _, d := range r.Domains {
			addPattern(d, name, s.index.routeExact, s.index.routeSuffix)
		}
	}
	for name, c := range s.Carriers {
		if c.Disabled {
			continue
		}
		for _, d := range c.Domains {
			addPattern(d, name, s.index.carrierExact, s.index.carrierSuffix)
		}
		for _, m := range c.MX {
			s.index.carrierMX[mxSuffix(m)] = name
		}
		for _, n := range c.MXNetworks {
			s.index.carrierNets.add(n.Prefix, name)
		}
	}
}

// addPattern files "example.com" as exact, "*.example.com" as ".example.com"
// and "*" as "".
func addPattern(pattern, owner string, exact, suffix map[string]string) {
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		suffix[rest] = owner
		return
	}
	exact[pattern] = owner
}

// mxSuffix gives a suffix its leading dot, so that ".example.com" never matches
// "notexample.com".
func mxSuffix(s string) string {
	if strings.HasPrefix(s, ".") {
		return s
	}
	return "." + s
}
