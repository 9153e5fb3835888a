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
//  5. node/dispatch.go, outbound.go: opens sessions and gives them work
//  6. node/prepare.go: rendering, signature
//  7. node/delivery/session.go: connection, transaction, reply
//  8. node/outcome.go: the one place that turns a result into a transition
//
// # What runs
//
// The dispatcher goroutine executes what the scheduler asks for: resolve a
// destination, page a queue in from the spool, open a session. Sessions pull
// their work. The spool's committer calls back when a transition is durable;
// only then the scheduler forgets a delivery, the counters count it, and the
// event log gets its record.
//
// Beside the way of a message: orders.go is how a cancel meets mail in flight,
// scope_sweep.go and message_actions.go are what an operator orders, jobs.go
// what stands for jobs, day_counts.go how daily limits outlive a crash,
// survey.go how somebody looks at all queues without stopping them, and pace.go
// how bulk leaves head room for mail of high priority.
//
// INVARIANT: a delivery has one owner at a time. The scheduler gives it out
// once (Next, Take, or an Expire or Fail action) and hears of it again through
// Done, after the spool has its outcome. If the outcome cannot be stored, the
// delivery stays given out until the next start: trying again what a peer may
// have would be worse than waiting.
//
// INVARIANT: lock order is deciding, then the dispatcher's mu, then dayCounts'.
// Nothing blocks or calls out under the dispatcher's.
//
// Held and released are recorded once for the action, under the action's id,
// and change nothing in the ledger. What ingest refuses is counted by reason
// (hikyaku_ingest_refused_total), not recorded: there is no message yet.
//
// The node never imports controlplane beyond the policy words; policy comes in
// through Config.Policy.
package node
