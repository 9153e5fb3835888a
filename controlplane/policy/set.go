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

	index index
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
	carrierMX                   []suffixOwner // longest suffix first
}

type suffixOwner struct{ suffix, carrier string }

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

// CarrierOf names the carrier of a site: by recipient domain, else by the MX
// host names (lower case, no trailing dot), all of which must match, else
// "default".
func (s *Set) CarrierOf(domain string, mx []string) string {
	if name := lookup(domain, s.index.carrierExact, s.index.carrierSuffix); name != "" {
		return name
	}
	found := ""
	for i, host := range mx {
		name := s.carrierOfHost(host)
		if name == "" || (i > 0 && name != found) {
			return DefaultName
		}
		found = name
	}
	if found == "" {
		return DefaultName
	}
	return found
}

func (s *Set) carrierOfHost(host string) string {
	for _, o := range s.index.carrierMX {
		if strings.HasSuffix(host, o.suffix) || host == o.suffix[1:] {
			return o.carrier
		}
	}
	return ""
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
