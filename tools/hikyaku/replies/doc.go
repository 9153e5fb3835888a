// Package replies has the command that says what remote servers' replies mean:
// one reply (classify.go), all that an event log holds, read again under other
// rules (replay.go), and those that no rule knows (unknown.go).
//
// The rules are package reputation's; no node is asked, but for --unclassified.
package replies
