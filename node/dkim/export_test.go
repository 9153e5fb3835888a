package dkim

import (
	"bytes"
	"crypto"
	"errors"
	"hash"
	"io"

	"hikyaku/controlplane/policy"
)

// kept is a hash that keeps what is written to it.
type kept struct {
	hash.Hash
	buf bytes.Buffer
}

func (k *kept) Write(b []byte) (int, error) { return k.buf.Write(b) }

// CanonicalBody is what is hashed of a body.
func CanonicalBody(body ...[]byte) []byte {
	var k kept
	hashBody(&k, make([]byte, 0, scratchSize), body)
	return k.buf.Bytes()
}

// NewSignersBy makes signers whose RSA engine is chosen as the environment
// variable would, with the library of that name.
func NewSignersBy(choice, library string, set *policy.Set) (*Signers, []error) {
	return newSigners(set, nil, newRSAEngine(choice, library))
}

// KeyOf is the nth key of a domain.
func KeyOf(s *Signers, domain string, n int) crypto.Signer { return s.domains[domain].keys[n].key }

// FailingKey is a key whose Sign fails, as a key in a device can.
type FailingKey struct{ crypto.Signer }

// Sign always fails.
func (FailingKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("device is away")
}

// BreakKey makes the nth key of a domain fail.
func BreakKey(s *Signers, domain string, n int) {
	k := s.domains[domain].keys[n]
	k.key = FailingKey{k.key}
}
