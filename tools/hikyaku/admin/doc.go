// Package admin puts the admin API of a process on one mux: the node's part, the
// control plane's or both, with one OpenAPI document and one page for all.
//
// Register is the way in. The operations are those of node/api and
// controlplane/api; who may ask for which is controlplane/access.
package admin
