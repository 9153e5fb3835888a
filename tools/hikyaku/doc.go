// Command hikyaku is the one binary: "serve" runs a node, the other commands
// talk to a running one over its admin API or work on files.
//
// Here is the root of the commands only: its flags (root.go), the list of
// packages that have commands (commands.go), and the page about all of them
// (docs.go). Commands lie in packages by what an operator does: serve, queue,
// events, top, resources, cluster, reputation, bench and so on; each has Commands
// as its way in. What they share is cli (where to ask, how to print), human
// (values as people read them), mailbox (all nodes or the one), manifests (files of
// resources) and screen (a view on a terminal). They do not know each other
// (tools/lint).
//
// The tests here run whole command lines, as testdata/ has them.
package main
