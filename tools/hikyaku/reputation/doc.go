// Package reputation has the commands about how sources, tenants and sender
// domains are liked: scores and what is in force (reputation.go), what was decided
// and why (decisions.go), what would have been on a recorded day (replay.go), and
// blocklists (blocklist.go). Listings can be watched: what is in force is shown
// anew (watch.go), decisions are followed (follow.go).
package reputation
