//go:build !linux || !(amd64 || arm64) || static

package libcrypto_test

import (
	"strings"
	"testing"

	"hikyaku/node/dkim/libcrypto"
)

func TestBuildWithoutSaysSo(t *testing.T) {
	l, err := libcrypto.Load("")
	if l != nil || err == nil || !strings.Contains(err.Error(), "cannot load libcrypto") {
		t.Errorf("Load: %v, %v", l, err)
	}
}
