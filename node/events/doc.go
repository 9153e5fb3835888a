// Package events is the event log of a node: one JSON line for each transition
// of a recipient, in append-only compressed segments on disk, with named
// consumers, search and a live tail. It never slows mail: Write copies into a
// bounded buffer and returns, and what does not fit is read again from the
// spool's outbox when the disk has caught up.
//
// The way of a line: the spool commits a transition with its lines in the same
// atomic batch and gives them a sequence number; after the commit it calls
// Write; the flusher goroutine packs lines into blocks, appends them to the
// active segment, syncs at least every SyncInterval and then calls Acked, on
// which the spool forgets the lines. After a crash the log says how far it got
// (LastSeq) and the spool replays what came later.
//
// A segment is a plain zstd file: zstdcat prints its lines. Each block is a
// skippable frame (RFC 8878 3.1.2), which holds sequence numbers, times, a
// filter over message ids and checksums, followed by a frame of its own.
//
// INVARIANT: a sequence number is in the log at most once, and exactly once
// when it was acked.
// INVARIANT: Acked(n) is called only after an fsync that covers every block up
// to n returned without error.
// INVARIANT: readers are shown only what was synced, so nothing that a consumer
// has seen can be taken back by a crash.
// INVARIANT: unreadable bytes are never deleted: a torn tail is copied to a
// .torn file before it is cut, damage inside a segment is left where it is,
// stepped over and counted.
//
// States of the log: following (Write fills the buffer) and lagging (the buffer
// was full, or a sync failed: Write only notes the number, the flusher reads
// from the outbox until it has caught up).
//
// Read block.go for the format, log.go for the door, flush.go for the one
// writer, recover.go for what happens after a crash, then consumer.go and
// search.go.
package events
