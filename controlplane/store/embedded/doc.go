// Package embedded runs an etcd member inside this process, for an installation
// without an etcd cluster of its own. It knows nothing of policy.
//
// A member that is alone listens on unix sockets below its data directory,
// which only its owner may enter: etcd without certificates lets in whoever
// reaches it, and on a loopback port that is every user of the machine. Several
// members listen where Options say.
//
// Read server.go: Start, Endpoints, Close.
//
// INVARIANT: every write is on the disk before it is answered; there is no way
// to switch that off here.
package embedded
