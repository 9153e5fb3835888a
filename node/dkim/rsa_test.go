//go:build linux && (amd64 || arm64) && !static

package dkim_test

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"hikyaku/controlplane/policy"
	"hikyaku/node/dkim"
	"hikyaku/node/dkim/libcrypto"
)

// signersBy makes signers with the RSA engine of that choice.
func signersBy(t testing.TB, choice, library string, keys ...*policy.SigningKey) *dkim.Signers {
	t.Helper()
	s, errs := dkim.NewSignersBy(choice, library, set(keys...))
	if errs != nil {
		t.Fatal(errs)
	}
	return s
}

// fast makes signers that sign by libcrypto.
func fast(t testing.TB, keys ...*policy.SigningKey) *dkim.Signers {
	t.Helper()
	s := signersBy(t, "auto", "", keys...)
	if s.Metrics().RSA.Signer != "libcrypto" {
		missingPeer(t, "OpenSSL 3 is missing, install the package libssl3: "+s.Metrics().RSA.Reason)
	}
	if s.Slow() != nil {
		t.Fatal(s.Slow())
	}
	return s
}

// liar builds a libcrypto with one fault (libcrypto/testdata/liar.c).
func liar(t testing.TB, fault string) string {
	t.Helper()
	fast(t)
	out := filepath.Join(t.TempDir(), "liar.so")
	cmd := exec.Command("cc", "-shared", "-fPIC", "-D"+fault, "-o", out, "libcrypto/testdata/liar.c", "-Wl,--no-as-needed", "-l:"+libcrypto.Soname)
	if text, err := cmd.CombinedOutput(); err != nil {
		missingPeer(t, "a C compiler is missing, install gcc: "+err.Error()+"\n"+string(text))
	}
	return out
}

func sign(t testing.TB, s *dkim.Signers, raw string) []byte {
	t.Helper()
	sig, err := s.AppendSignature(nil, "example.com", signedAt, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// Whoever signs, the field is the same, byte for byte.
func TestEnginesSignAlike(t *testing.T) {
	byC, byGo := fast(t, rsaKey("example.com")), signersBy(t, "go", "", rsaKey("example.com"))
	if _, isGo := dkim.KeyOf(byC, "example.com", 0).(*rsa.PrivateKey); isGo {
		t.Error("the key was not handed to libcrypto")
	}
	for _, c := range contents {
		one, other := sign(t, byC, c.raw), sign(t, byGo, c.raw)
		if !bytes.Equal(one, other) {
			t.Errorf("%s: libcrypto\n%s\ncrypto/rsa\n%s", c.name, one, other)
		}
		if c.name != "signed already" {
			verify(t, one, []byte(c.raw))
		}
	}
	if n := byC.Metrics().Fallbacks; n != 0 {
		t.Errorf("%d signatures fell back to crypto/rsa", n)
	}
}

func TestEngineIsChosen(t *testing.T) {
	system := fast(t).Metrics().RSA
	for _, c := range []struct{ choice, library, want string }{
		{"", "", system.String()},
		{"auto", "", system.String()},
		{"go", "", "crypto/rsa (HIKYAKU_RSA=go)"},
		{"openssl", "", `crypto/rsa (HIKYAKU_RSA is "openssl": want auto or go)`},
		{"auto", "/nonexistent/libcrypto.so.3", "crypto/rsa (/nonexistent/libcrypto.so.3 not found)"},
		{"auto", "libc.so.6", "crypto/rsa (libc.so.6 has no function OpenSSL_version_num)"},
	} {
		s := signersBy(t, c.choice, c.library, rsaKey("example.com"))
		if got := s.Metrics().RSA.String(); got != c.want {
			t.Errorf("choice %q, library %q: %s, want %s", c.choice, c.library, got, c.want)
		}
		verify(t, sign(t, s, contents[0].raw), []byte(contents[0].raw))
	}
	if !strings.HasPrefix(system.String(), "libcrypto 3.") || !strings.HasSuffix(system.String(), " (loaded at run time)") {
		t.Errorf("the system's: %s", system)
	}
}

// A libcrypto that signs wrongly is found out before the key is used, and said.
func TestKeyThatLibcryptoSignsWronglyWithStaysWithGo(t *testing.T) {
	for fault, want := range map[string]error{"FLIP_AFTER=0": libcrypto.ErrMismatch, "FAIL_AFTER=1": nil, "NO_IMPORT": nil, "NO_CONTEXT": nil} {
		s := signersBy(t, "auto", liar(t, fault), rsaKey("example.com"), edKey("example.com"))
		slow := s.Slow()
		if len(slow) != 1 || !strings.HasPrefix(slow[0].Error(), "signing key k0: libcrypto: ") || want != nil && !errors.Is(slow[0], want) {
			t.Errorf("%s: slow keys %v", fault, slow)
		}
		verify(t, sign(t, s, contents[0].raw), []byte(contents[0].raw))
		// The next policy takes the key over, and what is known of it.
		next, errs := s.Update(set(rsaKey("example.com")))
		if errs != nil || len(next.Slow()) != 1 {
			t.Errorf("%s: after an update: %v, slow keys %v", fault, errs, next.Slow())
		}
	}
}

// A signature that libcrypto fails to make is made by crypto/rsa.
func TestFailureOfLibcryptoFallsBack(t *testing.T) {
	s := signersBy(t, "auto", liar(t, "FAIL_AFTER=3"), rsaKey("example.com"))
	if s.Slow() != nil {
		t.Fatal(s.Slow())
	}
	for range 4 { // two signatures went into the test of the key, one is good
		verify(t, sign(t, s, contents[0].raw), []byte(contents[0].raw))
	}
	if m := s.Metrics(); m.Fallbacks != 3 || m.Signed != 4 || m.Failed != 0 {
		t.Errorf("metrics %+v", m)
	}
}

// Policy changes while messages are signed: keys come and go, and what was
// taken from an old snapshot still signs.
func TestKeysChangeWhileSigning(t *testing.T) {
	s := fast(t, rsaKey("example.com"))
	want := sign(t, s, contents[0].raw)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				next, errs := s.Update(set(rsaKey("example.com"), rsaKey("example.net")))
				if errs != nil {
					t.Error(errs)
					return
				}
				fresh, errs := dkim.NewSignersBy("auto", "", set(rsaKey("example.com")))
				if errs != nil {
					t.Error(errs)
					return
				}
				for _, s := range []*dkim.Signers{s, next, fresh} {
					got, err := s.AppendSignature(nil, "example.com", signedAt, []byte(contents[0].raw))
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("error %v, signature\n%s", err, got)
					}
				}
			}
		})
	}
	wg.Wait()
	if m := s.Metrics(); m.Time <= 0 || m.Fallbacks != 0 {
		t.Errorf("metrics %+v", m)
	}
}
