// Package roll follows who is registered in etcd and by which keys they gossip:
// where each node is reached, for transfer and for joining the gossip. It writes
// nothing and decides nothing.
//
// What it shows stays as it is while etcd is away. A node that it does not show
// may still live, and one that it shows may be dead: who asks there finds out.
package roll
