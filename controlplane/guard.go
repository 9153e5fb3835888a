package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	errWatchEnded = errors.New("the watch ended")
	// errDeposed: the leader key is not the one that this term began with.
	errDeposed = errors.New("another term has begun")
	// errConflict: a record was changed by somebody since it was read.
	errConflict = errors.New("changed meanwhile")
)

const (
	// batchWrites is how many records one transaction changes: etcd takes 128
	// operations unless configured otherwise, and as many comparisons, of which
	// one is for the leader key.
	batchWrites = 100
	// batchBytes bounds what they hold together: etcd takes 1.5 MiB unless configured
	// otherwise. One record alone may be more than this.
	batchBytes = 768 << 10
	// maxBatches bounds the writes of one decision; the next one goes on.
	maxBatches = 20
	// abreast is how many transactions are under way at once.
	abreast = 4
)

// write is a change of one record, decided on the record as it was at mod; mod 0
// is that there was none. A nil value deletes it.
type write struct {
	key   string
	mod   int64
	value []byte
	// node, source and why are for the log.
	node, source, why string
}

func putRecord(key string, mod int64, record any) write {
	b, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("BUG: encode %s: %v", key, err))
	}
	return write{key: key, mod: mod, value: b}
}

// commit makes the changes in one transaction: all of them, if this term still
// is and no record has changed, and otherwise none. After an error that is
// neither errDeposed nor errConflict they may have been made or not; the tables
// will say.
func (o *office) commit(ctx context.Context, ws []write) (int64, error) {
	if !o.keeper.Holds(time.Now()) {
		return 0, errDeposed
	}
	// What is sent before the deadline may arrive after it: then the comparison
	// with the leader key decides.
	ctx, cancel := context.WithDeadline(clientv3.WithRequireLeader(ctx), o.keeper.Until())
	defer cancel()
	leader := o.c.opt.Keys.Leader()
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(leader), "=", o.term)}
	ops, look := make([]clientv3.Op, 0, len(ws)), []clientv3.Op{clientv3.OpGet(leader)}
	for i := range ws {
		w := &ws[i]
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(w.key), "=", w.mod))
		look = append(look, clientv3.OpGet(w.key, clientv3.WithKeysOnly()))
		if w.value == nil {
			ops = append(ops, clientv3.OpDelete(w.key))
		} else {
			ops = append(ops, clientv3.OpPut(w.key, string(w.value)))
		}
	}
	r, err := o.c.opt.Client.Txn(ctx).If(cmps...).Then(ops...).Else(look...).Commit()
	if err != nil {
		o.c.metrics.etcdErrors.Add(1)
		return 0, fmt.Errorf("write %d records: %w", len(ws), err)
	}
	if r.Succeeded {
		o.c.metrics.written.Add(int64(len(ws)))
		o.c.metrics.txns.Add(1)
		return r.Header.Revision, nil
	}
	o.c.metrics.conflicts.Add(1)
	if kvs := r.Responses[0].GetResponseRange().Kvs; len(kvs) == 0 || kvs[0].CreateRevision != o.term {
		o.depose()
		return 0, errDeposed
	}
	changed := &conflict{writes: len(ws)}
	for i := range ws {
		for _, kv := range r.Responses[i+1].GetResponseRange().Kvs {
			if kv.ModRevision != ws[i].mod {
				changed.revision = max(changed.revision, kv.ModRevision)
			}
		}
	}
	return 0, changed
}

// conflict is an errConflict: the tables were not as new as etcd.
type conflict struct {
	writes   int
	revision int64 // of what had changed; 0 when it was removed
}

// Error implements error.
func (c *conflict) Error() string { return fmt.Sprintf("write %d records: %v", c.writes, errConflict) }

// Is makes it an errConflict.
func (c *conflict) Is(target error) bool { return target == errConflict }

// batchesOf parts writes into those of one transaction each.
func batchesOf(ws []write) (batches [][]write) {
	from, size := 0, 0
	for i := range ws {
		n := len(ws[i].key) + len(ws[i].value)
		if i > from && (i-from == batchWrites || size+n > batchBytes) {
			batches = append(batches, ws[from:i])
			from, size = i, 0
		}
		size += n
	}
	if from < len(ws) {
		batches = append(batches, ws[from:])
	}
	return batches
}

// commitAll makes changes that do not depend on each other, in batches, some
// abreast since each waits for the disks of etcd; it logs each, and waits until
// the tables show them, or what they conflicted with: then it is up to the caller
// to try again from there, or to leave it to the next decision.
func (o *office) commitAll(ctx context.Context, ws []write) error {
	type result struct {
		revision int64
		err      error
	}
	batches := batchesOf(ws)
	if len(batches) > maxBatches {
		batches = batches[:maxBatches]
		o.poke()
	}
	results := make([]result, len(batches))
	slots := make(chan struct{}, abreast)
	var wg sync.WaitGroup
	for i := range batches {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i].revision, results[i].err = o.commit(ctx, batches[i])
		})
	}
	wg.Wait()
	var errs []error
	last := int64(0)
	for i, r := range results {
		if r.err != nil {
			errs = append(errs, r.err)
			if c, ok := errors.AsType[*conflict](r.err); ok {
				last = max(last, c.revision)
			}
			continue
		}
		last = max(last, r.revision)
		o.audit(batches[i], r.revision)
	}
	if last > 0 {
		if err := o.reach(ctx, last); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// audit logs what was decided, each with its reason.
func (o *office) audit(ws []write, revision int64) {
	for i := range ws {
		w := &ws[i]
		if w.why == "" {
			continue
		}
		args := []any{"why", w.why, "term", o.term, "revision", revision}
		if w.source != "" {
			args = append(args, "source", w.source)
		}
		if w.node != "" {
			args = append(args, "node", w.node)
		}
		o.c.log.Info("decided", args...)
	}
}
