package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
)

// What stays of the history in full: so many revisions, and for so long,
// whichever is more. Of older ones who, when, why and what was changed stay for
// good, but not the resources: nobody can go back to them.
const (
	keepRevisions = 1000 // unless Options.Keep says otherwise
	keepFor       = 90 * 24 * time.Hour
	tidyEvery     = time.Hour
)

// Compact drops what is not kept: the resources of old revisions, the bases
// before them, and parts of bases that nothing refers to. An Etcd does so every
// hour; any number may do it at once.
func (e *Etcd) Compact(ctx context.Context) error {
	r := &pinned{kv: e.client}
	head, _, err := e.o.Keys.LoadHead(ctx, r)
	if err != nil || head.Base == 0 {
		return err
	}
	bases, err := e.bases(ctx, r.rev)
	if err != nil {
		return err
	}
	cut, err := e.cutoff(ctx, r, head, bases)
	if err != nil {
		return err
	}
	if cut > 0 {
		if err := e.strip(ctx, cut); err != nil {
			return err
		}
	}
	for rev, b := range bases {
		if rev < cut {
			// The base goes before its parts: without it they are nothing.
			if err := e.drop(ctx, e.o.Keys.PolicyBase(rev)); err != nil {
				return err
			}
			b.id = ""
		}
		for _, part := range b.parts {
			// A writer may be at it where the head has not gone by yet.
			if rev < head.Base && !b.owns(part, e.o.Keys.PolicyBase(rev)) {
				if err := e.drop(ctx, part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (e *Etcd) drop(ctx context.Context, key string) error {
	if _, err := e.client.Delete(ctx, key); err != nil {
		return fmt.Errorf("drop %s: %w", key, err)
	}
	return nil
}

// baseKeys is what lies under the number of a base.
type baseKeys struct {
	id    string // "" where there is no base, only parts
	parts []string
}

func (b *baseKeys) owns(part, base string) bool {
	return b.id != "" && len(part) > len(base)+1+len(b.id) && part[len(base)+1:len(base)+1+len(b.id)] == b.id
}

// bases lists what is under policy/base.
func (e *Etcd) bases(ctx context.Context, rev int64) (map[int64]*baseKeys, error) {
	prefix := e.o.Keys.PolicyBase(0)
	resp, err := e.client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithRev(rev))
	if err != nil {
		return nil, fmt.Errorf("list the bases: %w", err)
	}
	out := map[int64]*baseKeys{}
	for _, kv := range resp.Kvs {
		n, part := e.o.Keys.PolicyBaseOf(string(kv.Key))
		if n == 0 {
			continue
		}
		if out[n] == nil {
			out[n] = &baseKeys{}
		}
		if part {
			out[n].parts = append(out[n].parts, string(kv.Key))
			continue
		}
		b, err := e.o.Keys.LoadBaseMeta(ctx, &pinned{kv: e.client, rev: rev}, n)
		if err != nil {
			return nil, err
		}
		out[n].id = b.ID
	}
	return out, nil
}

// cutoff is the newest base that is old enough for all before it to go, 0 for
// none.
func (e *Etcd) cutoff(ctx context.Context, r *pinned, head keyspace.Head, bases map[int64]*baseKeys) (int64, error) {
	old := e.o.Now().Add(-keepFor)
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(bases))) {
		if bases[n].id == "" || n > head.Revision-int64(e.o.Keep) {
			continue
		}
		kvs, err := r.Range(ctx, e.o.Keys.PolicyDelta(n), "", 1)
		if err != nil {
			return 0, err
		}
		if len(kvs) == 0 {
			continue
		}
		d, err := keyspace.DecodeDelta(kvs[0].Value)
		if err != nil {
			return 0, err
		}
		if d.Time.Before(old) {
			return n, nil
		}
	}
	return 0, nil
}

// strip drops the resources from deltas up to a revision, oldest first: after
// an interruption those left are the newest, down to the first that is done.
func (e *Etcd) strip(ctx context.Context, upTo int64) error {
	var todo []int64
	err := e.eachDelta(ctx, upTo+1, func(d *keyspace.Delta) (bool, error) {
		if !d.Stripped && d.Base == nil {
			todo = append(todo, d.Revision)
		}
		return !d.Stripped, nil
	})
	if err != nil {
		return err
	}
	for _, n := range slices.Backward(todo) {
		key := e.o.Keys.PolicyDelta(n)
		resp, err := e.client.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("read policy revision %d: %w", n, err)
		}
		if len(resp.Kvs) == 0 {
			continue
		}
		value, changed, err := keyspace.StripDelta(resp.Kvs[0].Value)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		_, err = e.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", resp.Kvs[0].ModRevision)).Then(clientv3.OpPut(key, string(value))).Commit()
		if err != nil {
			return fmt.Errorf("drop the resources of policy revision %d: %w", n, err)
		}
	}
	return nil
}
