// Package client speaks the admin API: the policy resources served by
// controlplane/api, with typed methods (policy.go), the cluster and the mail of all
// nodes (cluster.go, mail.go), and any other path of the
// same server through Do and Stream (client.go). The CLI, the console and the
// tests use it, so whatever one of them can show, all can.
//
// It never retries: whoever asked decides whether asking again is safe.
package client
