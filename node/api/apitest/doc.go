// Package apitest is a node that exists only in memory, for tests of the admin
// API, its client and the CLI. It holds a small fixed stock of mail and obeys
// the actions it is given, so that a test can see what an action did.
//
// Read node.go.
package apitest
