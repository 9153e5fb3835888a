package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

// newRing is the key ring; nil without keys.
func newRing(keys [][]byte) (*memberlist.Keyring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("gossip: there are %d keys, at most %d are used: one, and one that is coming or going", len(keys), MaxKeys)
	}
	for i, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return nil, fmt.Errorf("gossip: key %d: want 16, 24 or 32 bytes", i+1)
		}
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("gossip: key ring: %w", err)
	}
	return ring, nil
}

// KeyID tells keys apart without showing them: the beginning of a hash.
func KeyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("hikyaku gossip key "), key...))
	return hex.EncodeToString(sum[:4])
}

// Keys are the ids of the keys on the ring, that which encrypts first.
func (g *Gossip) Keys() []string {
	g.keys.Lock()
	defer g.keys.Unlock()
	if g.ring == nil {
		return nil
	}
	var ids []string
	for _, k := range g.ring.GetKeys() {
		ids = append(ids, KeyID(k))
	}
	return ids
}

var errNoRing = errors.New("gossip: it was started without a key, and is not encrypted; start it again with one")

// InstallKey is the first step to a new key: what is encrypted with it can be
// read. Installing it twice does no harm.
func (g *Gossip) InstallKey(key []byte) error {
	g.keys.Lock()
	defer g.keys.Unlock()
	if g.ring == nil {
		return errNoRing
	}
	if err := memberlist.ValidateKey(key); err != nil {
		return errors.New("gossip: install key: want 16, 24 or 32 bytes")
	}
	have := g.ring.GetKeys()
	for _, k := range have {
		if bytes.Equal(k, key) {
			return nil
		}
	}
	if len(have) >= MaxKeys {
		return fmt.Errorf("gossip: install key %s: the change before is not at its end; remove key %s first", KeyID(key), KeyID(have[len(have)-1]))
	}
	if err := g.ring.AddKey(bytes.Clone(key)); err != nil {
		return fmt.Errorf("gossip: install key %s: %w", KeyID(key), err)
	}
	return nil
}

// UseKey is the second step, when all nodes have the key: encrypt with it.
func (g *Gossip) UseKey(key []byte) error {
	g.keys.Lock()
	defer g.keys.Unlock()
	if g.ring == nil {
		return errNoRing
	}
	if err := g.ring.UseKey(key); err != nil {
		return fmt.Errorf("gossip: use key %s: it is not installed here", KeyID(key))
	}
	return nil
}

// RemoveKey is the third step, when all nodes use the new key: what is
// encrypted with the old one is not heard any more. A key that is not there is
// removed already.
func (g *Gossip) RemoveKey(key []byte) error {
	g.keys.Lock()
	defer g.keys.Unlock()
	if g.ring == nil {
		return errNoRing
	}
	if bytes.Equal(key, g.ring.GetPrimaryKey()) {
		return fmt.Errorf("gossip: remove key %s: it is the one in use; use another first", KeyID(key))
	}
	if err := g.ring.RemoveKey(key); err != nil {
		return fmt.Errorf("gossip: remove key %s: %w", KeyID(key), err)
	}
	return nil
}

// SetKeys brings the ring to these keys, the first to encrypt with, one or two,
// whichever of the three steps that is. It is for a node that is told the whole
// ring; that all nodes have made a step before the next is begun is for whoever
// tells it.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return fmt.Errorf("gossip: set keys: there are %d, want 1 to %d", len(keys), MaxKeys)
	}
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return errors.New("gossip: set keys: want 16, 24 or 32 bytes each")
		}
	}
	// A node that has slept through a change may have none of the new keys: its
	// spare one makes room.
	if err := g.removeOthers(keys); err != nil {
		return err
	}
	if err := errors.Join(g.InstallKey(keys[0]), g.UseKey(keys[0]), g.removeOthers(keys)); err != nil {
		return err
	}
	return g.InstallKey(keys[len(keys)-1])
}

// removeOthers removes what is neither wanted nor in use.
func (g *Gossip) removeOthers(wanted [][]byte) error {
	g.keys.Lock()
	if g.ring == nil {
		g.keys.Unlock()
		return errNoRing
	}
	have := g.ring.GetKeys()
	g.keys.Unlock()
	var errs []error
	for _, k := range have[1:] {
		if !slices.ContainsFunc(wanted, func(w []byte) bool { return bytes.Equal(w, k) }) {
			errs = append(errs, g.RemoveKey(k))
		}
	}
	return errors.Join(errs...)
}
