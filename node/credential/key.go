package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"hikyaku/controlplane/policy"
)

// keyPrefix begins every API key, so that people and secret scanners know one
// when they see it.
const keyPrefix = "hk_live_"

const (
	secretBytes = 32
	maxToken    = 256
)

var keyText = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// NewAPIKey makes a key, "hk_live_<id>_<secret>", and the hash of it that
// policy stores. The key itself is kept nowhere.
func NewAPIKey() (key, hash string) {
	var b [8 + secretBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("BUG: crypto/rand.Read never fails: " + err.Error())
	}
	id := keyText.EncodeToString(b[:8])[:policy.KeyIDLen]
	secret := keyText.EncodeToString(b[8:])
	h := policy.KeyHash{ID: id, Sum: sha256.Sum256([]byte(secret))}
	return keyPrefix + id + "_" + secret, h.String()
}

// splitKey takes a key apart.
func splitKey(token string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(token, keyPrefix)
	if !ok || len(token) > maxToken {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	return id, secret, ok && len(id) == policy.KeyIDLen && secret != ""
}
