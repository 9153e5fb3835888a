// Package scheduler decides when a delivery goes, and from which source. It is
// pure: no clock, no I/O, no lock, no goroutine. Time comes in as an argument,
// decisions go out as Actions and Dispatches; package node carries them out and
// holds the one mutex around it.
//
// # Shape
//
// A queue holds the deliveries of one flow for one destination. Only its head
// is in memory; the rest is on disk and paged in when its turn comes
// (page.go). A destination resolves to a site (site.go). At a site, queues are
// sorted for fairness (fair.go):
//
//	site × pool → priority class → tenant → stream and job → queues in turn
//
// Sessions of a lane (source × site) pull with Next, which spends the budgets
// that stand in the way at that moment (limits.go): carrier, carrier × source,
// tenant, stream, job. Who finds a tenant's, stream's or job's budget used up
// waits for it in line (wait.go); a session whose carrier's is, is told when to
// ask again. Everything that waits for a time stands in one heap (timer.go).
//
// What the node has only so much of (pages, look-ups, connections, room in
// memory) is shared by class and tenant too (wish.go): urgent mail does not
// stand behind ten million others anywhere.
//
// # States of a queue
//
//	waiting   nothing is due; a timer stands at the next due time
//	blocked   due, but held, paused, outside its window, without a usable
//	          source, or its destination is not resolved
//	ready     in its site's lines; loaded, or asking for a page
//
// # Invariants
//
//   - A delivery is given out once: by Next, Victim, Take, or an Expire, Fail or
//     Defer action. It comes back through Done or PutBack.
//   - Due is never after Expires, so what is not due has not expired. What is
//     due and does not move is swept for expiry (page.go).
//   - At most Config.MaxLoaded deliveries are loaded, but for those put back. A
//     queue that does not move gives up its head when others need the room.
//   - Buckets start empty; a changed rate keeps its debt (bucket.go).
//   - The same calls give the same answers: what is given out never depends on
//     the order of a map.
//
// check_test.go recounts everything that is counted; sim_test.go runs it after
// each step of a random life.
//
// Read scheduler.go first, then queue.go, page.go, fair.go, lane.go, session.go.
package scheduler
