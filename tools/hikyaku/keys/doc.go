// Package keys has the commands that make keys: of DKIM (dkim.go), passwords and
// API keys of tenants (secret.go), keys of the admin API and the cluster
// (random.go), and certificates of its machines (authority.go).
//
// A key is printed once or written to a new file; nothing here keeps one or
// replaces one.
package keys
