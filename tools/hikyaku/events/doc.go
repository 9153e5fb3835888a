// Package events has the commands that read the event log: follow it, search it
// (events.go), and trace one message through it (trace.go).
//
// Lines go to standard output as they come, with --json as the log has them; what
// the answer lacks is said on standard error.
package events
