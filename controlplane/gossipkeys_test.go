package controlplane_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hikyaku/controlplane"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
	"hikyaku/node/gossip"
)

func TestGossipKeysTurn(t *testing.T) {
	c := newCluster(t, "")
	key, _ := keyspace.NewKey()
	p := c.start("c1", func(o *controlplane.Options) { o.Key = key })
	ctx := t.Context()
	before, err := p.GossipKeys(ctx)
	if err != nil || len(before) != 1 || !before[0].InUse || before[0].ID != gossip.KeyID(key.GossipKey()) {
		t.Fatalf("before any key was added, the one derived from the cluster's is in use: %+v, %v", before, err)
	}
	first := before[0]
	second, err := p.AddGossipKey(ctx, "admin")
	if err != nil || second.InUse || second.ID == first.ID {
		t.Fatalf("%+v, %v", second, err)
	}
	for what, tt := range map[string]struct {
		err  error
		want error
	}{
		"a third":             {third(p.AddGossipKey(ctx, "admin")), state.ErrRefused},
		"remove the one used": {p.RemoveGossipKey(ctx, first.ID, "admin"), state.ErrRefused},
		"use a stranger":      {p.UseGossipKey(ctx, "00000000", "admin"), state.ErrNotFound},
		"remove a stranger":   {p.RemoveGossipKey(ctx, "00000000", "admin"), state.ErrNotFound},
	} {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v", what, tt.err)
		}
	}
	if err := p.UseGossipKey(ctx, second.ID, "admin"); err != nil {
		t.Fatal(err)
	}
	if err := p.RemoveGossipKey(ctx, first.ID, "admin"); err != nil {
		t.Fatal(err)
	}
	list, err := p.GossipKeys(ctx)
	if err != nil || len(list) != 1 || list[0].ID != second.ID || !list[0].InUse || list[0].Author != "admin" {
		t.Errorf("%+v, %v", list, err)
	}

	// A node opens what lies in etcd, and knows it by the same id.
	ring, _ := get[keyspace.GossipRing](c, c.keys.Gossip())
	text, err := key.Open(keyspace.GossipPlace(second.ID), ring.Keys[0].Sealed)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := hex.DecodeString(text)
	if err != nil || gossip.KeyID(plain) != second.ID {
		t.Errorf("the node calls it %s, the ring %s; %v", gossip.KeyID(plain), second.ID, err)
	}
	raw, err := c.client.Get(ctx, c.keys.Gossip())
	if err != nil || strings.Contains(string(raw.Kvs[0].Value), text) {
		t.Errorf("the key lies open in etcd, or %v", err)
	}
}

func third(_ state.GossipKey, err error) error { return err }

// Two who turn the ring at once: one of them sees what the other did.
func TestGossipKeysAreTurnedOneAtATime(t *testing.T) {
	c := newCluster(t, "")
	key, _ := keyspace.NewKey()
	p := c.start("c1", func(o *controlplane.Options) { o.Key = key })
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range 2 {
		wg.Go(func() {
			_, err := p.AddGossipKey(t.Context(), "admin")
			if errors.Is(err, state.ErrRefused) {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if refused.Load() != 1 {
		t.Errorf("%d of two were refused, though there is room for one", refused.Load())
	}
	if list, err := p.GossipKeys(t.Context()); err != nil || len(list) != 2 || list[0].InUse == list[1].InUse {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestGossipKeysNeedTheClusterKey(t *testing.T) {
	c := newCluster(t, "")
	p := c.start("c1")
	if _, err := p.AddGossipKey(t.Context(), "admin"); err == nil {
		t.Error("a key was added that cannot be sealed")
	}
}
