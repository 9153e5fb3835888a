package libcrypto

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// Key is an RSA private key held by libcrypto. It is a crypto.Signer for
// SHA-256 digests and PKCS #1 v1.5, and safe for concurrent use. What libcrypto
// holds for it is freed when the Key can no longer be reached.
type Key struct {
	public *rsa.PublicKey
	size   int // of a signature, in bytes
	held   *held
}

// held is what libcrypto allocated for one key. It must not lead back to the
// Key, or the Key would never become unreachable.
type held struct {
	lib *Library
	key uintptr // EVP_PKEY
	mu  struct {
		sync.Mutex
		// idle are contexts ready to sign. There are never more contexts than
		// the library has slots.
		idle []uintptr
	}
}

// ErrMismatch is returned for a key with which libcrypto does not make the
// signatures of crypto/rsa.
var ErrMismatch = errors.New("libcrypto: its signature differs from that of crypto/rsa")

// NewKey hands a private key to libcrypto and compares its signatures with
// those of crypto/rsa, bit for bit.
func (l *Library) NewKey(private *rsa.PrivateKey) (*Key, error) {
	der := x509.MarshalPKCS1PrivateKey(private)
	defer clear(der)
	h := &held{lib: l}
	if err := l.run("import the key", func() bool {
		h.key = l.fn.importKey(der)
		return h.key != 0
	}); err != nil {
		return nil, err
	}
	k := &Key{public: &private.PublicKey, size: private.Size(), held: h}
	runtime.AddCleanup(k, (*held).free, h)
	if err := k.compare(private); err != nil {
		return nil, err
	}
	return k, nil
}

// compare signs twice with both. The first signature with a key makes its
// blinding factors, the second uses what was kept of them.
func (k *Key) compare(private *rsa.PrivateKey) error {
	for _, text := range []string{"hikyaku", "飛脚"} {
		digest := sha256.Sum256([]byte(text))
		want, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
		if err != nil {
			return fmt.Errorf("sign with crypto/rsa, to compare: %w", err)
		}
		got, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return ErrMismatch
		}
	}
	return nil
}

// Public is the key's *rsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign returns the PKCS #1 v1.5 signature of a SHA-256 digest. It takes no
// randomness from its first argument, which may be nil.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("libcrypto: only SHA-256 digests are signed, by PKCS #1 v1.5")
	}
	sig := make([]byte, k.size)
	err := k.held.sign(sig, digest)
	runtime.KeepAlive(k) // no sooner may the cleanup free what the call used
	if err != nil {
		return nil, err
	}
	return sig, nil
}

func (h *held) sign(sig, digest []byte) error {
	return h.lib.run("sign", func() bool {
		ctx := h.take()
		if ctx == 0 {
			return false
		}
		done := h.lib.fn.signDigest(ctx, sig, digest)
		if !done {
			// What state a failure leaves it in is not documented.
			h.lib.fn.freeContext(ctx)
			return false
		}
		h.put(ctx)
		return true
	})
}

// take gets a context out of the list, or makes one; 0 when that fails.
func (h *held) take() uintptr {
	h.mu.Lock()
	if n := len(h.mu.idle); n > 0 {
		ctx := h.mu.idle[n-1]
		h.mu.idle = h.mu.idle[:n-1]
		h.mu.Unlock()
		return ctx
	}
	h.mu.Unlock()
	return h.lib.fn.newContext(h.key)
}

func (h *held) put(ctx uintptr) {
	h.mu.Lock()
	h.mu.idle = append(h.mu.idle, ctx)
	h.mu.Unlock()
}

// free gives everything back. No signature is being made: the Key is gone.
func (h *held) free() {
	h.mu.Lock()
	idle := h.mu.idle
	h.mu.idle = nil
	h.mu.Unlock()
	for _, ctx := range idle {
		h.lib.fn.freeContext(ctx)
	}
	h.lib.fn.freeKey(h.key)
}
