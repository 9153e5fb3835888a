// Package lease answers one question: until when may this process believe that
// it still holds what it holds by a lease of the control plane? It is a leaf:
// standard library only, no etcd. Nodes (their sources) and the leader (its
// office) use the same answer.
//
// etcd's client says that a lease is lost when it notices, which may be after
// the server has given the thing to somebody else: it counts the TTL from the
// arrival of the answer, and looks once a second. So neither its keep-alive
// channel nor Session.Done is asked here. The deadline is
//
//	monotonic time at which the last answered renewal was SENT + TTL - margin
//
// The server cannot have begun to count before it was asked, so it expires the
// lease no earlier than that deadline + margin. The margin pays for clocks that
// run at different speeds, and for the time from looking at the deadline to the
// packet that leaves.
//
// INVARIANT: Until never lies after send + TTL - margin of an answered renewal;
// once it has passed it never comes back: what was held is lost, and a new
// lease has a new Keeper.
package lease
