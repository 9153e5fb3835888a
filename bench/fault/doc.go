// Package fault breaks a cluster of real processes and watches from outside what
// it does: nodes, etcd members and the leader are killed, stopped and cut off,
// while receivers write down who sent from which address and when.
//
// Read cluster.go for the processes, proxy.go for the network between them that
// can be delayed and cut, witness.go for the receivers, check.go for what is
// called a violation, repeats.go and audit.go for mail that came twice or lies on two
// disks. The stories are in story_test.go; stage_test.go is the world they play in,
// judge_test.go what must hold at the end of each. README.md has what they found.
//
// The receivers and the checks know nothing of the product: an address, a name
// in EHLO that says which node under which epoch is speaking, and one monotonic
// clock for all of them, since everything runs on one machine.
//
// INVARIANT: everything listens on and connects to loopback only, and every
// process is ended by the number under which it was started.
package fault
