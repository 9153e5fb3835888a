package dkim

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"hikyaku/node/dkim/libcrypto"
)

// RSAVariable is the environment variable that chooses what makes RSA
// signatures: "go" for crypto/rsa; empty or "auto" for libcrypto where the
// machine has it.
const RSAVariable = "HIKYAKU_RSA"

// What makes RSA signatures.
const (
	byLibcrypto = "libcrypto"
	byGo        = "crypto/rsa"
)

// RSA says what makes RSA signatures, and why.
type RSA struct {
	Signer  string `json:"signer"`            // libcrypto or crypto/rsa
	Version string `json:"version,omitempty"` // of libcrypto
	Reason  string `json:"reason"`
}

func (r RSA) String() string {
	if r.Version != "" {
		return fmt.Sprintf("%s %s (%s)", r.Signer, r.Version, r.Reason)
	}
	return fmt.Sprintf("%s (%s)", r.Signer, r.Reason)
}

// SystemRSA is what makes RSA signatures in this process. The first call loads
// libcrypto.
func SystemRSA() RSA { return systemRSA().says }

// rsaEngine makes RSA keys faster, where it can.
type rsaEngine struct {
	lib  *libcrypto.Library // nil: crypto/rsa signs
	says RSA
}

var systemRSA = sync.OnceValue(func() *rsaEngine { return newRSAEngine(os.Getenv(RSAVariable), "") })

// newRSAEngine loads the library of that name (empty: the system's), unless
// choice is against it.
func newRSAEngine(choice, library string) *rsaEngine {
	switch choice {
	case "", "auto":
	case "go":
		return &rsaEngine{says: RSA{Signer: byGo, Reason: RSAVariable + "=go"}}
	default:
		return &rsaEngine{says: RSA{Signer: byGo, Reason: fmt.Sprintf("%s is %.20q: want auto or go", RSAVariable, choice)}}
	}
	lib, err := libcrypto.Load(library)
	if err != nil {
		return &rsaEngine{says: RSA{Signer: byGo, Reason: err.Error()}}
	}
	return &rsaEngine{lib: lib, says: RSA{Signer: byLibcrypto, Version: lib.Version(), Reason: "loaded at run time"}}
}

// accelerate hands an RSA key to libcrypto. A key that libcrypto does not take,
// or does not sign with as crypto/rsa does, stays as it is.
func (e *rsaEngine) accelerate(key crypto.Signer, fallbacks *atomic.Uint64) parsedKey {
	private, isRSA := key.(*rsa.PrivateKey)
	if !isRSA || e.lib == nil {
		return parsedKey{Signer: key}
	}
	fast, err := e.lib.NewKey(private)
	if err != nil {
		return parsedKey{Signer: key, slow: err}
	}
	return parsedKey{Signer: &fastKey{Key: fast, slow: private, fallbacks: fallbacks}}
}

// fastKey signs by libcrypto. When that fails, for want of memory for one,
// crypto/rsa makes the same signature, and the failure is counted.
type fastKey struct {
	*libcrypto.Key
	slow      *rsa.PrivateKey
	fallbacks *atomic.Uint64
}

func (k *fastKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := k.Key.Sign(random, digest, opts)
	if err == nil {
		return sig, nil
	}
	k.fallbacks.Add(1)
	return k.slow.Sign(random, digest, opts)
}
