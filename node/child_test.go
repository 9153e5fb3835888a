package node

// childNode is the node in a process of its own, for tests that kill it.
func childNode() {}
