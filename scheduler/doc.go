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
// tenant, stream, job. What cannot go now waits in one heap of timers.
//
// # States of a queue
//
//	waiting   nothing is due; a timer stands at the next due time
//	blocked   due, but held, paused, outside its window, or its destination is
//	          not resolved
//	ready     in its site's rings; loaded, or asking for a page
//
// # Invariants
//
//   - A delivery is given out once: by Next, Take, or an Expire, Fail or Defer
//     action. It comes back through Done or PutBack.
//   - Due is never after Expires, so what is not due has not expired. What is
//     due and does not move is swept for expiry (page.go).
//   - At most Config.MaxLoaded deliveries are loaded. A queue that does not move
//     gives up its head when others need the room.
//   - Buckets start empty; a changed rate keeps its debt (bucket.go).
//
// Read scheduler.go first, then queue.go, page.go, fair.go, lane.go.
package scheduler
