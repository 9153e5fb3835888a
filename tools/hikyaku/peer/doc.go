// Package peer is how the processes of one cluster know each other on their
// peer listeners: by certificates that one authority has signed, on both ends
// (mutual TLS), or, on loopback only, by a bearer token derived from the cluster
// key.
//
// Serve guards a handler and listens, Client makes requests (peer.go).
// Certificates are read again when their files have changed, so that a renewed
// one needs no restart (files.go). An authority for clusters that have none is
// in authority.go.
//
// INVARIANT: a request reaches the handler only from a process that has the
// cluster key, and that holds a certificate of the authority or asks from
// loopback.
package peer
