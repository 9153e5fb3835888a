// Package gossip tells the nodes of a cluster about each other without asking
// anyone: who is alive, how loaded each is, what waits there for which carrier,
// and early warnings ("carrier X refuses source Y"). It is built on memberlist,
// whose only user it is.
//
// INVARIANT: what is heard here is a hint. Ownership of sources, budgets and
// cancels never come from gossip; they come from etcd and the exchange. The
// worst that a false word does is a local brake of at most MaxWarning, or a wrong
// number on a page.
//
// # What is said, and how
//
//	alive, suspect, dead   memberlist's own; an alive message carries a node's
//	                       version and the start of its process (its boot)
//	state                  load, queued, drain and the longest queues of one node;
//	                       broadcast, the less often the more members there are
//	warning                sent to some members at once, and broadcast
//	everything known       states and warnings, when two members synchronise
//
// State and warning carry the boot and a number that rises with each. What has
// been taken once is not taken again: neither the copies that gossip makes nor a
// recording that somebody plays back (window.go). A warning carries the time
// it has left instead of a moment, since clocks may disagree.
//
// Encoded texts begin with a version and a kind (wire.go). What cannot be read,
// says too much, or speaks for nobody who is a member is counted and dropped.
//
// # Who is let in
//
// Everything is encrypted and authenticated with the first key of a ring (AES
// in GCM); any key of the ring opens it. A key is changed in three steps, each
// done on all nodes before the next: InstallKey, UseKey, RemoveKey. Without a
// key only loopback is listened on, where any process of the machine may take
// part. The cluster's name is part of what is authenticated: two clusters do not
// grow together, even with one key.
//
// # Keeping together
//
// memberlist forgets those who are long dead, so two halves of a cluster would
// stay apart for good. Here the addresses that were given (Options.Join, SetJoin)
// and those of members that were lost are tried again and again.
//
// # Goroutines
//
// Start starts two of its own, which Close stops and waits for: one calls
// OnWarning and tells the state, one joins. memberlist's are ended by Close,
// too, but it gives no way to wait for those that serve a connection: what they
// still bring is dropped.
//
// Bounds: MaxMembers members, MaxWarnings warnings, 256 of one node; a text of
// at most maxMessage bytes, a synchronisation of at most maxSync.
//
// Read gossip.go first, then members.go, warning.go, wire.go and keys.go.
package gossip
