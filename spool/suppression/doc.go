// Package suppression is the list of who gets no more mail: per tenant and for
// all tenants (tenant ""), on disk, with a filter in memory in front. It has a
// Pebble database of its own, so that tens of millions of entries and an import
// of them stay off the spool's path.
//
// It never decides who is suppressed, knows no other node and makes no
// connection: node/suppress carries what Pull and WriteSnapshot give from store
// to store.
//
// # What lies there
//
//	e tenant 0 domain 0 local 0 stream    an entry, or that one was removed (tombstone)
//	s tenant 0 domain 0 local 0           a sighting: first time of a doubtful "unknown user"
//	x time key                            when that record is to be looked at: it expires
//	l origin last                         the log: keys of some operations, the last of them "last"
//	v origin                              how much of an origin is here, and from where the log has it
//	c tenant                              counts, written with the entries that they count
//	! name                                format, mark
//
// The domain stands before the local part, so that all of a domain is one range.
//
// # One register a key
//
// A record is a last-writer-wins register: of two, the one with the later time
// counts, then the one with the higher origin (record.after). Merging is
// commutative, associative and idempotent, so stores that have seen the same
// operations hold the same records, in whatever order these came. A writer's
// time is the clock's, and always later than that of the record it replaces: what
// an operator removes is removed, though the entry came from a clock that is ahead.
//
// A removed entry stays as a tombstone for TombstoneFor and wins by its time like
// any other record, so that a store that was away cannot bring the entry back.
// Sightings are registers of their own: a late sighting never replaces an entry.
// An unsubscribe from one stream is a register apart from others, so that two
// that happen on two nodes at once are both kept.
//
// # Operations and their log
//
// An origin is one life of a store: a random number, drawn with the first write
// after Open. Its operations are numbered from 1. The log has the number and the
// key of each, not the value: what a later operation has replaced is not sent
// any more. A set-back disk thus never gives a number out twice: its store goes
// on as another origin, and gets the rest of its former life from the others as
// if it were somebody else's.
//
// Vector says up to which number each origin's operations are here. Pull gives
// what another store lacks, Apply takes it, WriteSnapshot and LoadSnapshot serve
// one that lacks more than the log still has.
//
// # Second sight
//
// Where a carrier's "unknown user" is ambiguous, the first is only noted. Another
// one suppresses if it comes on another UTC day and at least SecondAfter later; a
// note is forgotten after SightingFor. Two notes that meet in a merge and are
// that far apart count the same.
//
// INVARIANT: what Add, Feed and Remove have confirmed is on disk. What is in a
// store's Vector, as Pull and Vector tell it, is on disk as well.
//
// INVARIANT: a record, its log record, its origin's number and the counts are
// written in one batch.
//
// Read entry.go, then write.go, lookup.go, log.go, apply.go, snapshot.go.
package suppression
