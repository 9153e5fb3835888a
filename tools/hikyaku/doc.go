// Command hikyaku is the one binary: "serve" runs a node, the other commands
// talk to a running one over its admin API or work on files.
//
// Read root.go for the flags that every command shares and the cli struct that
// every command is given, commands.go for the list of commands, print.go for
// how answers are shown. Each command is a file cmd_*.go; what a command does
// beyond asking and printing lives in a package, not here.
package main
