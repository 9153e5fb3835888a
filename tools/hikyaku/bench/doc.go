// Package bench has the commands that measure: scenarios (bench.go), this product
// beside others (peers.go), a farm of simulated carriers (farm.go), and what a
// plan needs or would do (plan.go, simulate.go). What they run is in the folder
// bench at the root.
package bench
