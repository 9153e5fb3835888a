// Package api serves policy over HTTP: list, get, put and delete resources,
// apply a batch, look at the history, roll back. It decides nothing; package
// store does. The OpenAPI document is made from the types.
//
// Bodies are read strictly (controlplane/manifest/strict): an unknown key is an
// error with its path and place. Answers never show a secret. Errors are
// problem documents (RFC 9457).
//
// Read types.go for what goes over the wire, api.go for the routes.
// Authentication stands before the mux (node/api.Guard).
package api
