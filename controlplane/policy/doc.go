// Package policy is what operators decide: tenants, streams, pools, sources,
// carriers, routes, signing keys, throttles and admin keys, as plain data with
// validation. It is a leaf: standard library only. A Set is one immutable snapshot of all of it;
// whoever changes policy makes a new Set.
//
// Read resources.go (and resources_source.go, resources_admin.go) for the shapes,
// units.go for Rate, Duration, Instant and Network, resource.go for what every resource has, validate.go for what is refused,
// build.go for how resources become a Set, set.go and carrier.go for how a message finds its
// stream, pool, route and carrier, limits.go for the limits in force.
//
// # Limits in force
//
// A limit stands on a scope, which a Selector names: a carrier, a tenant's
// stream, one source at a carrier and so on. Set.LimitsAt is the one place that
// says which limits hold there at a time: those of the resource, with those of a
// Throttle in their place until it expires. Between two expiries the answer does
// not change, so whoever enforces limits asks for each scope when it gets a new
// Set, and again at Set.NextExpiry; never for each message. SpanningAt leaves out
// what the one holder of a source enforces alone; the rest is granted in shares.
//
// Each node and the leader look at their own clock for an expiry. While clocks
// disagree, some nodes take their shares of the throttle's limit and some of the
// one beneath it: together no more than the larger of the two.
//
// The comments on the spec fields are the configuration reference: the docs are
// generated from them. Every field's json tag is its key in YAML.
//
// INVARIANT: a Set made by New is valid as a whole. Names it refers to exist,
// no two routes or carriers claim the same domain, every number is in its
// range. There is no partly valid policy.
package policy
