// Package replies is what one node makes of what remote servers say: it asks the
// rules what a reply means (package reputation), and counts the meanings for the
// leader, who decides for the whole cluster (package reputation/steer).
//
//	reply ──▶ Book.Judge ──▶ verdict ──▶ outcome of the recipient
//	             outcome is durable ──▶ Book.Count, Book.Sample ──▶ Book.Take, each second
//
// Sessions finish thousands of deliveries a second on all processors, so what is
// counted lies in parts with a lock each.
//
// INVARIANT: memory is bounded. What finds no room of its own is counted with
// less said about it (job, domain, stream, then site and tenant left out), so the
// sums over a source and a carrier stay true.
//
// A node does not wait for the leader where a source is plainly refused: Refused
// says when that is so, and the node stops the lane for some seconds and warns
// the others (gossip), while the decision is made. Where none comes, since there is
// no leader, the stops double up to a minute.
package replies
