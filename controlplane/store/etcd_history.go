package store

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// historyPage is how many deltas are read at once when listing.
const historyPage = 32

// History implements Store. A limit of 0 is all.
func (e *Etcd) History(ctx context.Context, limit int) ([]Revision, error) {
	var out []Revision
	err := e.eachDelta(ctx, 0, func(d *keyspace.Delta) (bool, error) {
		out = append(out, revisionOf(d))
		return limit <= 0 || len(out) < limit, nil
	})
	return out, err
}

func revisionOf(d *keyspace.Delta) Revision {
	r := Revision{Revision: d.Revision, Time: d.Time, Author: d.Author, Reason: d.Reason, Effects: make([]EffectName, len(d.Effects))}
	for i, x := range d.Effects {
		r.Effects[i] = EffectName{Action(x.Action), x.Kind, x.Name}
	}
	return r
}

// eachDelta calls fn with the deltas below a revision (0: all), newest first,
// until it says false.
func (e *Etcd) eachDelta(ctx context.Context, below int64, fn func(*keyspace.Delta) (bool, error)) error {
	end := clientv3.GetPrefixRangeEnd(e.o.Keys.PolicyDelta(0))
	if below > 0 {
		end = e.o.Keys.PolicyDelta(below)
	}
	for {
		resp, err := e.client.Get(ctx, e.o.Keys.PolicyDelta(0), clientv3.WithRange(end), clientv3.WithLimit(historyPage),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
		if err != nil {
			return fmt.Errorf("read policy revisions: %w", err)
		}
		for _, kv := range resp.Kvs {
			d, err := keyspace.DecodeDelta(kv.Value)
			if err != nil {
				return err
			}
			if more, err := fn(d); !more || err != nil {
				return err
			}
			end = string(kv.Key)
		}
		if !resp.More {
			return nil
		}
	}
}

// snapshotAt reads the policy as it was at a revision.
func (e *Etcd) snapshotAt(ctx context.Context, revision int64) (*keyspace.Snapshot, error) {
	if now := e.state.Load().snap; now.Revision == revision {
		return now, nil
	}
	r := &pinned{kv: e.client}
	kvs, err := r.Range(ctx, e.o.Keys.PolicyDelta(revision), "", 1)
	if revision < 1 || err == nil && len(kvs) == 0 {
		return nil, fmt.Errorf("revision %d: %w", revision, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	d, err := keyspace.DecodeDelta(kvs[0].Value)
	if err != nil {
		return nil, err
	}
	base, err := e.baseBelow(ctx, revision, r.rev)
	if err != nil {
		return nil, err
	}
	s, err := e.o.Keys.LoadSnapshot(ctx, r, keyspace.Head{Revision: revision, Base: base, Sum: d.Sum})
	if errors.Is(err, keyspace.ErrGap) || errors.Is(err, keyspace.ErrNotInline) {
		return nil, fmt.Errorf("the resources of revision %d are not kept any more: %w", revision, ErrNotFound)
	}
	return s, err
}

// baseBelow is the newest base that is not newer than a revision, 0 for none.
func (e *Etcd) baseBelow(ctx context.Context, revision, rev int64) (int64, error) {
	// Keys of parts begin with that of their base and a slash.
	end := e.o.Keys.PolicyBase(revision) + "0"
	for {
		resp, err := e.client.Get(ctx, e.o.Keys.PolicyBase(0), clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithRev(rev),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithKeysOnly())
		if err != nil {
			return 0, fmt.Errorf("look for a base: %w", err)
		}
		if len(resp.Kvs) == 0 {
			return 0, nil
		}
		n, part := e.o.Keys.PolicyBaseOf(string(resp.Kvs[0].Key))
		if !part && n > 0 {
			return n, nil
		}
		// Parts sort after their base: go to the base itself, or, if a writer
		// left parts without one, to what lies before.
		meta, err := e.client.Get(ctx, e.o.Keys.PolicyBase(n), clientv3.WithRev(rev), clientv3.WithCountOnly())
		if err != nil {
			return 0, fmt.Errorf("look for a base: %w", err)
		}
		if meta.Count > 0 {
			return n, nil
		}
		end = e.o.Keys.PolicyBase(n)
	}
}

// stateAt is snapshotAt, opened.
func (e *Etcd) stateAt(ctx context.Context, revision int64) (*etcdState, error) {
	s, err := e.snapshotAt(ctx, revision)
	if err != nil {
		return nil, err
	}
	return newEtcdState(e.o.Key, s, nil)
}

// Diff says what became of each resource between two revisions; 0 as from is
// the empty policy, 0 as to the one in force. Secrets are not in it, only
// whether they differ.
func (e *Etcd) Diff(ctx context.Context, from, to int64) ([]Effect, error) {
	a := &keyspace.Snapshot{}
	var err error
	if from != 0 {
		if a, err = e.snapshotAt(ctx, from); err != nil {
			return nil, err
		}
	}
	b := e.state.Load().snap
	if to != 0 {
		if b, err = e.snapshotAt(ctx, to); err != nil {
			return nil, err
		}
	}
	return diff(a, b)
}

// diff walks two snapshots side by side.
func diff(a, b *keyspace.Snapshot) ([]Effect, error) {
	var out []Effect
	i, j := 0, 0
	for i < len(a.Records) || j < len(b.Records) {
		var before, after *keyspace.Record
		switch {
		case i == len(a.Records):
			after = &b.Records[j]
		case j == len(b.Records):
			before = &a.Records[i]
		default:
			order := a.Records[i].Compare(&b.Records[j])
			if order <= 0 {
				before = &a.Records[i]
			}
			if order >= 0 {
				after = &b.Records[j]
			}
		}
		x, err := effectOf(before, after)
		if err != nil {
			return nil, err
		}
		if x != nil {
			out = append(out, *x)
		}
		if before != nil {
			i++
		}
		if after != nil {
			j++
		}
	}
	return out, nil
}

// effectOf is what became of one record, nil when it stayed the same.
func effectOf(before, after *keyspace.Record) (*Effect, error) {
	x := &Effect{}
	var err error
	if before != nil {
		x.Kind, x.Name, x.Action = before.Kind, before.Name, Deleted
		if x.Before, err = listing(before); err != nil {
			return nil, err
		}
	}
	if after != nil {
		x.Kind, x.Name, x.Action = after.Kind, after.Name, Created
		if x.After, err = listing(after); err != nil {
			return nil, err
		}
	}
	if before != nil && after != nil {
		same, secretsSame := before.Same(after)
		if same {
			return nil, nil
		}
		x.Action, x.SecretChanged = Changed, !secretsSame
	}
	return x, nil
}

// listing is a resource for people; one of a kind that this version does not
// know has no spec.
func listing(r *keyspace.Record) (*policy.Resource, error) {
	if policy.NewSpec(r.Kind) == nil {
		return &policy.Resource{Kind: r.Kind, Name: r.Name, Revision: r.Revision}, nil
	}
	res, err := r.Listing()
	return &res, err
}
