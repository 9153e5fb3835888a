package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
)

// pinned reads etcd as it was at one revision: that of its first answer.
type pinned struct {
	kv  clientv3.KV
	rev int64
}

var _ keyspace.Reader = (*pinned)(nil)

// Range implements keyspace.Reader.
func (p *pinned) Range(ctx context.Context, from, end string, limit int) ([]keyspace.Entry, error) {
	opts := []clientv3.OpOption{clientv3.WithLimit(int64(limit))}
	if end != "" {
		opts = append(opts, clientv3.WithRange(end))
	}
	if p.rev != 0 {
		opts = append(opts, clientv3.WithRev(p.rev))
	}
	resp, err := p.kv.Get(ctx, from, opts...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	if p.rev == 0 {
		p.rev = resp.Header.Revision
	}
	out := make([]keyspace.Entry, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		out[i] = keyspace.Entry{Key: string(kv.Key), Value: kv.Value, ModRevision: kv.ModRevision}
	}
	return out, nil
}

// ErrWentBack says that etcd holds an older policy than was in force here:
// somebody must say whether it counts (AcceptRestored).
var ErrWentBack = errors.New("policy in etcd went back")

// at is where a sync has found etcd.
type at struct {
	head keyspace.Head
	mod  int64 // of the head's key, 0 without one
	rev  int64 // of etcd
}

// sync reads the head and brings the state up to it. It needs the turn, or to
// be alone.
func (e *Etcd) sync(asker context.Context) (at, error) {
	ctx, cancel := context.WithTimeout(asker, askTimeout)
	defer cancel()
	found, err := e.trySync(ctx)
	if asker.Err() == nil { // else it was the asker who had no time
		e.setTrouble(troubleSync, err)
	}
	return found, err
}

func (e *Etcd) trySync(ctx context.Context) (at, error) {
	r := &pinned{kv: e.client}
	head, mod, err := e.o.Keys.LoadHead(ctx, r)
	if err != nil {
		return at{}, err
	}
	found := at{head, mod, r.rev}
	now := e.state.Load()
	high := e.high
	if now.snap.Revision > high.Revision {
		high = highWater{Revision: now.snap.Revision, Sum: now.snap.Sum}
	}
	switch back := head.Revision < high.Revision || head.Revision == high.Revision && head.Sum != high.Sum; {
	case back && now.snap.Revision == high.Revision:
		return found, e.wentBack(head, high)
	case back:
		// After a start there is nothing newer to stay with. It is shown, but
		// nothing can be changed upon it.
		err = e.wentBack(head, high)
	case head.Revision == now.snap.Revision:
		return found, nil
	}
	if head.Revision == now.snap.Revision && head.Sum == now.snap.Sum {
		return found, err
	}
	next, lerr := e.load(ctx, r, now, head)
	if lerr != nil {
		return found, lerr
	}
	e.publish(next)
	return found, err
}

func (e *Etcd) wentBack(head keyspace.Head, high highWater) error {
	return fmt.Errorf("%w: it is at revision %d (%.8s), but %d (%.8s) was in force here: etcd was restored from an older backup. Nothing can be changed until somebody has looked at what is missing and accepted it (hikyaku policy accept-restored)",
		ErrWentBack, head.Revision, head.Sum, high.Revision, high.Sum)
}

func (e *Etcd) load(ctx context.Context, r *pinned, now *etcdState, head keyspace.Head) (*etcdState, error) {
	snap, err := e.o.Keys.CatchUp(ctx, r, now.snap, head)
	known := now
	if errors.Is(err, keyspace.ErrGap) || errors.Is(err, keyspace.ErrNotInline) || errors.Is(err, keyspace.ErrDamaged) {
		snap, err = e.o.Keys.LoadSnapshot(ctx, r, head)
		known = nil
	}
	if err != nil {
		return nil, err
	}
	return newEtcdState(e.o.Key, snap, known)
}

// follow keeps the state up with etcd until Close.
func (e *Etcd) follow() {
	wait := time.Duration(0)
	for e.ctx.Err() == nil {
		began := time.Now()
		err := e.watch()
		if e.ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 0
		}
		wait = min(max(2*wait, 100*time.Millisecond), 5*time.Second)
		e.failures.Add(1)
		e.log.Warn("the watch on policy ended; it is begun again", "in", wait, "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-e.ctx.Done():
		}
	}
}

// watch syncs, then does so again whenever the head changes and every now and
// then, until something is wrong.
func (e *Etcd) watch() error {
	found, err := e.syncInTurn()
	if err != nil && !errors.Is(err, ErrWentBack) {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(e.ctx))
	defer cancel()
	ch := e.client.Watch(ctx, e.o.Keys.PolicyHead(), clientv3.WithRev(found.rev+1))
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	last := found.rev
	for {
		select {
		case resp, ok := <-ch:
			if !ok {
				return errors.New("etcd ended it")
			}
			// After a compaction the revisions between are gone from the watch,
			// but what is in etcd now says all.
			if err := resp.Err(); err != nil {
				return err
			}
			if len(resp.Events) == 0 {
				continue
			}
		case <-tick.C:
		case <-tidy.C:
			if err := e.Compact(e.ctx); err != nil {
				e.log.Warn("old policy revisions could not be dropped", "error", err)
			}
			continue
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
		found, err := e.syncInTurn()
		if err != nil && !errors.Is(err, ErrWentBack) {
			return err
		}
		if found.rev < last {
			return fmt.Errorf("etcd itself went back, from its revision %d to %d: it was restored from a backup", last, found.rev)
		}
		last = found.rev
	}
}

func (e *Etcd) syncInTurn() (at, error) {
	if err := e.takeTurn(e.ctx); err != nil {
		return at{}, err
	}
	defer e.endTurn()
	return e.sync(e.ctx)
}

// What can be wrong, each with its own text.
const (
	troubleSync = iota
	troubleBase
	troubles
)

// setTrouble notes what is wrong, nil when it is over, and logs the change.
func (e *Etcd) setTrouble(which int, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	e.mu.Lock()
	before := e.mu.trouble[which]
	e.mu.trouble[which] = text
	e.mu.Unlock()
	switch {
	case text != "" && before == "":
		e.alarms.Add(1)
		e.log.Error("policy store is degraded", "error", text)
	case text == "" && before != "":
		e.log.Info("policy store is well again")
	}
}

// Degraded says what is wrong, "" when nothing is.
func (e *Etcd) Degraded() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var texts []string
	for _, t := range e.mu.trouble {
		if t != "" {
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, "; ")
}

// EtcdMetrics are the counters of an Etcd.
type EtcdMetrics struct {
	Revision int64
	Degraded bool
	// Alarms counts the times it became degraded, WatchFailures those the
	// watch had to begin again.
	Alarms, WatchFailures int64
}

// Metrics takes a snapshot of the counters.
func (e *Etcd) Metrics() EtcdMetrics {
	return EtcdMetrics{e.state.Load().snap.Revision, e.Degraded() != "", e.alarms.Load(), e.failures.Load()}
}
