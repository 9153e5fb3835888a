// Package scenario joins the load suite into runs that answer a question: how
// fast, how fair, how much is lost. `hikyaku bench run NAME` is its door.
//
// A scenario is a function over a Run. It consists of trials: a trial starts
// fresh nodes as child processes, receivers in this process, load sources, a
// ledger and the sampling of all of them; it sends, waits until the queue is
// empty or the time is up, stops the nodes, and reads what they left on disk.
// Its outcome holds the balance of the ledger, the figures, latencies and
// series. A scenario compares outcomes and writes down figures with targets.
//
// INVARIANT: a run is good only when the ledger of each of its trials balances,
// whatever its speed. The ledger knows three witnesses: the source (what was
// promised), the receivers (what came), and the node's own event log and spool
// (what it says it did and still has), the last two read after the node has
// stopped, by the code that operators use for it.
//
// INVARIANT: every trial is bounded in count and in time, and sends to loopback
// only.
//
// Read params.go (what can be asked), trial.go (one trial from start to end),
// audit.go (the third witness), then a file a scenario.
package scenario
