// Package state is the cluster as people see it: nodes, sources, grants, leases
// and the leader, as plain data for API, CLI and console, and Cluster, the
// interface by which the admin API asks and orders. Package controlplane
// implements it. It is words only: no etcd, no HTTP, no policy.
//
// Everything here is a picture of one moment. Ages are spans and not times, so
// that a reader's clock does not matter. Orders (Drain, Move, Remove) return when
// they are written down, not when they are done; the pictures show how far they
// are.
//
// Read state.go for the pictures, cluster.go for the interface and its errors.
package state
