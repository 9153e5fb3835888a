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
// that stand in the way at that moment (limits.go): carrier, carrier × pool,
// carrier × source, tenant, tenant × carrier, stream, job. Who finds a budget of
// tenant, stream or job used up waits for it in line (wait.go); a session whose
// carrier's is, is told when to ask again. Everything that waits for a time
// stands in one heap (timer.go).
//
// How many connections a peer takes at once from a source, below what policy
// allows, a lane learns from those that are refused while others go on
// (crowd.go); refused alone, it rests, twice as long each time.
//
// What the node has only so much of (pages, look-ups, connections, room in
// memory) is shared by class and tenant too (wish.go): urgent mail does not
// stand behind ten million others anywhere.
//
// # One node among several
//
// A node without others has every source and the whole of each limit. With a
// control plane it is told which sources it may use (SetSources, sources.go) and
// what is its part of each limit (SetGrants, grants.go); it tells what it needs
// (Demands, demand.go). A limit on one source is for the node that has it, and
// whole there, but for its daily count: that is the leader's permits
// (permits.go). What is granted ends by itself, at its instant, in whatever
// order calls come: each bucket knows the end and what is left then (bucket.go).
// Brake stops a source at a carrier for what others have seen, and what the control
// plane has decided about sources and tenants comes by SetSteering
// (steering.go), which touches only what has changed.
//
// # States of a queue
//
//	waiting   nothing is due; a timer stands at the next due time
//	blocked   due, but held, paused, outside its window, without a usable
//	          source, or its destination is not resolved
//	stranded  blocked since only other nodes have a source of its pool, or one
//	          that does not rest at its carrier; Stranded offers it to whoever
//	          can hand it over
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
//   - Buckets start empty, those of a source again with each time that it comes
//     to this node; a changed rate or part keeps its debt (bucket.go).
//   - Over nodes whose shares and parts of a burst never sum to more than the
//     whole, what is sent in a span W is at most limit × W + burst.
//   - A permit is used once, between void and issued, and one that has died or
//     become void is never used again (permits.go).
//   - Of a source that this node may not use, or that rests at the carrier by
//     the control plane's decision, Next, Again and Reconnect give nothing, no
//     session is opened, and those there are told to end.
//   - What a node may not send still counts as demand, also on disk: else nobody
//     would ever grant it.
//   - The same calls give the same answers: what is given out never depends on
//     the order of a map.
//
// check_test.go recounts everything that is counted; sim_test.go runs it after
// each step of a random life.
//
// Read scheduler.go first, then queue.go, page.go, fair.go, lane.go, session.go,
// limits.go, bucket.go, grants.go.
package scheduler
