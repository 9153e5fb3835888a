package roll

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
)

// Options are what New needs; Changed may be nil.
type Options struct {
	Client *clientv3.Client
	Keys   keyspace.Keys
	Key    keyspace.Key
	Logger *slog.Logger
	// Changed is called after each change, by the goroutine of Run.
	Changed func()
}

// Roll is the list of nodes. Safe for concurrent use.
type Roll struct {
	o  Options
	mu struct {
		sync.Mutex
		nodes map[string]keyspace.Registration
		ring  [][]byte
	}
}

// New makes an empty roll; Run fills it.
func New(o Options) *Roll {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	r := &Roll{o: o}
	r.mu.nodes = map[string]keyspace.Registration{}
	r.mu.ring = [][]byte{r.o.Key.GossipKey()}
	return r
}

// Peer is the address at which a node is reached by the others, host:port.
func (r *Roll) Peer(node string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reg, ok := r.mu.nodes[node]
	switch {
	case !ok:
		return "", fmt.Errorf("node %s is not registered", node)
	case reg.Peer == "":
		return "", fmt.Errorf("node %s has told no address", node)
	}
	return reg.Peer, nil
}

// Gossip lists the gossip addresses of all nodes that have one.
func (r *Roll) Gossip() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, reg := range r.mu.nodes {
		if reg.Gossip != "" {
			all = append(all, reg.Gossip)
		}
	}
	return all
}

// Ring is the gossip key ring, the key in use first: the one that is kept in
// etcd, or the key derived from the cluster's where none is.
func (r *Roll) Ring() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.ring
}

// Waits between tries.
const (
	askWithin  = 3 * time.Second
	retryAfter = time.Second
)

// Run follows etcd until ctx ends.
func (r *Roll) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { r.follow(ctx, r.o.Keys.Node(""), true, r.takeNodes) })
	both.Go(func() { r.follow(ctx, r.o.Keys.Gossip(), false, r.takeRing) })
	both.Wait()
}

// follow reads all that is under a key, again after each change. The lists are
// short and change seldom, so there is nothing to gain from single events.
func (r *Roll) follow(ctx context.Context, key string, prefix bool, take func(*clientv3.GetResponse) error) {
	var opts []clientv3.OpOption
	if prefix {
		opts = append(opts, clientv3.WithPrefix())
	}
	for ctx.Err() == nil {
		err := r.followOnce(ctx, key, opts, take)
		if ctx.Err() != nil {
			return
		}
		r.o.Logger.Debug("the roll of nodes is read again", "key", key, "error", err)
		t := time.NewTimer(retryAfter)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (r *Roll) followOnce(ctx context.Context, key string, opts []clientv3.OpOption, take func(*clientv3.GetResponse) error) error {
	read := func() (revision int64, err error) {
		ask, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		all, err := r.o.Client.Get(ask, key, opts...)
		if err != nil {
			return 0, err
		}
		if err := take(all); err != nil {
			r.o.Logger.Error("the roll of nodes cannot be read", "key", key, "error", err)
		}
		r.o.Changed()
		return all.Header.Revision, nil
	}
	revision, err := read()
	if err != nil {
		return err
	}
	watch, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for w := range r.o.Client.Watch(watch, key, append(opts, clientv3.WithRev(revision+1))...) {
		if err := w.Err(); err != nil {
			return err
		}
		if len(w.Events) == 0 {
			continue
		}
		if _, err := read(); err != nil {
			return err
		}
	}
	return errors.New("the watch ended")
}

func (r *Roll) takeNodes(all *clientv3.GetResponse) error {
	nodes := map[string]keyspace.Registration{}
	var errs []error
	for _, kv := range all.Kvs {
		var reg keyspace.Registration
		if err := json.Unmarshal(kv.Value, &reg); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", kv.Key, err))
			continue
		}
		nodes[strings.TrimPrefix(string(kv.Key), r.o.Keys.Node(""))] = reg
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.nodes = nodes
	return errors.Join(errs...)
}

func (r *Roll) takeRing(all *clientv3.GetResponse) error {
	if len(all.Kvs) == 0 {
		r.setRing([][]byte{r.o.Key.GossipKey()})
		return nil
	}
	var stored keyspace.GossipRing
	if err := json.Unmarshal(all.Kvs[0].Value, &stored); err != nil {
		return err
	}
	var ring [][]byte
	for _, k := range stored.Keys {
		text, err := r.o.Key.Open(keyspace.GossipPlace(k.ID), k.Sealed)
		if err != nil {
			return err
		}
		key, err := hex.DecodeString(text)
		if err != nil {
			return fmt.Errorf("gossip key %s is not hex", k.ID)
		}
		if k.ID == stored.Use {
			ring = append([][]byte{key}, ring...)
		} else {
			ring = append(ring, key)
		}
	}
	r.setRing(ring)
	return nil
}

func (r *Roll) setRing(ring [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.ring = ring
}

// Nodes are the registrations by name.
func (r *Roll) Nodes() map[string]keyspace.Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.mu.nodes)
}
