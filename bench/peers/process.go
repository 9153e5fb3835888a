package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hikyaku/bench/candidate"
)

// Process is one child.
type Process = candidate.Process

// Usage is what a process cost so far.
type Usage = candidate.Usage

// UsageOf reads /proc for a process.
func UsageOf(pid int) Usage { return candidate.UsageOf(pid) }

// need ends the test for an error: with a skip where a program is missing and
// peers are not required.
func need(tb testing.TB, err error) {
	tb.Helper()
	if err == nil {
		return
	}
	missing := errors.Is(err, candidate.ErrNotInstalled) || errors.Is(err, candidate.ErrNeedsRoot)
	if missing && os.Getenv("HIKYAKU_REQUIRE_PEERS") != "1" {
		tb.Skip(err)
	}
	tb.Fatal(err)
}

// Find returns the path of a program, looking in the sbin directories too.
// Without it the test skips, or fails where peers are required.
func Find(tb testing.TB, program, debianPackage string) string {
	tb.Helper()
	p, err := candidate.Find(program, "run make test-deps, or install the Debian package "+debianPackage)
	need(tb, err)
	return p
}

// Start runs a program as a child and stops it when the test ends.
func Start(tb testing.TB, path string, args ...string) *Process {
	tb.Helper()
	p, err := candidate.StartProcess(path, args, candidate.ProcessOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = p.Stop(5 * time.Second) // how it ends is the test's own question
		logOutput(tb, filepath.Base(path), p.Output())
	})
	return p
}

// logOutput shows the end of what a program printed if the test has failed.
func logOutput(tb testing.TB, name, output string) {
	if tb.Failed() {
		tb.Logf("output of %s:\n%s", name, candidate.Tail(output, 8000))
	}
}

// FreePort returns a loopback TCP port that nothing listens on.
func FreePort(tb testing.TB, host string) int {
	tb.Helper()
	port, err := candidate.FreePort(host)
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// Until polls cond, every few milliseconds, until it holds or the time is up.
func Until(tb testing.TB, within time.Duration, what string, cond func() bool) {
	tb.Helper()
	if err := candidate.Until(context.Background(), within, what, func() (bool, error) { return cond(), nil }); err != nil {
		tb.Fatal(err)
	}
}

// Listening waits until something accepts on addr.
func Listening(tb testing.TB, addr string) {
	tb.Helper()
	if err := candidate.Listening(context.Background(), addr); err != nil {
		tb.Fatal(err)
	}
}
