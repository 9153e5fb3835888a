//go:build race

package transfer_test

// Pebble checks itself under the race detector, so that a crash takes a second:
// every fourth write, and few lives.
const (
	crashStride = 4
	chaosSeeds  = 3
)
