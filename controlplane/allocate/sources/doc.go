// Package sources decides which node holds which movable sending address. It is
// pure: one call of Step takes what stands in etcd and what the nodes have said,
// and returns the records to write. Each is guarded by the revision that was
// read, so a decision on stale data fails as a whole and is made again.
//
// # States of one source
//
//	       ┌──────────────── Released ────────────────┐
//	       ▼                                          │
//	Free ──────▶ Held ── drain, policy, balance ──▶ Releasing
//	              │ ▲                                 │
//	lease gone    │ │ quarantine over, epoch + 1      │ lease gone
//	              ▼ │                                 │
//	           Quarantined ◀──────────────────────────┘
//
// What has been released goes from Releasing straight to the next holder. A new
// incarnation of the holder (keyspace.Registration.Replaces names the lease by
// which the source is held) proves that the process before it is dead, and gets
// its sources back at once.
//
// # What is always true
//
//   - A source is Held by one node, and goes to another only after the holder has
//     said that it let go, or after its lease has been gone for the quarantine.
//     A leader that has not seen the lease go waits a whole TTL longer.
//   - Epoch rises with each holder and never falls. A record is kept as Free when
//     its source has left the policy, so that it goes on from there if it returns.
//   - Releasing is never taken back: the node may have let go already, and does
//     not use a source again under the same epoch.
//
// # Where a source goes
//
// Each node's number of sources follows its capacity: a source goes where one
// more weighs least ((2n+1)/capacity), among equals to the node with the fewest
// sources of the same pools, then to the one with the most mail waiting for
// them. With equal capacities and no labels the numbers differ by at most one.
//
// Balance moves a source only if that makes the sum of squares smaller, so it
// comes to an end by itself: first of sources per node, then of sources of a
// pool per node (by a move, or by two nodes exchanging sources). It is slow on
// purpose: a source stays MinHold with its holder, a node gets none for balance
// before it has lived for Settle, and there is a bound per minute. A node that
// dies, drains or no longer fits is another thing: that is done at once.
//
// Read sources.go first, then state.go.
package sources
