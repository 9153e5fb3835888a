// Package reputation has the commands about how sources, tenants and sender
// domains are liked: scores and what is in force (reputation.go), what was decided
// and why (decisions.go), and blocklists (blocklist.go).
package reputation
