// Package client asks a node's admin API, with the types of node/api. How
// requests travel (address, token, certificates) is left to a Caller, so one
// connection serves both halves of the admin API.
//
// Read client.go.
package client
