// Package suppress keeps the suppression list (spool/suppression) the same on
// all nodes, answers whether an address is on it, and feeds it. Every node has
// all of it, so that a check asks nobody.
//
// It never decides what a reply means (reputation does) and never writes policy.
// It needs neither leader nor etcd: the nodes that are known are asked, and stay
// known while etcd is away.
//
// # How an entry gets everywhere
//
//	A  Add, Remove, Feed: durable at A, confirmed
//	A  pokes the others                       POST /v1/suppressions/peer/poke
//	B  pulls what it lacks from A             POST /v1/suppressions/peer/pull
//	B  stores it, durable; C pulls from A, or from B
//
// Each node pulls from each other one every second, poked or not, whatever the
// origin of an operation is: what a dead node had told anybody reaches all. A
// question begins with a digest of what the asker has; with nothing new on either
// side that is all (204). A node that lacks more than the other's log goes back
// (new, or long away) reads the whole list from it (GET .../snapshot) and pulls on
// from there. What merging does is told in spool/suppression.
//
// The log is cut by what all nodes have that were seen within the last week; each
// tells by its questions and answers how far it is.
//
// # Bounds
//
// A parcel has about Options.ParcelBytes. One snapshot is read at a time, and
// maxSnapshots are written. Findings that wait to be stored are at most
// Options.Queue; more are dropped, counted, and read from the event log later, as
// is what a crash took (missed.go). A complaint, a late bounce or an unsubscribe is
// stored before it is confirmed (Note, FeedNow).
//
// Read list.go (what the node calls), missed.go, then follow.go (one goroutine for each other
// node) and serve.go (what it is asked).
package suppress
