package store_test

import (
	"os"
	"slices"
	"testing"
)

// atExit is what the tests' common etcd leaves to do, the last first: etcd ends
// the process when its directory goes away before it does.
var atExit []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, fn := range slices.Backward(atExit) {
		fn()
	}
	os.Exit(code)
}

func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "hikyaku-store-")
	if err == nil {
		atExit = append(atExit, func() { os.RemoveAll(dir) })
	}
	return dir, err
}
