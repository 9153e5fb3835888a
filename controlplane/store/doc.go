// Package store keeps policy: the current resources, the revisions before them,
// who changed what and why. Its interface (Store) is what a cluster needs from
// etcd; File is the same on one machine's disk.
//
// A change is a batch. It is applied whole or not at all, and only if all
// resources are valid together afterwards; each batch that changes something
// makes the next revision. Who read revision R can ask for "only if it is still
// R" and gets a *ConflictError otherwise.
//
// Read store.go for the interface, plan.go for how a batch becomes the next
// state, file.go for how a state reaches the disk, record.go for its format.
//
// INVARIANT: after a crash at any moment, File opens with the state before a
// batch or after it, never with anything else; with the state after it, if Apply
// had returned without error. Secrets are only in files of mode 0600.
package store
