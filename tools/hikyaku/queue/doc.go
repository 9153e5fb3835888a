// Package queue has the commands about mail that is queued: what waits and for
// what (queue.go), messages and jobs one by one (message.go, job.go), holds and
// cancels (act.go, actions.go), and a spool that no node has open (spool.go).
//
// An order that has not reached every node ends with exit code 3 and can be
// repeated by its ID.
package queue
