package keyspace

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// KeyBytes is the length of the cluster key.
const KeyBytes = 32

// sealPrefix marks a sealed text and the way it was sealed: AES-256-GCM with a
// key derived from the cluster key, a random nonce before the ciphertext.
const sealPrefix = "sealed:v1:"

// Key is the cluster key. It never leaves the files that hold it; what is used
// is derived from it (RFC 5869), so that no purpose can stand in for another.
type Key struct{ secret []byte }

// ParseKey reads the content of a key file: 64 hex digits, with or without a
// line end.
func ParseKey(text string) (Key, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != KeyBytes {
		return Key{}, fmt.Errorf("cluster key: want %d hex digits, as made by: hikyaku secret cluster-key", 2*KeyBytes)
	}
	return Key{b}, nil
}

// NewKey makes a random key and its text for a file.
func NewKey() (Key, string) {
	b := make([]byte, KeyBytes)
	_, _ = rand.Read(b) // never fails
	return Key{b}, hex.EncodeToString(b) + "\n"
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return len(k.secret) == 0 }

// String hides the key.
func (k Key) String() string { return "***" }

// Derive gives the key of one purpose: "seal", "peer", "gossip", …
func (k Key) Derive(purpose string, bytes int) []byte {
	d, err := hkdf.Key(sha256.New, k.secret, nil, "hikyaku "+purpose, bytes)
	if err != nil {
		panic("BUG: derive a key: " + err.Error())
	}
	return d
}

// PeerToken is the bearer token with which nodes and control planes of one
// cluster know each other where there are no certificates (loopback only).
func (k Key) PeerToken() string { return hex.EncodeToString(k.Derive("peer", 32)) }

// GossipKey encrypts gossip until a ring of keys is kept in etcd.
func (k Key) GossipKey() []byte { return k.Derive("gossip", 32) }

func (k Key) aead() (cipher.AEAD, error) {
	if k.IsZero() {
		return nil, errors.New("there is no cluster key")
	}
	b, err := aes.NewCipher(k.Derive("seal", 32))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// Seal hides a text. place says where it belongs ("Route/r password"): opened
// anywhere else, it is refused.
func (k Key) Seal(place, text string) (string, error) {
	a, err := k.aead()
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", place, err)
	}
	nonce := make([]byte, a.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return sealPrefix + base64.StdEncoding.EncodeToString(a.Seal(nonce, nonce, []byte(text), []byte(place))), nil
}

// Open gives the text back. The error never shows any of it.
func (k Key) Open(place, sealed string) (string, error) {
	a, err := k.aead()
	if err != nil {
		return "", fmt.Errorf("open %s: %w", place, err)
	}
	text, ok := strings.CutPrefix(sealed, sealPrefix)
	b, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(b) < a.NonceSize() {
		return "", fmt.Errorf("open %s: it is not sealed in a way this version knows", place)
	}
	out, err := a.Open(nil, b[:a.NonceSize()], b[a.NonceSize():], []byte(place))
	if err != nil {
		return "", fmt.Errorf("open %s: it was sealed with another cluster key, for another place, or is damaged", place)
	}
	return string(out), nil
}
