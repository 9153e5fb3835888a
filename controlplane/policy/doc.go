// Package policy is what operators decide: tenants, streams, pools, sources,
// carriers, routes and signing keys, as plain data with Validate. It is a leaf:
// standard library only. A Set is one immutable snapshot of all of it; whoever
// changes policy makes a new Set.
//
// Read resources.go for the shapes, units.go for Rate, Duration and Network,
// set.go for how a message finds its stream, pool, route and carrier.
//
// The comments on the spec fields are the configuration reference: the docs are
// generated from them. Every field's json tag is its key in YAML.
package policy
