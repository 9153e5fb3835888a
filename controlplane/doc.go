// Package controlplane is the control plane process: one of them leads, elected
// through etcd, and decides which node holds which source and how much of each
// budget it may use; the others stand by, and ask the leader when the admin API
// asks them.
//
// Read control.go for New, Run and Close, election.go for how one becomes the
// leader and stops being it, office.go for a leader's term, tables.go for what
// it knows from etcd, guard.go for how it writes, members.go, sources.go and
// budgets.go for what it decides, server.go for the exchange with the nodes,
// cluster.go, orders.go and remote.go for the pictures and orders of the admin
// API, steering.go (and _write, _learnt, _homes, _orders) for what is decided
// about sources and tenants, gossipkeys.go for the ring of gossip keys, which needs
// no leader.
//
// # What it never does
//
// It never imports package node, never dials a node, and never writes policy
// but to delete throttles that have expired. It trusts no wall clock but for
// those, and for daily slots.
//
// # What is decided about sources and tenants
//
// What nodes report of replies goes to the controller (reputation/steer), which
// decides each second, and at once when a carrier blocks a source. What changed is
// written as one record a carrier (keyspace.Steering), with each decision and its
// reason; nodes follow those records by themselves. The leader shares out budgets
// by what stands in etcd, as nodes do, and not by what it means to write. What was
// learnt beyond that is kept sparingly, for the next leader.
//
// # A term
//
// An office is one term: from winning the key "leader" until its lease is given
// up or its deadline has passed. Nothing is carried over from one to the next;
// what counts is rebuilt from etcd and from the nodes' reports. It grants nothing
// above floors until each member has told what it holds or the last grant of its
// forerunner has run out, and it counts each quarantine from when it first saw
// it.
//
// INVARIANT: each write of a term is a transaction that compares the create
// revision of the leader key with the term's own, and the mod revision of each
// key that it changes with the one that the decision was made on. So one who no
// longer leads cannot write, though it may not know yet.
//
// INVARIANT: nothing is answered to a node after the deadline of the leader's
// own lease (package lease).
//
// INVARIANT: a source goes to a new holder only when the one before has said
// that it let go, or its registration has been gone for a quarantine, or it is
// the same data directory in a new process, which proves the old process dead.
// An address is given to nobody while the assignment of another name has it.
//
// INVARIANT: a registration that is there is a lease that lives, whether its
// record can be understood or not; what its node holds is not given away.
package controlplane
