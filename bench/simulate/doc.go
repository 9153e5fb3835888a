// Package simulate runs the pure parts of the control plane (controlplane/lease,
// allocate/sources, allocate/budgets) in a world of its own, for clusters far
// larger than this machine can run: a thousand nodes, ten thousand sources, three
// hundred carriers. Time is virtual, every choice comes from one seed, and two
// runs of the same seed are the same, event for event (Result.Hash).
//
// # The world
//
//	etcd       one linearizable store with leases and watches. A TTL is counted
//	           from the receipt of a renewal, looked at twice a second; a new
//	           leader of etcd begins all leases anew. Requests and replies are
//	           late or lost, so an outcome may be unknown (etcd.go)
//	controls   processes that elect a leader, which decides and takes reports
//	           (control.go)
//	nodes      register, renew, hold sources, make the exchange and send as much
//	           as they may (node.go, lane.go)
//	carriers   see every connect, MAIL and end of data (check.go)
//
// Each process has a monotonic clock of its own speed (up to MaxDrift) and a
// wall clock that is wrong; nodes' jump by days, those of controls are up to five
// minutes off, which daily counts allow for (budgets.Config). Processes stop and go on as by SIGSTOP,
// between two of their steps; are cut from etcd or from the leader, each way;
// hear replies late; die and start again on the same disk; are drained. Policy
// changes meanwhile (gremlin.go). Then everything heals, and what was safe must
// become live again.
//
// # What is checked, at every step and without a look into the product's state
//
//	I7  no source is used under one (node, epoch) after it was used under a later one
//	I8  the epochs that a carrier sees of a source never fall, nor do those in etcd
//	I9  in every window W: sent <= limit x W x (1 + MaxDrift) + burst; never more
//	    connections open than the limit; never more in 24 hours than the day's
//	    limit; all summed over nodes
//	    After healing: every source is held again in time, rates are used again
//
// A transaction that a process had begun, and that it ends after having been
// stopped past every deadline, is counted (Result.Residue) and is no violation:
// I7 speaks of the last MAIL, and nothing can call back what a kernel sends.
//
// A node may take a step only by what the product's code says (Keeper.Holds, the
// answer of the exchange), so a check that goes red is a fault of that code, of
// this model, or of the contract between the two. Break switches protections off
// one by one; the tests prove that the checks go red for each.
//
// Read simulate.go first, then engine.go, etcd.go, control.go, node.go, lane.go,
// check.go.
package simulate
