package follow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// What the control plane decides about sources and tenants (keyspace.Steering)
// changes every second on a bad day, and is data over policy, not policy: a
// record for each carrier, taken as it comes, without a history. It comes into
// force by the same way as policy, as a set that differs from the one before in
// its Steering alone.

// steering is what was decided, as it was last read. The goroutine that follows
// it changes it, when it has the turn; Open does before there is one.
type steering struct {
	records  map[string]keyspace.Steering // by carrier
	revision int64                        // of etcd, that they are of
	whole    *policy.Steering             // the records as one
	unread   map[string]error             // carriers whose newest record cannot be read; an older one stays
	unsaved  bool
}

// saveEvery is how long a change may be in force before it is on disk. A disk that
// is slow must not keep a source sending that a carrier has just blocked, so the
// file comes after.
const saveEvery = 2 * time.Second

// followSteering keeps up with what is decided until ctx ends.
func (f *Follower) followSteering(ctx context.Context) {
	wait := time.Duration(0)
	for {
		began := time.Now()
		err := f.watchSteering(ctx)
		f.saveSteering() // etcd may be away for long, and this process may not outlive that
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 0
		}
		wait = min(max(2*wait, minBackoff), maxBackoff)
		f.log.Warn("the watch on decisions about sources ended; it is begun again", "in", wait, "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
			return
		}
	}
}

// watchSteering reads all records, then takes each change as it comes, and looks
// every now and then whether one was missed.
func (f *Follower) watchSteering(ctx context.Context) error {
	last, err := f.loadSteering(ctx)
	if err != nil {
		return err
	}
	wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ch := f.o.Client.Watch(wctx, f.o.Keys.Steering(""), clientv3.WithPrefix(), clientv3.WithRev(last+1))
	tick, save := time.NewTicker(pollInterval), time.NewTicker(saveEvery)
	defer tick.Stop()
	defer save.Stop()
	for {
		select {
		case resp, ok := <-ch:
			if !ok {
				return errors.New("etcd ended it")
			}
			if err := resp.Err(); err != nil { // after a compaction too: all is read again
				return err
			}
			if len(resp.Events) == 0 {
				continue
			}
			if err := f.takeEvents(ctx, &resp); err != nil {
				return err
			}
		case <-tick.C:
			if err := f.missedSteering(ctx); err != nil {
				return err
			}
		case <-save.C:
			f.saveSteering()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// missedSteering fails if etcd holds something else than what was followed.
func (f *Follower) missedSteering(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := f.o.Client.Get(ctx, f.o.Keys.Steering(""), clientv3.WithLastRev()...)
	if err != nil {
		return fmt.Errorf("look for decisions: %w", err)
	}
	newest := int64(0)
	for _, kv := range resp.Kvs {
		newest = kv.ModRevision
	}
	switch {
	case resp.Header.Revision < f.steer.revision:
		return fmt.Errorf("etcd went back, from its revision %d to %d", f.steer.revision, resp.Header.Revision)
	case newest > f.steer.revision, resp.Count != int64(len(f.steer.records)):
		return fmt.Errorf("etcd holds %d records up to revision %d, and %d up to %d were followed", resp.Count, newest, len(f.steer.records), f.steer.revision)
	}
	return nil
}

// loadSteering reads all records as they are at one revision, which it returns.
func (f *Follower) loadSteering(ctx context.Context) (int64, error) {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	prefix := f.o.Keys.Steering("")
	resp, err := f.o.Client.Get(ask, prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("read decisions about sources: %w", err)
	}
	next := steering{records: map[string]keyspace.Steering{}, unread: map[string]error{}, revision: resp.Header.Revision}
	for _, kv := range resp.Kvs {
		next.put(strings.TrimPrefix(string(kv.Key), prefix), kv.Value, f.steer.records)
	}
	return next.revision, f.takeSteering(ctx, next)
}

// takeEvents takes changes as the watch tells them.
func (f *Follower) takeEvents(ctx context.Context, resp *clientv3.WatchResponse) error {
	prefix := f.o.Keys.Steering("")
	next := steering{records: maps.Clone(f.steer.records), unread: maps.Clone(f.steer.unread), revision: resp.Header.Revision}
	for _, e := range resp.Events {
		carrier := strings.TrimPrefix(string(e.Kv.Key), prefix)
		if e.Type == clientv3.EventTypeDelete {
			delete(next.records, carrier)
			delete(next.unread, carrier)
			continue
		}
		next.put(carrier, e.Kv.Value, f.steer.records)
	}
	return f.takeSteering(ctx, next)
}

// put takes one record; one that cannot be read leaves the one before in force.
func (s *steering) put(carrier string, value []byte, before map[string]keyspace.Steering) {
	r, err := decodeSteering(value)
	if delete(s.unread, carrier); err != nil {
		s.unread[carrier] = err
		r = before[carrier]
	}
	s.records[carrier] = r
}

// takeSteering puts what was read in force.
func (f *Follower) takeSteering(ctx context.Context, next steering) error {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { f.turn <- struct{}{} }()
	if next.revision < f.steer.revision {
		// Whether its policy went back too has to be known now, and not when the watch
		// on policy finds out.
		if _, err := f.sync(ctx, true); err != nil && retryable(err) {
			return err
		}
		if f.wentBack {
			err := fmt.Errorf("etcd went back, from its revision %d to %d: what was decided before stays in force until somebody has said which policy counts", f.steer.revision, next.revision)
			f.setAlarm(alarmSteering, err)
			return err
		}
		f.log.Warn("etcd was restored from a backup: decisions about sources are what it holds now", "before", f.steer.revision, "now", next.revision)
	}
	f.applySteering(next)
	return nil
}

// applySteering needs the turn, or to be alone.
func (f *Follower) applySteering(next steering) {
	next.whole, next.unsaved = keyspace.Merge(next.records), true
	next.whole.Revision = next.revision
	if f.steer.whole != nil { // it rises, though etcd went back: an order among sets needs that
		next.whole.Revision = max(next.revision, f.steer.whole.Revision+1)
	}
	changed := f.steer.whole == nil || func() bool { c := next.whole.Since(f.steer.whole); return !c.IsZero() }()
	f.steer = next
	var bad []error
	for carrier, err := range next.unread {
		bad = append(bad, fmt.Errorf("what was decided about carrier %q cannot be read, what was known before stays in force: %w", carrier, err))
	}
	f.setAlarm(alarmSteering, errors.Join(bad...))
	f.mu.Lock()
	f.mu.steered = next.revision
	if changed {
		f.mu.metrics.Steered++
	}
	f.mu.Unlock()
	if now := f.good.Load(); now != nil && changed {
		f.tell(f.steered(now))
	}
}

// steered is a policy under what was decided. It needs the turn.
func (f *Follower) steered(p *policyInForce) *policyInForce {
	n := *p
	n.set = p.set.WithSteering(f.steer.whole)
	return &n
}
