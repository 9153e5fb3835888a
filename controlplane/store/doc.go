// Package store keeps policy: the current resources, the revisions before them,
// who changed what and why, and the audit log. Etcd keeps it in etcd, where any
// number of control planes share it; File is how an older version kept it on
// one machine's disk, which Etcd takes over. An etcd for one machine is in
// package embedded.
//
// A change is a batch. It is applied whole or not at all, and only if all
// resources are valid together afterwards; each batch that changes something
// makes the next revision. Who read revision R can ask for "only if it is still
// R" and gets a *ConflictError otherwise; who asked for nothing of the kind has
// the batch planned again on what others made meanwhile.
//
// # In etcd
//
// One transaction makes a revision: it compares the mod revision of policy/head
// with what was read, and writes the head and a delta: author, time, reason and
// the changed resources whole, with their secrets sealed. Every 64 revisions,
// and after a large one, all of policy is written once more as a base, in parts.
// A change too large for one request (1 MiB compressed; etcd refuses 1.5 MiB)
// is a base at once. So etcd's default limits suffice for 48 MiB of compressed
// policy; 10,000 sources and 2,000 tenants are 12,000 resources and take less
// than one.
//
// An answer that got lost is asked for again: the guard lets the transaction
// happen once, and a random ID in the delta says whose it was.
//
// Deltas and audit records are chains of SHA-256 sums (VerifyAudit). Whoever can
// write to etcd can cut the end off, or write a whole new chain; the sums at the
// ends, noted elsewhere, tell that too. After 1,000 revisions and 90 days the
// resources of a delta are dropped (Compact), the rest of it stays for good.
//
// etcd restored from an older backup is noticed by the newest revision that this
// process, or its data directory, has seen: Degraded says so, nothing can be
// changed upon it, and a running process stays with what it has, until somebody
// calls AcceptRestored.
//
// Read store.go for the interface, plan.go for how a batch becomes the next
// state, etcd.go for what an Etcd is, etcd_apply.go for how a revision is
// written, etcd_follow.go for how those of others arrive, etcd_history.go and
// etcd_audit.go for looking back, connect.go for reaching etcd; file.go and
// record.go for the older store. What lies in etcd is package keyspace's.
//
// INVARIANT: revisions are given out once and in order, whoever writes; a
// subscriber never sees one fall. No secret is in etcd unsealed, in an error or
// in a listing.
package store
