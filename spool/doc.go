// Package spool answers "where is my message?". It is the durable store of one
// node: what is in it survives a crash, what was never acknowledged may not.
// It is built on Pebble and is the only user of it.
//
// It never decides when or where anything is sent, never speaks to a peer, and
// never deletes what it cannot read.
//
// Read in this order: key.go (what lies where), append.go (the way in),
// transition.go (the way on and out), commit.go, pick.go and company.go (how both become
// durable), read.go (how the scheduler gets its pages), status.go, outbox.go, jobs.go,
// quarantine.go, space.go (when to refuse), offline.go (the tools); transfer.go,
// transfer_parcel.go and transfer_receive.go (from one spool to another).
//
// # States
//
// A delivery is queued (it has a queue record, an index entry and its message's
// content) or it has ended (it has none of them; its recipients' end states are
// kept for StatusRetention). Append makes deliveries queued. A Transition moves
// one: recipients reach their end states, the rest is queued again at another
// time, or nothing is left. Both are one atomic batch together with their
// events, job counters and the notices they give birth to.
//
// A queued delivery can be offered to another node (BeginTransfer). It is still
// queued and counted here, but no page shows it and no Transition changes it
// until it is known who has it: then it has gone (FinishTransfer) or is as it
// was (ReturnTransfer). Why no crash on either side loses one or leaves it with
// both: node/transfer/doc.go.
//
// # Keys
//
//	q <destination> 0 <priority> <tenant> 0 <stream> 0 <pool> 0 <job> 0 <due 8> <delivery id 18>   the delivery, whole
//	i <delivery id>                      where its queue record is
//	m <message id>   b <message id>      metadata and content, apart, so that one reads without the other
//	f <bucket 4> <delivery id> <recipients before 4>   end states, by the ten minutes in which they came about
//	k <tenant> 0 <key>   y <hour 4> <tenant> 0 <key>   idempotency, and the order of its expiry
//	c <tenant> 0 <job>   j <tenant> 0 <job>            a job's counters (merged by addition), what was ordered for it
//	x <id>                               actions: holds and cancels in force
//	e <seq 8>                            event outbox
//	p <id>                               orders that are through, remembered for mail that comes later
//	t <number 8>                         an open transfer: to which node, which deliveries
//	g <bucket 4> <delivery id>           where a delivery has gone, like f
//	r <sender's node id> 0 <number 8>    a transfer that came here, or was fenced
//	r <sender's node id> 0               what is known of that sender: floor, highest number
//	z <original key>                     quarantine
//	! <name>                             format version, node id, outbox position, next transfer
//
// Numbers are big-endian, times microseconds since 1970. One destination is
// one contiguous range, so it can be listed, purged or shipped alone. Inside
// it, each flow is a range of its own, ordered by due time. A single order by
// due time over the whole destination was the obvious thing, and wrong: a
// transactional message behind ten million bulk ones of the same destination
// could be found only by reading past all of them (design.md 5.10).
//
// The delivery lies in the queue record itself: paging a queue is one forward
// scan, and what a page costs does not depend on how large the backlog is.
//
// # Invariants
//
// INVARIANT: nothing is acknowledged, handed over or shown in a page before the
// WAL sync that covers it has returned without error. Pebble shows a batch
// before it is synced; the set of unsynced deliveries (commit.go) hides it.
//
// INVARIANT: after an error on the commit path the store is failed for good:
// no call succeeds any more, and Options.Exit ends the process (safety.md I27).
//
// INVARIANT: a delivery is in one open transfer at most, and as long as it is,
// its queue record and index entry stay as they were offered.
//
// INVARIANT: a transfer that was fenced here is never received, and one that was
// received is never fenced: both are decided on the goroutine that commits, in
// batches of their own, and neither is forgotten before the sender has said that
// it needs no answer any more (its floor).
//
// INVARIANT: the content of a message exists exactly as long as one of its
// deliveries has an index entry, in quarantine or out of it. The reference
// count is derived from the index, never stored, so it cannot drift.
//
// INVARIANT: keys under q, i, m, b and e are written once and then removed
// with SingleDelete, which meets its Set in the memtable when mail leaves soon
// after it came, so that most mail never reaches an sstable. A key is never
// written over; a delivery that is queued again gets another due time. Pebble
// allows SET, SINGLEDEL, SET, SINGLEDEL on one key (Writer.SingleDelete).
package spool
