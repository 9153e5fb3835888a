// Package control is the node's side of the control plane: it registers the
// node, holds its lease, knows which sources it may send from at this moment,
// makes the exchange with the leader every second, and keeps the node's floor on
// disk. It never decides who gets what, never sends mail, and never trusts a
// clock on the wall.
//
// # Which source may be used
//
//	no address, or pinned to this node    always: no other node may hold it
//	any other                             while etcd says Assignment{Held, this
//	                                      node, this lease} and the lease holds
//
// "The lease holds" is lease.Keeper's word alone: monotonic time at which the last
// answered renewal was sent + TTL - margin. Neither the etcd client's session nor
// the watch is asked, for both notice late.
//
// Why a watch that lags does no harm. The leader takes a held source from a
// node only (a) after the node reported it as released under its epoch, or (b)
// when the node's registration has vanished from etcd, and a quarantine later.
// After (a) the node has noted that the epoch has ended and uses it no more,
// whatever an old record still says. Before (b) etcd has expired the lease, which
// it does no earlier than TTL after it was sent the last renewal it answered;
// the Keeper's deadline is a margin before that. So a record "held" that is out
// of date can be acted on only while it is true enough: nobody else may send yet.
//
// # How a use ends
//
// A Hold is the right to use one source under one epoch. It is asked before
// every connect and every MAIL (one atomic load and a comparison), ends once and
// never comes back. When it ends, what is not inside a transaction is closed at
// once, transactions may come to their end, and what is still open is cut off:
//
//	lease lost     at its deadline + half the quarantine
//	releasing      half the quarantine after the order
//	taken away     at once
//
// Only then is the address detached, and only then is the source reported as
// released. The other half of the quarantine pays for what the network still
// carries.
//
// # The floor
//
// INVARIANT: Report.Floor is never above nor ahead of what is durable: a lower
// floor is used first and saved then, a higher one saved first and used then.
//
// Without an answer the grants end, on the monotonic clock, GrantMargin before
// the leader stops to count them, and the node is down to the floor.
//
// # States
//
//	joining → registered ⇄ lost (registering anew) → leaving
//
// A node whose name another spool holds is refused at its start; after a
// partition the same is an alarm, and it goes on with what needs no lease.
//
// Read control.go, then register.go, hold.go, sources.go, exchange.go.
package control
