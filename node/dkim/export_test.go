package dkim

import (
	"crypto"
	"errors"
	"io"
)

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
