// Package budgets splits each budget that spans nodes among them. It is pure: a
// Ledger is fed with reports (package exchange), members and daily counts, and
// gives answers and what has to be written to etcd. The time comes in as an
// argument; only differences of it count, so no jump of a wall clock matters
// while a leader is in office.
//
// # What is always true
//
//   - For each scope, the sum over all nodes of what they may believe they have
//     (share, burst, burst of connections, connections) is at most the whole. A
//     node may believe in its floor, in the last answer that it has confirmed,
//     and in every later one until GrantTTL has passed since the report that it
//     answers arrived. What one loses another gets only after that.
//   - A connection that is open counts until it is reported closed, or until its
//     node has been silent for ConnectionLinger: then the carrier has closed it.
//   - A permit of a daily budget is given only when etcd holds the record that
//     counts it. It counts until 24 hours after the last moment at which it can
//     have been used.
//   - A new leader gives nobody more than it already had until every member has
//     confirmed an answer of this term, or GrantTTL has passed.
//
// # How a budget is shared
//
// Max-min fair by demand: nobody gets more than it wants while another wants
// more than it has. What is wanted follows from what was used, smoothed over two
// or three exchanges, and from the backlog. What nobody wants is head room,
// split evenly among nodes that used the scope lately, but for an eighth, which
// stays free so that a newcomer has something at its first report.
//
// A share without a part of the burst is of no use, so bursts are split first
// one to each node that wants to send, and the rest in proportion to shares.
// Where the burst (or the connections) is smaller than the number of nodes that
// want to send, they take turns of Turn, or of as long as four messages take if
// that is longer, in the order in which they came to wait.
//
// # Floors
//
// Each member has a floor (keyspace.Member): one alone has all, n of them a tenth
// over n. A floor is lowered first on the node's disk, then in etcd; raised first
// in etcd. See floor.go for what daily counts have to do with it.
//
// Read ledger.go, then report.go, demand.go, turn.go, permit.go, floor.go.
package budgets
