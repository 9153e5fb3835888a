package policy

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PasswordHash is an argon2id hash taken apart. The leaf reads its form;
// computing one is for node/credential.
type PasswordHash struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
	Salt, Key []byte
}

// Bounds of a password hash. Whoever writes policy must not be able to make a
// node spend gigabytes or minutes on one login.
const (
	maxHashMemoryKiB = 256 << 10
	maxHashPasses    = 16
	maxHashThreads   = 16
)

// ParsePasswordHash reads the PHC form of argon2id:
// "$argon2id$v=19$m=19456,t=2,p=1$salt$key" with base64 without padding.
func ParsePasswordHash(s string) (PasswordHash, error) {
	bad := errors.New("not an argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$key)")
	f := strings.Split(s, "$")
	if len(s) > 512 || len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v=19" {
		return PasswordHash{}, bad
	}
	var h PasswordHash
	p := strings.Split(f[3], ",")
	if len(p) != 3 {
		return PasswordHash{}, bad
	}
	var n [3]uint64
	for i, key := range []string{"m=", "t=", "p="} {
		v, ok := strings.CutPrefix(p[i], key)
		u, err := strconv.ParseUint(v, 10, 32)
		if !ok || err != nil || u == 0 {
			return PasswordHash{}, bad
		}
		n[i] = u
	}
	if n[0] < 8*n[2] || n[0] > maxHashMemoryKiB || n[1] > maxHashPasses || n[2] > maxHashThreads {
		return PasswordHash{}, fmt.Errorf("argon2id parameters are out of range: want m up to %d KiB and at least 8 times p, t up to %d, p up to %d", maxHashMemoryKiB, maxHashPasses, maxHashThreads)
	}
	h.MemoryKiB, h.Passes, h.Threads = uint32(n[0]), uint32(n[1]), uint8(n[2])
	var err1, err2 error
	h.Salt, err1 = base64.RawStdEncoding.Strict().DecodeString(f[4])
	h.Key, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(h.Salt) < 8 || len(h.Salt) > 64 || len(h.Key) < 16 || len(h.Key) > 64 {
		return PasswordHash{}, bad
	}
	return h, nil
}

// String is the PHC form.
func (h PasswordHash) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", h.MemoryKiB, h.Passes, h.Threads, b64(h.Salt), b64(h.Key))
}

// KeyHash is the stored form of an API key: its public id, which finds it, and
// the SHA-256 of its secret. A plain hash is enough since the secret is 256
// random bits, not a password.
type KeyHash struct {
	ID  string
	Sum [32]byte
}

// KeyIDLen is the length of the id of an API key.
const KeyIDLen = 12

// ParseKeyHash reads "sha256:<id>:<hex of the sum>".
func ParseKeyHash(s string) (KeyHash, error) {
	bad := errors.New("not the hash of an API key (sha256:<id>:<hex>)")
	f := strings.Split(s, ":")
	if len(f) != 3 || f[0] != "sha256" || len(f[1]) != KeyIDLen || !isLowerAlnum(f[1]) || len(f[2]) != 64 {
		return KeyHash{}, bad
	}
	h := KeyHash{ID: f[1]}
	if n, err := hex.Decode(h.Sum[:], []byte(f[2])); err != nil || n != len(h.Sum) {
		return KeyHash{}, bad
	}
	return h, nil
}

// String is the stored form.
func (h KeyHash) String() string { return "sha256:" + h.ID + ":" + hex.EncodeToString(h.Sum[:]) }

func isLowerAlnum(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
