// Package cluster has the commands about machines and what they share: nodes and
// how they are drained (node.go), sources, grants, the leader and the audit log
// (cluster.go), transfers (transfer.go), and the keys of gossip (gossip.go).
package cluster
