//go:build !race

package transfer_test

const (
	crashStride = 1
	chaosSeeds  = 12
)
