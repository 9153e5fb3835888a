package store_test

import (
	"os"
	"testing"
)

// atExit is what the tests' common etcd leaves to do.
var atExit []func()

func TestMain(m *testing.M) {
	code := m.Run()
	for _, fn := range atExit {
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
