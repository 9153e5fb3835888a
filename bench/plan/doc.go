// Package plan does the arithmetic of capacity: from what one message costs a
// node (measured) and what carriers allow each source (their limits), how many
// nodes and sending IP addresses a target needs, and what binds first.
//
// It is pure: numbers in, a Plan out. It measures nothing and knows nothing
// that it was not told; what it assumes beyond that is in Plan.Assumptions,
// each with its value.
//
// Two properties hold and are tested: a higher target never needs less, and a
// carrier that allows more never needs more.
//
// Read plan.go first; nodes.go and sources.go are its two halves; read.go takes
// costs from reports, carrier.go limits from profiles and policy, parse.go what
// people type.
package plan
