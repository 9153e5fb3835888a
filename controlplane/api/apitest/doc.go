// Package apitest is a cluster and an audit log that exist only in memory, for
// tests of the admin API, its client and the command line.
package apitest
