//go:build linux && (amd64 || arm64) && !static

package libcrypto_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"hikyaku/node/dkim/libcrypto"
)

func load(t testing.TB) *libcrypto.Library {
	t.Helper()
	l, err := libcrypto.Load("")
	if err != nil {
		missing(t, "OpenSSL 3 is missing, install the package libssl3: "+err.Error())
	}
	return l
}

// missing skips, or fails where what is missing is required (make test).
func missing(t testing.TB, text string) {
	t.Helper()
	if os.Getenv("HIKYAKU_REQUIRE_PEERS") == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// liar builds testdata/liar.c with one of its faults.
func liar(t testing.TB, fault string) string {
	t.Helper()
	load(t)
	out := filepath.Join(t.TempDir(), "liar.so")
	cmd := exec.Command("cc", "-shared", "-fPIC", "-D"+fault, "-o", out, "testdata/liar.c", "-Wl,--no-as-needed", "-l:"+libcrypto.Soname)
	if text, err := cmd.CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("a C compiler is missing, install gcc: %v\n%s", err, text))
	}
	return out
}

func makeKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func digestOf(n int) []byte {
	d := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return d[:]
}

func signGo(t testing.TB, k *rsa.PrivateKey, digest []byte) []byte {
	t.Helper()
	sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// PKCS #1 v1.5 leaves nothing to choose, so both must give the same bytes.
func TestSameSignaturesAsGo(t *testing.T) {
	l := load(t)
	sizes := []int{1024, 1025, 1031, 1536, 2048, 2049, 3072, 4096}
	if testing.Short() {
		sizes = []int{1024, 1025, 2048}
	}
	for _, bits := range sizes {
		for range 1 + 4096/bits {
			private := makeKey(t, bits)
			k, err := l.NewKey(private)
			if err != nil {
				t.Fatalf("%d bits: %v", bits, err)
			}
			if !private.PublicKey.Equal(k.Public()) {
				t.Errorf("%d bits: another public key", bits)
			}
			for n := range 40 { // blinding is renewed after 32
				got, err := k.Sign(nil, digestOf(n), crypto.SHA256)
				if err != nil {
					t.Fatalf("%d bits: %v", bits, err)
				}
				if !bytes.Equal(got, signGo(t, private, digestOf(n))) {
					t.Fatalf("%d bits: signature %d differs", bits, n)
				}
			}
		}
	}
}

func TestOnlyWhatDKIMUsesIsSigned(t *testing.T) {
	k, err := load(t).NewKey(makeKey(t, 1024))
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		digest []byte
		opts   crypto.SignerOpts
	}{
		"short digest": {make([]byte, 31), crypto.SHA256},
		"no digest":    {nil, crypto.SHA256},
		"SHA-1":        {make([]byte, 20), crypto.SHA1},
		"unhashed":     {make([]byte, 32), crypto.Hash(0)},
		"PSS":          {make([]byte, 32), &rsa.PSSOptions{Hash: crypto.SHA256}},
	} {
		if sig, err := k.Sign(nil, try.digest, try.opts); err == nil || sig != nil {
			t.Errorf("%s was signed", name)
		}
	}
}

func TestConcurrentSignatures(t *testing.T) {
	l := load(t)
	const workers, rounds, digests = 32, 40, 16
	type known struct {
		key  *libcrypto.Key
		want [digests][]byte
	}
	var keys [3]known
	for i := range keys {
		private := makeKey(t, 1024)
		for n := range digests {
			keys[i].want[n] = signGo(t, private, digestOf(n))
		}
		var err error
		if keys[i].key, err = l.NewKey(private); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				k, n := &keys[(w+r)%len(keys)], (w*7+r)%digests
				sig, err := k.key.Sign(nil, digestOf(n), crypto.SHA256)
				if err != nil || !bytes.Equal(sig, k.want[n]) {
					t.Errorf("worker %d, round %d: wrong signature, error %v", w, r, err)
				}
				if r%8 == 0 {
					runtime.GC()
				}
			}
		})
	}
	wg.Wait()
}

func TestLoadSaysWhyNot(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, library, want string }{
		{"missing", "/nonexistent/libcrypto.so.3", "libcrypto.so.3 not found"},
		{"missing by name", "libhikyaku-nothing.so.3", "libhikyaku-nothing.so.3 not found"},
		{"another library", "libc.so.6", "libc.so.6 has no function OpenSSL_version_num"},
		{"no library", text, "load " + text},
		{"OpenSSL 1.1", liar(t, "RELEASE=0x1010117fL"), "is release 1.1, want 3"},
		{"OpenSSL 4", liar(t, "RELEASE=0x40100020L"), "is release 4.1, want 3"},
		{"not initialised", liar(t, "NO_INIT"), "initialisation: no reason given"},
	} {
		l, err := libcrypto.Load(c.library)
		if err == nil || l != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// A library that does not sign as crypto/rsa does gets no key to sign with.
func TestKeyThatFailsItsTestIsRefused(t *testing.T) {
	private := makeKey(t, 1024)
	for _, c := range []struct {
		fault string
		want  string
	}{
		{"FLIP_AFTER=0", libcrypto.ErrMismatch.Error()},
		{"FLIP_AFTER=1", libcrypto.ErrMismatch.Error()},
		{"SHORT_AFTER=1", "libcrypto: sign: no reason given"},
		{"FAIL_AFTER=1", "libcrypto: sign: error:"},
		{"NO_IMPORT", "libcrypto: import the key: no reason given"},
		{"NO_CONTEXT", "libcrypto: sign: "},
	} {
		l, err := libcrypto.Load(liar(t, c.fault))
		if err != nil {
			t.Fatalf("%s: %v", c.fault, err)
		}
		k, err := l.NewKey(private)
		if k != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.fault, err, c.want)
		}
		if c.want == libcrypto.ErrMismatch.Error() && !errors.Is(err, libcrypto.ErrMismatch) {
			t.Errorf("%s: error %v is not ErrMismatch", c.fault, err)
		}
	}
}

// An error is told once: nothing of it is left in the thread's queue for the
// next one to be explained with.
func TestErrorsAreReadAndCleared(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	failing, err := libcrypto.Load(liar(t, "FAIL_AFTER=2"))
	if err != nil {
		t.Fatal(err)
	}
	silent, err := libcrypto.Load(liar(t, "SHORT_AFTER=2"))
	if err != nil {
		t.Fatal(err)
	}
	private := makeKey(t, 1024)
	reason := func(l *libcrypto.Library) string {
		k, err := l.NewKey(private)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Sign(nil, digestOf(1), crypto.SHA256)
		if err == nil || sig != nil {
			t.Fatal("signed by a library that fails")
		}
		return err.Error()
	}
	if got := reason(failing); !strings.Contains(got, "digest length") {
		t.Errorf("error %q does not give libcrypto's reason", got)
	}
	if got := reason(silent); got != "libcrypto: sign: no reason given" {
		t.Errorf("error %q: an older one was left in the queue", got)
	}
}

// resident is the memory of the process, C's included, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var total, pages int
	if _, err := fmt.Sscan(string(text), &total, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// rounds is how often the tests for leaks repeat what might leak.
func rounds(short, long int) int {
	if os.Getenv("HIKYAKU_LONG") == "1" {
		return long
	}
	return short
}

// A leak of 100 bytes a signature is 10 MB over the long form.
func TestSignaturesLeakNothing(t *testing.T) {
	k, err := load(t).NewKey(makeKey(t, 1024))
	if err != nil {
		t.Fatal(err)
	}
	n := rounds(10_000, 100_000)
	sign := func(times int) {
		digest := digestOf(0)
		for range times {
			if _, err := k.Sign(nil, digest, crypto.SHA256); err != nil {
				t.Fatal(err)
			}
		}
	}
	sign(n / 10) // pools and heaps come to their size
	before := resident(t)
	sign(n)
	grown := resident(t) - before
	t.Logf("%d signatures: memory grew by %d KiB", n, grown>>10)
	if grown > 4<<20 {
		t.Errorf("memory grew by %d bytes over %d signatures", grown, n)
	}
}

// A key with its context is some 10 KB of libcrypto's memory.
func TestKeysOutOfUseAreFreed(t *testing.T) {
	l := load(t)
	private := makeKey(t, 1024)
	n := rounds(1000, 5000)
	use := func(times int) {
		for i := range times {
			if _, err := l.NewKey(private); err != nil {
				t.Fatal(err)
			}
			if i%100 == 0 {
				runtime.GC()
			}
		}
	}
	use(300)
	before := resident(t)
	use(n)
	grown := resident(t) - before
	t.Logf("%d keys: memory grew by %d KiB", n, grown>>10)
	if grown > n*2<<10 {
		t.Errorf("memory grew by %d bytes over %d keys", grown, n)
	}
}

// The signature, its size for C, and what purego wants for its arguments.
func TestSignAllocates(t *testing.T) {
	k, err := load(t).NewKey(makeKey(t, 1024))
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf(0)
	got := testing.AllocsPerRun(100, func() {
		if _, err := k.Sign(nil, digest, crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	})
	if got > 3 {
		t.Errorf("%.0f allocations a signature, want at most 3", got)
	}
}

func BenchmarkSign(b *testing.B) {
	l := load(b)
	for _, bits := range []int{1024, 2048, 4096} {
		private := makeKey(b, bits)
		fast, err := l.NewKey(private)
		if err != nil {
			b.Fatal(err)
		}
		digest := digestOf(0)
		for _, s := range []struct {
			name string
			key  crypto.Signer
		}{{"go", private}, {"libcrypto", fast}} {
			b.Run(fmt.Sprintf("key=RSA-%d/by=%s", bits, s.name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.key.Sign(nil, digest, crypto.SHA256); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("key=RSA-%d/by=%s/parallel", bits, s.name), func(b *testing.B) {
				b.SetParallelism(16) // goroutines a processor
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := s.key.Sign(nil, digest, crypto.SHA256); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
