package peers

import (
	"os"
	"testing"

	"hikyaku/bench/candidate"
)

// Certificate writes a self-signed certificate for the names and returns the
// paths of certificate and key.
func Certificate(tb testing.TB, names ...string) (certFile, keyFile string) {
	tb.Helper()
	// Postfix's own processes read these, so not under the test's private directory.
	dir, err := os.MkdirTemp("", "hikyaku-cert-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if certFile, keyFile, err = candidate.WriteCertificate(dir, names...); err != nil {
		tb.Fatal(err)
	}
	return certFile, keyFile
}
