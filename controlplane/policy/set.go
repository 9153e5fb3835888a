package policy

import (
	"strings"
	"time"
)

// Set is one immutable snapshot of policy. Maps are keyed by resource name.
// New makes one complete: the tenant, stream, pool, source and carrier named
// "default" always exist in it, and fields that were left out hold their
// defaults (resources.go), so a reader needs no second look.
type Set struct {
	Revision    int64
	Tenants     map[string]*Tenant
	Streams     map[string]*Stream // "stream" or "tenant/stream"
	Pools       map[string]*Pool
	Sources     map[string]*Source
	Carriers    map[string]*Carrier
	Routes      map[string]*Route
	SigningKeys map[string]*SigningKey
	Throttles   map[string]*Throttle
	AdminKeys   map[string]*AdminKey
	ReplyRules  map[string]*ReplyRule
	WarmUps     map[string]*WarmUp
	Webhooks    map[string]*Webhook
	Reputation  *Reputation // the resource of this kind, or its defaults; never nil

	index    index
	steering *Steering // what was decided lies over it
	base     *Set      // the set as New made it; nil in that one
}

// Defaults of spec fields that are zero.
const (
	DefaultWeight                   = 10
	DefaultExpires                  = 72 * time.Hour
	DefaultDelayNotice              = 4 * time.Hour
	DefaultConnections              = 20
	DefaultMessagesPerConnection    = 1000
	DefaultRecipientsPerTransaction = 100
	DefaultIdleTimeout              = 5 * time.Second
	DefaultBackoff                  = 30 * time.Second
	MaxBackoff                      = 30 * time.Minute
	DefaultRetryJitter              = 10 // percent
)

// DefaultSchedule is the retry schedule of carriers that set none.
var DefaultSchedule = []Duration{
	Duration(5 * time.Minute), Duration(15 * time.Minute), Duration(30 * time.Minute),
	Duration(time.Hour), Duration(2 * time.Hour), Duration(4 * time.Hour),
}

type index struct {
	routeExact, routeSuffix     map[string]string // domain or ".suffix" → route name
	carrierExact, carrierSuffix map[string]string
	carrierMX                   map[string]string // ".suffix" → carrier name
	carrierNets                 networks
	throttles                   map[Selector]*Throttle
	warming                     map[string][]firstDay // by source
}

// StreamOf finds the stream "tenant/name", else "name"; nil when neither exists.
// The returned name is the key it was found under.
func (s *Set) StreamOf(tenant, name string) (*Stream, string) {
	if k := tenant + "/" + name; s.Streams[k] != nil {
		return s.Streams[k], k
	}
	return s.Streams[name], name
}

// RouteOf finds the route with the longest match for the domain (lower case,
// A-label); nil when there is none.
func (s *Set) RouteOf(domain string) (*Route, string) {
	name := lookup(domain, s.index.routeExact, s.index.routeSuffix)
	return s.Routes[name], name
}

// lookup tries the domain itself, then each parent's wildcard, then "*".
func lookup(domain string, exact, suffix map[string]string) string {
	if name, ok := exact[domain]; ok {
		return name
	}
	for d := domain; ; {
		i := strings.IndexByte(d, '.')
		if i < 0 {
			return suffix[""]
		}
		d = d[i+1:]
		if name, ok := suffix["."+d]; ok {
			return name
		}
	}
}

// StreamFor is the stream of a message: the one asked for, else the tenant's
// default, else "default". The name is the one to queue under, without the
// tenant. nil when the stream asked for does not exist.
func (s *Set) StreamFor(tenant, asked string) (*Stream, string) {
	if asked == "" {
		asked = DefaultName
		if t := s.Tenants[tenant]; t != nil && t.DefaultStream != "" {
			asked = t.DefaultStream
		}
	}
	st, _ := s.StreamOf(tenant, asked)
	if st == nil {
		return nil, ""
	}
	return st, asked
}

// PoolFor is the pool of a message: the one asked for, else the stream's, else
// the tenant's, else "default". "" when the pool asked for does not exist.
func (s *Set) PoolFor(tenant string, stream *Stream, asked string) string {
	switch t := s.Tenants[tenant]; {
	case asked != "":
		if s.Pools[asked] == nil {
			return ""
		}
		return asked
	case stream != nil && stream.Pool != "":
		return stream.Pool
	case t != nil && t.Pool != "":
		return t.Pool
	}
	return DefaultName
}

// RetryFor is the retry schedule in force: the stream's, else the carrier's,
// else the default carrier's.
func (s *Set) RetryFor(stream *Stream, carrier string) *Retry {
	if stream != nil && stream.Retry != nil {
		return stream.Retry
	}
	if c := s.Carriers[carrier]; c != nil && c.Retry != nil {
		return c.Retry
	}
	return s.Carriers[DefaultName].Retry
}

// SenderAllowed reports whether a tenant may send as a domain (lower case,
// A-label).
func (t *Tenant) SenderAllowed(domain string) bool {
	if len(t.SenderDomains) == 0 {
		return true
	}
	for _, p := range t.SenderDomains {
		if MatchDomain(p, domain) {
			return true
		}
	}
	return false
}
