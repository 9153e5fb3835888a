// Package node is one machine of Hikyaku: it owns every long-lived goroutine
// and joins the parts, which do not know each other. New builds and wires,
// Run serves until its context ends, Close waits for all of it.
//
// # The way of a message
//
// Eight files, in order:
//
//  1. node/ingest: smtp_session.go or http_server.go takes it from the client
//  2. node/accept.go: tenant, stream, deliveries, expiry, "accepted" events
//  3. spool/append.go: durable, only now 250 or 202
//  4. scheduler/scheduler.go: which delivery, from which source, within which budget
//  5. node/dispatch.go: opens sessions and gives them work
//  6. node/prepare.go: rendering, signature
//  7. node/delivery/session.go: connection, transaction, reply
//  8. node/outcome.go: the one place that turns a result into a transition
//
// # What runs
//
// The dispatcher goroutine executes what the scheduler asks for: resolve a
// destination, page a queue in from the spool, open a session. Sessions pull
// their work. The spool's committer calls back when a transition is durable;
// only then the scheduler forgets a delivery and the event log gets its record.
//
// INVARIANT: a delivery has one owner at a time. The scheduler gives it out
// once (Next, Take, or an Expire or Fail action) and hears of it again through
// Done, after the spool has its outcome.
//
// The node never imports controlplane beyond the policy words; policy comes in
// through Config.Policy.
package node
