// Package follow gives a node its policy: it watches what the control plane
// keeps in etcd (controlplane/keyspace), checks each revision and hands it on as
// a snapshot. The last good one is on disk, so that a node starts, and mail
// flows, without etcd. It never writes to etcd.
//
// A revision that is not valid as a whole, or whose secrets cannot be opened, is
// refused, and the one before stays in force. So does a newer one when etcd has
// gone back, as after a restore from an old backup. Both are told: Status.Alarm,
// Metrics, the log.
//
// What the control plane decides about sources and tenants lies over the policy and
// comes by a watch of its own (steering.go). It is in force at once and on disk a
// moment later; a record that cannot be read leaves the one before in force.
//
// Read follower.go for Open and what others may ask, sync.go for how a change
// arrives, steering.go for decisions, disk.go for the files.
//
// INVARIANT: the revision in force never falls, through restarts too: what is
// handed on was on disk before, unless the disk failed. Secrets on disk are
// sealed as they are in etcd. What was decided does not go back either, unless
// etcd itself did and policy in it was accepted.
package follow
