// Package eventlog reads recorded events for commands that go through a day again:
// as "hikyaku events search --json" prints them, as segments of a node's log, or as
// a directory of those.
package eventlog
