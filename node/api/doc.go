// Package api is the node's local HTTP: health, metrics, what is queued and
// why, actions on it, live traces and the event log. It speaks for the node but
// knows only the Node interface, which package node implements; it holds no
// state of its own and never touches spool or scheduler.
//
// Register puts the routes on a mux, beside those of the control plane's admin
// API. access.Guard wraps the whole mux: who may ask at all is decided there,
// once; owner.go keeps a tenant's key to what is its own. The OpenAPI document is
// made from the types and served at /v1/openapi.json with the rest of the admin
// API's. Errors are problem documents (RFC 9457). Streams are
// one JSON value a line and always bounded in time and count.
//
// Read node.go for what a node must answer, types.go for the shapes, api.go and
// handlers.go for the routes, stream.go for traces and events, metrics.go and collector.go for /metrics. The Go client is
// node/api/client.
//
// INVARIANT: an action without a scope is refused unless it says all.
// INVARIANT: label values of metrics are bounded; what is beyond the bound is
// summed up as "other".
package api
