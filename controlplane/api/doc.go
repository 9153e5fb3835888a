// Package api is the admin API of the control plane over HTTP: policy, the
// cluster, and the mail of all nodes. It decides nothing: policy is package
// store's, the cluster package state's, and mail the nodes'.
//
// Bodies that change policy are read strictly (controlplane/manifest/strict): an
// unknown key is an error with its path and place. Answers never show a secret.
// Errors are problem documents (RFC 9457). The OpenAPI document is made from the
// types; one document takes all parts of the admin API (NewConfig).
//
// # Questions about mail
//
// Each node serves its own part of the API to its peers. A question here is
// asked of all nodes side by side, on behalf of who asked, and the answers are
// put together: merged in the order in which each node lists, or summed up. What
// is in hand for a node is bounded in time and size. Every answer says which
// nodes it lacks (Coverage); what all nodes refuse alike is refused here alike.
//
// An order (hold, cancel, …) is written to the audit log, then given to all
// nodes, and the answer has the acknowledgement of each. It is "not everywhere"
// while one is missing: a node that is down sends nothing, but one that is cut
// off may. The order is repeated with its id, which is harmless: a node takes the
// time in the id as the bound of the mail that is meant. Orders are not kept for
// nodes that join later.
//
// # Reading order
//
// types.go and wire.go for what goes over the wire; api.go, throttle.go,
// applied.go for policy; cluster.go and audit.go for the cluster; fan.go for how
// nodes are asked, cursor.go for pages, fan_*.go for what. Who may ask is decided
// before the mux (controlplane/access); permit.go holds what an operator may not
// change.
//
// INVARIANT: an answer that lacks a node says so.
// INVARIANT: nothing is ordered of a node that was not written to the audit log
// first, or that does not say in its answer that it could not be (Audited).
package api
