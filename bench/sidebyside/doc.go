// Package sidebyside sends the same work through several mail servers of one
// machine in turn and compares them: messages a second, CPU a message, memory,
// whether each syncs before its 250, beside the bare limit: the source
// connected to the sink with nobody between.
//
// The method, so that the figures mean something:
//
//   - One mail server runs at a time, each round with an empty queue.
//   - Each round runs all of them, and each round begins with another one, so
//     that a machine that grows slower hits all alike. Ratios are taken within
//     a round, then the median over the rounds.
//   - The clock runs from the start of the source to the last message at the
//     sink.
//   - Without a fixed number of messages each gets as many as keep it busy for
//     about the same time, which a short run before tells.
//   - A mail server that is not installed has a row that says so.
//
// CheckTools compares the load suite's own source and sink with Postfix's
// smtp-source and smtp-sink: the numbers must agree exactly, the rates are
// shown beside each other.
//
// It draws no conclusion beyond its table. Read run.go first.
package sidebyside
