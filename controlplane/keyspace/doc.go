// Package keyspace is what control plane and nodes write for each other in
// etcd: the names of the keys, the records behind them, and how a secret is
// sealed. It is a leaf: standard library only. Neither side knows the other's
// code; they agree here.
//
// # Keys
//
// All lie under a prefix, "/hikyaku/" unless configured otherwise.
//
//	cluster                  Cluster: written once; who it is, so that a node cannot join the wrong one
//	policy/head              Head: the revision in force
//	policy/base/<rev 20>     Base: where a whole policy lies, from time to time
//	policy/base/<rev 20>/<id>-<part>  its packed records, in parts of 1 MiB
//	policy/delta/<rev 20>    what one revision changed, with author and reason: history and audit
//	audit/<seq 20>           what was ordered beside policy: holds, cancels, drains, keys rotated
//	leader                   Leader: bound to the leader's lease
//	nodes/<node>             Registration: bound to the node's lease; its absence is the node's death
//	members/<node>           Member: every node that ever joined, until it is removed
//	sources/<source>         Assignment: who holds a sending address, with its epoch
//	days/<scope>             Day: how much of a daily budget has been given out
//	steering/<carrier>       Steering: what was decided about the carrier's sources
//	steering/ tenants        the same about tenants: a name that no carrier can have
//	decisions/<id>           Decision: what, why, by which rule, until when
//	learnt/<carrier>         Learnt: the leader's counts, from time to time, for the next leader
//	gossip                   the gossip key ring, sealed
//
// # Who writes what
//
// A node writes its own registration and nothing else. Members, assignments, days,
// steering, decisions and what was learnt are the leader's; each of its writes is a transaction that compares the
// create revision of the leader key with its own, so that one who is no longer
// leader cannot write, and the mod revision of what it changes. Policy and audit
// are written by whoever serves the admin API, guarded by policy/head's and the
// last audit record's mod revision.
//
// Records are JSON. A reader ignores fields it does not know and keeps to
// Protocol: versions N and N-1 understand each other.
package keyspace
