package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
)

// gossipKeyBytes is the length of a gossip key: AES-256.
const gossipKeyBytes = 32

var _ state.GossipKeys = (*Control)(nil)

// gossipKeyID tells keys apart without showing them; node/gossip.KeyID gives the
// same, so that a node's list can be compared.
func gossipKeyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("hikyaku gossip key "), key...))
	return hex.EncodeToString(sum[:4])
}

// GossipKeys is of state.GossipKeys.
func (c *Control) GossipKeys(ctx context.Context) ([]state.GossipKey, error) {
	ring, _, err := c.gossipRing(ctx)
	if err != nil {
		return nil, err
	}
	out := []state.GossipKey{}
	for _, k := range ring.Keys {
		out = append(out, state.GossipKey{ID: k.ID, InUse: k.ID == ring.Use, Added: k.Added, Author: k.Author})
	}
	return out, nil
}

// AddGossipKey is of state.GossipKeys.
func (c *Control) AddGossipKey(ctx context.Context, author string) (added state.GossipKey, err error) {
	key := make([]byte, gossipKeyBytes)
	_, _ = rand.Read(key) // never fails
	id := gossipKeyID(key)
	sealed, err := c.opt.Key.Seal(keyspace.GossipPlace(id), hex.EncodeToString(key))
	if err != nil {
		return added, fmt.Errorf("add a gossip key: %w", err)
	}
	return added, c.turnRing(ctx, "add gossip key "+id, author, func(r *keyspace.GossipRing) error {
		if len(r.Keys) >= keyspace.MaxGossipKeys {
			return state.Refuse("the change before is not at its end: use the newer key and remove the older one first")
		}
		k := keyspace.GossipKey{ID: id, Sealed: sealed, Added: c.opt.Now().UTC(), Author: author}
		r.Keys = append(r.Keys, k)
		if r.Use == "" {
			r.Use = id
		}
		added = state.GossipKey{ID: id, InUse: r.Use == id, Added: k.Added, Author: author}
		return nil
	})
}

// UseGossipKey is of state.GossipKeys.
func (c *Control) UseGossipKey(ctx context.Context, id, author string) error {
	return c.turnRing(ctx, "use gossip key "+id, author, func(r *keyspace.GossipRing) error {
		if !slices.ContainsFunc(r.Keys, func(k keyspace.GossipKey) bool { return k.ID == id }) {
			return fmt.Errorf("gossip key %s: %w", id, state.ErrNotFound)
		}
		r.Use = id
		return nil
	})
}

// RemoveGossipKey is of state.GossipKeys.
func (c *Control) RemoveGossipKey(ctx context.Context, id, author string) error {
	return c.turnRing(ctx, "remove gossip key "+id, author, func(r *keyspace.GossipRing) error {
		before := len(r.Keys)
		r.Keys = slices.DeleteFunc(r.Keys, func(k keyspace.GossipKey) bool { return k.ID == id })
		switch {
		case len(r.Keys) == before:
			return fmt.Errorf("gossip key %s: %w", id, state.ErrNotFound)
		case r.Use == id:
			return state.Refuse("gossip key %s is in use: use another one first", id)
		}
		return nil
	})
}

// gossipRing reads the ring and the revision to compare with.
func (c *Control) gossipRing(ctx context.Context) (r keyspace.GossipRing, mod int64, err error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askTimeout)
	defer cancel()
	got, err := c.opt.Client.Get(ctx, c.opt.Keys.Gossip())
	if err != nil {
		return r, 0, fmt.Errorf("read the gossip keys: %w", err)
	}
	if len(got.Kvs) == 0 {
		r, err := c.derivedRing()
		return r, 0, err
	}
	if err := json.Unmarshal(got.Kvs[0].Value, &r); err != nil {
		return r, 0, fmt.Errorf("read the gossip keys: %w", err)
	}
	return r, got.Kvs[0].ModRevision, nil
}

// derivedRing is the ring before any key was added: nodes gossip by a key that is
// derived from the cluster's.
func (c *Control) derivedRing() (r keyspace.GossipRing, err error) {
	if c.opt.Key.IsZero() {
		return r, nil
	}
	key := c.opt.Key.GossipKey()
	id := gossipKeyID(key)
	sealed, err := c.opt.Key.Seal(keyspace.GossipPlace(id), hex.EncodeToString(key))
	if err != nil {
		return r, fmt.Errorf("read the gossip keys: %w", err)
	}
	return keyspace.GossipRing{Keys: []keyspace.GossipKey{{ID: id, Sealed: sealed, Author: "derived from the cluster key"}}, Use: id}, nil
}

// turnRing changes the ring as it was read, or tries again.
func (c *Control) turnRing(ctx context.Context, what, author string, change func(*keyspace.GossipRing) error) error {
	for range orderTries {
		r, mod, err := c.gossipRing(ctx)
		if err != nil {
			return err
		}
		if err := change(&r); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		record, err := json.Marshal(r)
		if err != nil {
			panic("BUG: encode the gossip keys: " + err.Error())
		}
		ask, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askTimeout)
		key := c.opt.Keys.Gossip()
		done, err := c.opt.Client.Txn(ask).If(clientv3.Compare(clientv3.ModRevision(key), "=", mod)).Then(clientv3.OpPut(key, string(record))).Commit()
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case done.Succeeded:
			c.log.Info(what, "author", author, "revision", done.Header.Revision)
			return nil
		}
	}
	return fmt.Errorf("%s: %w", what, errConflict)
}
