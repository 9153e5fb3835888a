package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"net/netip"
	"strings"
	"sync"
	"time"

	"hikyaku/controlplane/policy"
)

// keyPrefix begins every admin key, so that people and secret scanners know one
// when they see it, and nobody takes it for a tenant's key to hand in mail.
const keyPrefix = "hk_admin_"

const (
	secretBytes = 32
	maxText     = 256
)

var keyText = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// NewKey makes a key, "hk_admin_<id>_<secret>", and the hash of it that policy
// stores. The key itself is kept nowhere.
func NewKey() (text, hash string) {
	var b [8 + secretBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	id := keyText.EncodeToString(b[:8])[:policy.KeyIDLen]
	secret := keyText.EncodeToString(b[8:])
	h := policy.KeyHash{ID: id, Sum: sha256.Sum256([]byte(secret))}
	return keyPrefix + id + "_" + secret, h.String()
}

// splitKey takes a key apart.
func splitKey(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	if !ok || len(text) > maxText {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	return id, secret, ok && len(id) == policy.KeyIDLen && secret != ""
}

// adminKey is an AdminKey of policy, ready to be compared.
type adminKey struct {
	name     string
	role     Role
	tenant   string
	sum      [32]byte
	disabled bool
	expires  time.Time
	networks []netip.Prefix
}

// keyIndex finds keys by their public id. It belongs to one policy.
type keyIndex struct {
	set  *policy.Set
	byID map[string]adminKey
}

// index is that of the policy in force.
func (g *Guard) index() *keyIndex {
	if g.o.Policy == nil {
		return &keyIndex{}
	}
	set := g.o.Policy()
	if set == nil { // nothing has been read yet
		return &keyIndex{}
	}
	if x := g.keys.Load(); x != nil && x.set == set {
		return x
	}
	x := newKeyIndex(set)
	g.keys.Store(x)
	return x
}

// find gives the key that the text is, or why it is none. The secret of an
// unknown id is compared too, so that the time does not tell which ids exist.
func (x *keyIndex) find(text string, from netip.Addr, now time.Time) (adminKey, string) {
	id, secret, ok := splitKey(text)
	if !ok {
		return adminKey{}, "not the token, and no admin key"
	}
	k, known := x.byID[id]
	sum := sha256.Sum256([]byte(secret))
	same := subtle.ConstantTimeCompare(sum[:], k.sum[:]) == 1
	switch {
	case !known || !same:
		return adminKey{}, "no such key"
	case k.disabled:
		return adminKey{}, "key " + k.name + " is disabled"
	case !k.expires.IsZero() && !now.Before(k.expires):
		return adminKey{}, "key " + k.name + " has expired"
	case !within(k.networks, from):
		return adminKey{}, "key " + k.name + " may not be used from this address"
	}
	return k, ""
}

func within(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return len(ps) == 0
}

// Refused logins are told one by one up to tellBurst, then one in tellEvery: a
// peer must not be able to fill the audit log.
const (
	tellBurst = 10
	tellEvery = 30 * time.Second
)

// tellings says which refusals are told.
type tellings struct {
	mu struct {
		sync.Mutex
		full  time.Time // when the whole burst is there again
		quiet uint64    // not told since the last one
	}
}

func (t *tellings) tell(now time.Time) (more uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.full.Sub(now) > (tellBurst-1)*tellEvery {
		t.mu.quiet++
		return 0, false
	}
	if t.mu.full.Before(now) {
		t.mu.full = now
	}
	t.mu.full = t.mu.full.Add(tellEvery)
	more, t.mu.quiet = t.mu.quiet, 0
	return more, true
}

// newKeyIndex compiles the keys of a policy.
func newKeyIndex(set *policy.Set) *keyIndex {
	x := &keyIndex{set: set, byID: make(map[string]adminKey, len(set.AdminKeys))}
	for name, k := range set.AdminKeys {
		h, err := policy.ParseKeyHash(k.Hash)
		if err != nil {
			continue // policy was validated, so this key was written by a later version: it lets nobody in
		}
		a := adminKey{name: name, role: Role(k.Role), tenant: k.Tenant, sum: h.Sum, disabled: k.Disabled, expires: k.Expires.Time()}
		for _, n := range k.Networks {
			a.networks = append(a.networks, n.Prefix)
		}
		x.byID[h.ID] = a
	}
	return x
}
