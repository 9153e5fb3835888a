// Package mailbox is where questions about mail go: to all nodes where the
// server is a control plane, else to the one node that the server is.
//
// Open finds out which. A command asks Cluster where there is one, else Node, and
// brings the node's answer into the cluster's shape with Reshape, so that it is
// shown one way. Missing says which nodes an answer is not about.
package mailbox
