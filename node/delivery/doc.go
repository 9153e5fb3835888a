// Package delivery hands deliveries to remote hosts: the SMTP client.
//
// A Client holds what all connections of a node share: memories of dead hosts
// and broken TLS, counters, the trace hook. A Session is one goroutine and one
// connection of a lane. It finds a host of its Target that takes the
// connection, says hello, starts TLS, logs in, and then pulls jobs from its
// Work until there are none for a while, the connection has carried what it
// may, or it breaks. Each job it took gets exactly one Result.
//
//	connecting → greeting → idle ⇄ in transaction → quitting → closed
//
// Where the peer offers PIPELINING (RFC 2920), a message costs one round trip:
// the content of one message travels in one write with MAIL, RCPT and DATA of
// the next. Where it offers CHUNKING too (RFC 3030), a message of ordinary
// size goes out whole, without waiting for an answer to its envelope, and at
// most one further message behind it.
//
// The package never decides whether a message is retried, bounced or
// throttled: it reports replies, ours marked by their Fault, and each with the
// phase in which it was said. It never resolves names, never reads policy and
// never touches the spool.
//
// INVARIANT: a recipient is reported as delivered only when the peer accepted
// it, got the end of the content, and answered that end with 2xx.
//
// INVARIANT: a recipient without an outcome in its job's Result was not
// offered any content: sending it again makes no duplicate.
//
// INVARIANT: MAIL of a message is never sent into a transaction of another:
// where the end of the earlier transaction is not certain, RSET comes first.
//
// Read work.go (what goes in and out), session.go (the loop), transaction.go
// (one message), pipeline.go (several at once), then connect.go and greet.go.
package delivery
