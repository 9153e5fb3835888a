package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Apply implements Store.
func (e *Etcd) Apply(ctx context.Context, b Batch) (*Result, error) {
	return e.change(ctx, func(context.Context, *etcdState) (Batch, error) { return b, nil })
}

// Rollback implements Store.
func (e *Etcd) Rollback(ctx context.Context, r Rollback) (*Result, error) {
	return e.change(ctx, func(ctx context.Context, now *etcdState) (Batch, error) {
		old, err := e.stateAt(ctx, r.To)
		if err != nil {
			return Batch{}, err
		}
		return Batch{
			Changes:  now.changesTo(old.state),
			Expected: r.Expected, Author: r.Author, Role: r.Role, DryRun: r.DryRun,
			Reason: cmp.Or(r.Reason, fmt.Sprintf("rollback to revision %d", r.To)),
		}, nil
	})
}

// change makes a batch of the state in force and applies it. If others change
// policy meanwhile it is made anew: whether the author's expectations still
// hold is for plan to say.
func (e *Etcd) change(ctx context.Context, batch func(context.Context, *etcdState) (Batch, error)) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := e.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer e.endTurn()
	for {
		found, err := e.sync(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the policy in force: %w", err)
		}
		now := e.state.Load()
		b, err := batch(ctx, now)
		if err != nil {
			return nil, err
		}
		next, effects, err := now.plan(b)
		if err != nil {
			return nil, err
		}
		if next == nil || b.DryRun {
			return &Result{now.snap.Revision, effects}, nil
		}
		if err := now.mayChange(next.Effects); err != nil {
			return nil, err
		}
		done, err := e.tryChange(ctx, found, now, next, b)
		if err != nil {
			return nil, err
		}
		if done {
			return &Result{next.Revision.Revision, effects}, nil
		}
	}
}

// mayChange refuses to change what a later version wrote with fields that this
// one would drop.
func (s *etcdState) mayChange(effects []EffectName) error {
	var problems policy.Problems
	for _, x := range effects {
		if x.Action != Deleted && slices.Contains(s.opened.Later, x.Kind+"/"+x.Name) {
			problems = append(problems, policy.Problem{Kind: x.Kind, Name: x.Name, Path: "spec", Reason: "it has settings of a later version, which this one would drop: change it through a control plane of that version"})
		}
	}
	return problems.Err()
}

// tryChange writes one revision. done is false when somebody else was faster.
func (e *Etcd) tryChange(ctx context.Context, found at, now *etcdState, next *state, b Batch) (done bool, err error) {
	d, snap, err := e.delta(now, next, b)
	if err != nil {
		return false, err
	}
	base, done, err := e.commit(ctx, found, d, snap)
	if err != nil || !done {
		return false, err
	}
	e.publish(&etcdState{next, snap, &keyspace.Opened{Resources: next.resources, Later: laterOf(now, snap)}})
	if base {
		_, mod, err := e.o.Keys.LoadHead(ctx, &pinned{kv: e.client})
		if err == nil {
			err = e.writeBase(ctx, snap, mod)
		}
		e.setTrouble(troubleBase, err)
	}
	return true, nil
}

// laterOf are the resources with settings of a later version after a revision
// of this one, which cannot have made more.
func laterOf(now *etcdState, snap *keyspace.Snapshot) []string {
	return slices.DeleteFunc(slices.Clone(now.opened.Later), func(id string) bool {
		kind, name, _ := strings.Cut(id, "/")
		return snap.Find(kind, name) == nil
	})
}

// delta is the record of a planned revision, and the snapshot after it.
func (e *Etcd) delta(now *etcdState, next *state, b Batch) (*keyspace.Delta, *keyspace.Snapshot, error) {
	d := &keyspace.Delta{
		Revision: next.Revision.Revision, Previous: now.snap.Sum, ID: keyspace.NewID(),
		Time: e.o.Now().UTC().Truncate(time.Millisecond), Author: b.Author, Role: b.Role, Reason: b.Reason,
	}
	for _, x := range next.Effects {
		d.Effects = append(d.Effects, keyspace.Effect{Action: string(x.Action), Kind: x.Kind, Name: x.Name})
		if x.Action == Deleted {
			continue
		}
		rec, err := e.o.Key.SealResource(next.find(x.Kind, x.Name), now.snap.Find(x.Kind, x.Name))
		if err != nil {
			return nil, nil, err
		}
		d.Records = append(d.Records, rec)
	}
	snap, err := now.snap.Next(d)
	return d, snap, err
}

// commit writes a delta and the head in one transaction, guarded by the head
// that was read. A delta too large for one request goes by a base. wantBase
// says that it is time for one anyway.
func (e *Etcd) commit(ctx context.Context, found at, d *keyspace.Delta, snap *keyspace.Snapshot) (wantBase, done bool, err error) {
	value, err := d.Encode()
	if err != nil {
		return false, false, err
	}
	if len(value) > keyspace.MaxInline {
		done, err = e.commitWhole(ctx, found, d, snap)
		return false, done, err
	}
	snap.Sum = d.Sum
	done, err = e.once(ctx, found, d, value, found.head.Base)
	return d.Revision-found.head.Base >= baseEvery || len(value) > baseAbove, done, err
}

// commitWhole is commit by a base: the parts first, which nothing refers to
// until the transaction does.
func (e *Etcd) commitWhole(ctx context.Context, found at, d *keyspace.Delta, snap *keyspace.Snapshot) (bool, error) {
	base, err := e.putParts(ctx, snap)
	if err != nil {
		return false, err
	}
	d.Base = &base.BaseRef
	value, err := d.Encode()
	if err != nil {
		return false, err
	}
	if len(value) > keyspace.MaxInline {
		return false, fmt.Errorf("the change has %d bytes even without its resources, at most %d are possible: make it in smaller batches", len(value), keyspace.MaxInline)
	}
	snap.Sum, base.Sum = d.Sum, d.Sum
	meta, err := json.Marshal(base)
	if err != nil {
		return false, fmt.Errorf("encode a base: %w", err)
	}
	return e.once(ctx, found, d, value, d.Revision, clientv3.OpPut(e.o.Keys.PolicyBase(d.Revision), string(meta)))
}

// once commits the transaction that puts d in force, with what else belongs to
// it. An answer that got lost is asked for again: the guard lets it happen once,
// and the delta's ID says whose it was.
func (e *Etcd) once(ctx context.Context, found at, d *keyspace.Delta, value []byte, base int64, ops ...clientv3.Op) (bool, error) {
	head, err := json.Marshal(keyspace.Head{Revision: d.Revision, Base: base, Sum: d.Sum})
	if err != nil {
		return false, fmt.Errorf("encode the head: %w", err)
	}
	key := e.o.Keys.PolicyDelta(d.Revision)
	guard := clientv3.Compare(clientv3.ModRevision(e.o.Keys.PolicyHead()), "=", found.mod)
	ops = append(ops, clientv3.OpPut(e.o.Keys.PolicyHead(), string(head)), clientv3.OpPut(key, string(value)))
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		resp, err := e.client.Txn(ctx).If(guard).Then(ops...).Else(clientv3.OpGet(key)).Commit()
		switch {
		case err == nil && resp.Succeeded:
			return true, nil
		case err == nil:
			kvs := resp.Responses[0].GetResponseRange().Kvs
			if len(kvs) == 0 {
				return false, nil
			}
			there, err := keyspace.DecodeDelta(kvs[0].Value)
			return err == nil && there.ID == d.ID, err
		case !mayPass(err) && ctx.Err() == nil:
			return false, fmt.Errorf("write policy revision %d: %w", d.Revision, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false, fmt.Errorf("write policy revision %d: it is not known whether that was done: %w", d.Revision, err)
		}
	}
}

// mayPass reports whether the same request may succeed a moment later.
func mayPass(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var ee rpctypes.EtcdError
	if errors.As(err, &ee) {
		return ee.Code() == codes.Unavailable
	}
	return status.Code(err) == codes.Unavailable
}

// Unreachable reports whether an error of the store is that etcd did not answer,
// or had no majority: what was asked may have been done or not.
func Unreachable(err error) bool {
	return mayPass(err) || errors.Is(err, context.DeadlineExceeded)
}

// putParts writes all of a snapshot under a name that nothing refers to yet.
func (e *Etcd) putParts(ctx context.Context, snap *keyspace.Snapshot) (*keyspace.Base, error) {
	packed, ref, err := keyspace.EncodeRecords(snap.Records)
	if err != nil {
		return nil, err
	}
	ref.ID = keyspace.NewID()
	for i := range ref.Parts {
		part := packed[i*keyspace.BasePart : min((i+1)*keyspace.BasePart, len(packed))]
		if _, err := e.client.Put(ctx, e.o.Keys.PolicyBasePart(snap.Revision, ref.ID, i), string(part)); err != nil {
			return nil, fmt.Errorf("write part %d of %d of policy revision %d: %w", i+1, ref.Parts, snap.Revision, err)
		}
	}
	return &keyspace.Base{Revision: snap.Revision, Sum: snap.Sum, BaseRef: ref}, nil
}

// writeBase writes the whole policy, so that readers need not begin too far
// back. mod is that of the head, which must name snap's revision.
func (e *Etcd) writeBase(ctx context.Context, snap *keyspace.Snapshot, mod int64) error {
	base, err := e.putParts(ctx, snap)
	if err != nil {
		return err
	}
	meta, err := json.Marshal(base)
	if err != nil {
		return fmt.Errorf("encode a base: %w", err)
	}
	head, err := json.Marshal(keyspace.Head{Revision: snap.Revision, Base: snap.Revision, Sum: snap.Sum})
	if err != nil {
		return fmt.Errorf("encode the head: %w", err)
	}
	key := e.o.Keys.PolicyHead()
	// Whoever was faster with the next revision writes the base with it.
	_, err = e.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", mod), clientv3.Compare(clientv3.CreateRevision(e.o.Keys.PolicyDelta(snap.Revision+1)), "=", 0)).
		Then(clientv3.OpPut(key, string(head)), clientv3.OpPut(e.o.Keys.PolicyBase(snap.Revision), string(meta))).Commit()
	if err != nil {
		return fmt.Errorf("write base %d: %w", snap.Revision, err)
	}
	return nil
}

// ErrNotRestored says that there is nothing for AcceptRestored to accept.
var ErrNotRestored = errors.New("policy in etcd has not gone back: there is nothing to accept")

// AcceptRestored ends the alarm after etcd was restored from an older backup:
// what etcd holds becomes a new revision, above any that this machine has seen
// and above the given one, so that all nodes take it.
func (e *Etcd) AcceptRestored(ctx context.Context, above int64, author, role, reason string) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := e.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer e.endTurn()
	found, err := e.sync(ctx)
	if err == nil && above < found.head.Revision {
		return nil, ErrNotRestored
	}
	if err != nil && !errors.Is(err, ErrWentBack) {
		return nil, err
	}
	old, err := e.o.Keys.LoadSnapshot(ctx, &pinned{kv: e.client, rev: found.rev}, found.head)
	if err != nil {
		return nil, err
	}
	snap := &keyspace.Snapshot{Revision: max(e.high.Revision, above, found.head.Revision) + 1, Records: old.Records}
	d := &keyspace.Delta{
		Revision: snap.Revision, Previous: found.head.Sum, ID: keyspace.NewID(), Time: e.o.Now().UTC().Truncate(time.Millisecond),
		Author: author, Role: role, Reason: strings.TrimSpace(fmt.Sprintf("accepted revision %d after a restore. %s", found.head.Revision, reason)),
	}
	done, err := e.commitWhole(ctx, found, d, snap)
	if err != nil {
		return nil, err
	}
	if !done {
		return nil, &ConflictError{Want: found.head.Revision, Have: snap.Revision}
	}
	if _, err := e.sync(ctx); err != nil {
		return nil, err
	}
	return &Result{Revision: snap.Revision}, nil
}
