// Package cli is what every command is given: where to ask and how to print.
//
// Call is one call of the program, with its root options and streams. It has the
// ways to the admin API (call.go), tables, colour and JSON (print.go) and the
// question before something that cannot be undone (ask.go). Beside it are the
// flags and arguments that many commands share (args.go) and the errors that
// choose the exit code (exit.go).
//
// INVARIANT: what a server says reaches a terminal through Table, which cleans
// it, or through human.Clean.
package cli
