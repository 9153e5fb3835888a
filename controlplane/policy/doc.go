// Package policy is what operators decide: tenants, streams, pools, sources,
// carriers, routes and signing keys, as plain data with validation. It is a
// leaf: standard library only. A Set is one immutable snapshot of all of it;
// whoever changes policy makes a new Set.
//
// Read resources.go for the shapes, units.go for Rate, Duration and Network,
// resource.go for what every resource has, validate.go for what is refused,
// build.go for how resources become a Set, set.go for how a message finds its
// stream, pool, route and carrier.
//
// The comments on the spec fields are the configuration reference: the docs are
// generated from them. Every field's json tag is its key in YAML.
//
// INVARIANT: a Set made by New is valid as a whole. Names it refers to exist,
// no two routes or carriers claim the same domain, every number is in its
// range. There is no partly valid policy.
package policy
