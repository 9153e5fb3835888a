// Package resources has the commands about resources of policy: what is in force
// (get.go), and every way to change it (apply.go, edit.go, throttle.go,
// history.go, restored.go).
//
// A change prints its revision; with --wait it ends when all live nodes obey
// (wait.go). Secrets are never shown.
package resources
