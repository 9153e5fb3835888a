// Package exchange is what a node and the leader tell each other once a second:
// a Report goes up, an Answer comes down (docs/design.md, "The way of a signal
// and a grant"). It is a leaf: standard library only; both sides, the scheduler
// and the simulator share its words. Append and Decode (codec.go) give them
// their form on the wire; /v1/exchange on the leader's peer address takes it by
// POST.
//
// # How a budget stays whole
//
// A budget that spans nodes is never copied, it is split. The leader gives each
// node a share of the rate, a part of the burst, of the connections, and
// permits of the day's count. A share is a part of whatever policy says, so a
// new rate holds on all nodes as soon as they have the new policy, and no
// exchange is needed for it.
//
// An Answer replaces all that the one before it granted. Until the node has
// confirmed it (Report.Applied), or until its validity has run out, the leader
// counts for each scope the largest of what it has granted since the last
// confirmed one. What one node loses another gets only after that.
//
// A grant ends on the node's own monotonic clock, Answer.TTL after the node SENT
// the report that it answers; the leader counts from the report's arrival,
// which is later. Then the node is down to its floor: a share of everything that
// is always its own, kept in etcd and on its disk (keyspace.Member.Floor). Shares
// in an Answer include the floor.
//
// A new leader grants nothing above the floors until each member has told what
// it holds (the Holding part of Demand), or until what the old leader may have
// granted has run out.
package exchange
