package credential

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"slices"
	"sync/atomic"

	"hikyaku/controlplane/policy"
)

// Directory knows the clients of one policy. It is immutable and safe for
// concurrent use.
type Directory struct {
	verifier *Verifier
	users    map[string]user
	keys     map[string]key
	networks map[netip.Prefix]string // tenant of a network
	bits4    []int                   // prefix lengths that occur, longest first
	bits6    []int
	nobody   *policy.PasswordHash
}

type user struct {
	tenant string
	hash   *policy.PasswordHash
}

type key struct {
	tenant, name string
	sum          [32]byte
}

// NewDirectory compiles a valid policy.
func NewDirectory(s *policy.Set, v *Verifier) *Directory {
	d := &Directory{verifier: v, users: map[string]user{}, keys: map[string]key{}, networks: map[netip.Prefix]string{}, nobody: nobody}
	for name, t := range s.Tenants {
		for _, u := range t.SMTPUsers {
			if h, err := policy.ParsePasswordHash(u.PasswordHash); err == nil {
				d.users[u.Name] = user{name, &h}
			}
		}
		for _, k := range t.APIKeys {
			if h, err := policy.ParseKeyHash(k.Hash); err == nil {
				d.keys[h.ID] = key{name, k.Name, h.Sum}
			}
		}
		for _, n := range t.Networks {
			d.addNetwork(n.Prefix, name)
		}
	}
	longestFirst := func(a, b int) int { return b - a }
	slices.SortFunc(d.bits4, longestFirst)
	slices.SortFunc(d.bits6, longestFirst)
	return d
}

// nobody stands in for users that do not exist, so that asking for one takes as
// long as asking with a wrong password. No password has this hash: its key is
// all zero bytes.
var nobody = &policy.PasswordHash{MemoryKiB: hashMemoryKiB, Passes: hashPasses, Threads: hashThreads, Salt: make([]byte, saltLen), Key: make([]byte, keyLen)}

// Password checks a login. name is the login name, for events.
func (d *Directory) Password(ctx context.Context, login, password string) (tenant, name string, ok bool) {
	u, known := d.users[login]
	if !known {
		u.hash = d.nobody
	}
	if !d.verifier.Check(ctx, u.hash, password) || !known {
		return "", "", false
	}
	return u.tenant, login, true
}

// APIKey looks a bearer token up. name is the key's name, for events. The id in
// the token is public and finds the key; only the secret is compared in
// constant time.
func (d *Directory) APIKey(_ context.Context, token string) (tenant, name string, ok bool) {
	id, secret, ok := splitKey(token)
	if !ok {
		return "", "", false
	}
	k, known := d.keys[id]
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], k.sum[:]) != 1 || !known {
		return "", "", false
	}
	return k.tenant, k.name, true
}

// Network is the tenant whose networks hold the address; of several the one
// with the longest prefix.
func (d *Directory) Network(addr netip.Addr) (tenant string, ok bool) {
	addr = addr.Unmap().WithZone("")
	bits := d.bits6
	if addr.Is4() {
		bits = d.bits4
	}
	for _, b := range bits {
		p, err := addr.Prefix(b)
		if err != nil {
			continue
		}
		if tenant, ok := d.networks[p]; ok {
			return tenant, true
		}
	}
	return "", false
}

func (d *Directory) addNetwork(p netip.Prefix, tenant string) {
	d.networks[p.Masked()] = tenant
	bits := &d.bits6
	if p.Addr().Is4() {
		bits = &d.bits4
	}
	if !slices.Contains(*bits, p.Bits()) {
		*bits = append(*bits, p.Bits())
	}
}

// Current is the Directory of the policy in force. It answers ingest's
// questions and is swapped whole when policy changes.
type Current struct {
	verifier *Verifier
	d        atomic.Pointer[Directory]
}

// NewCurrent makes one for a first policy.
func NewCurrent(s *policy.Set, v *Verifier) *Current {
	c := &Current{verifier: v}
	c.SetPolicy(s)
	return c
}

// SetPolicy swaps the policy.
func (c *Current) SetPolicy(s *policy.Set) { c.d.Store(NewDirectory(s, c.verifier)) }

// Password is Directory.Password.
func (c *Current) Password(ctx context.Context, login, password string) (tenant, name string, ok bool) {
	return c.d.Load().Password(ctx, login, password)
}

// APIKey is Directory.APIKey.
func (c *Current) APIKey(ctx context.Context, token string) (tenant, name string, ok bool) {
	return c.d.Load().APIKey(ctx, token)
}

// Network is Directory.Network.
func (c *Current) Network(addr netip.Addr) (tenant string, ok bool) { return c.d.Load().Network(addr) }
