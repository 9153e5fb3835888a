package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"hikyaku/controlplane/policy"
)

// Parameters of new hashes: the second of OWASP's recommended settings for
// argon2id. 19 MiB is small enough that a few logins at once do not matter to
// a node.
const (
	hashMemoryKiB = 19 * 1024
	hashPasses    = 2
	hashThreads   = 1
	saltLen       = 16
	keyLen        = 32
)

// MaxPassword bounds a password in bytes.
const MaxPassword = 1024

// ErrPassword is returned by Hash for a password that cannot be used.
var ErrPassword = errors.New("want a password of 1 to 1024 bytes without NUL or line ends")

// Hash makes the PHC text that policy stores of a password.
func Hash(password string) (string, error) {
	if !usable(password) {
		return "", ErrPassword
	}
	salt := make([]byte, saltLen)
	if _, err := rand.Read(salt); err != nil {
		panic("BUG: crypto/rand.Read never fails: " + err.Error())
	}
	h := policy.PasswordHash{MemoryKiB: hashMemoryKiB, Passes: hashPasses, Threads: hashThreads, Salt: salt}
	h.Key = derive(h, password, keyLen)
	return h.String(), nil
}

func usable(password string) bool {
	if password == "" || len(password) > MaxPassword {
		return false
	}
	for i := range len(password) {
		if c := password[i]; c == 0 || c == '\r' || c == '\n' {
			return false
		}
	}
	return true
}

func derive(h policy.PasswordHash, password string, n int) []byte {
	return argon2.IDKey([]byte(password), h.Salt, h.Passes, h.MemoryKiB, h.Threads, uint32(n))
}

// Verifier checks passwords against hashes. It is shared by the Directories of
// successive policies, so that a policy change forgets no login. Safe for
// concurrent use.
//
// Clients log in anew for each connection, hundreds of times a second, and
// argon2id takes tens of milliseconds by design. So a login that was right is
// remembered for a while, as a MAC under a key that only this process has:
// memory holds neither passwords nor anything to try passwords against without
// that key. Wrong logins are never remembered; their cost is what slows a
// guesser.
type Verifier struct {
	slots chan struct{} // bounds hashes computed at once, and so memory
	key   [32]byte
	now   func() time.Time
	mu    struct {
		sync.Mutex
		known map[[32]byte]time.Time // MAC of (hash, password) → until when
	}
}

const (
	verifiedFor = 10 * time.Minute
	maxVerified = 10_000
)

// NewVerifier makes one that computes at most parallel hashes at once; 0 is 2.
func NewVerifier(parallel int) *Verifier {
	if parallel <= 0 {
		parallel = 2
	}
	v := &Verifier{slots: make(chan struct{}, parallel), now: time.Now}
	if _, err := rand.Read(v.key[:]); err != nil {
		panic("BUG: crypto/rand.Read never fails: " + err.Error())
	}
	v.mu.known = make(map[[32]byte]time.Time)
	return v
}

// Check reports whether the password has the hash. It is false, too, when ctx
// ends before there was room to compute it.
func (v *Verifier) Check(ctx context.Context, h *policy.PasswordHash, password string) bool {
	if !usable(password) {
		return false
	}
	mac := v.mac(h, password)
	if v.remembered(mac) {
		return true
	}
	select {
	case v.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-v.slots }()
	// Whoever waited may have waited for the same login.
	if v.remembered(mac) {
		return true
	}
	if subtle.ConstantTimeCompare(derive(*h, password, len(h.Key)), h.Key) != 1 {
		return false
	}
	v.remember(mac)
	return true
}

func (v *Verifier) mac(h *policy.PasswordHash, password string) (sum [32]byte) {
	m := hmac.New(sha256.New, v.key[:])
	m.Write([]byte(h.String()))
	m.Write([]byte{0})
	m.Write([]byte(password))
	m.Sum(sum[:0])
	return sum
}

func (v *Verifier) remembered(mac [32]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	until, ok := v.mu.known[mac]
	if ok && !v.now().Before(until) {
		delete(v.mu.known, mac)
		return false
	}
	return ok
}

func (v *Verifier) remember(mac [32]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	if len(v.mu.known) >= maxVerified {
		for k, until := range v.mu.known {
			if !now.Before(until) {
				delete(v.mu.known, k)
			}
		}
	}
	// Still full: forget any one. It costs its owner one more hash.
	if len(v.mu.known) >= maxVerified {
		for k := range v.mu.known {
			delete(v.mu.known, k)
			break
		}
	}
	v.mu.known[mac] = now.Add(verifiedFor)
}

// Remembered is how many logins are remembered, for metrics.
func (v *Verifier) Remembered() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.mu.known)
}
