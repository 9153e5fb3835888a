package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
)

// The etcd library's own election is not used. Its Session ends when the client
// notices, which may be after the server has let somebody else in; and a leader
// here is known by its key's create revision, which each of its writes compares.

const (
	// retryWait is between two tries at etcd after an error; up to twice that.
	retryWait = 200 * time.Millisecond
	// askTimeout bounds one question to etcd.
	askTimeout = 3 * time.Second
	// resignTimeout bounds how long an orderly end waits for etcd. Beyond it the
	// lease runs out by itself.
	resignTimeout = 2 * time.Second
)

// stand takes part in elections until ctx ends.
func (c *Control) stand(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.follow(ctx) // until nobody leads
		if err == nil {
			var o *office
			if o, err = c.campaign(ctx); o != nil {
				c.serve(ctx, o)
			}
		}
		if err != nil && ctx.Err() == nil {
			c.metrics.etcdErrors.Add(1)
			c.log.Warn("election goes on after an error", "error", err)
			pause(ctx, retryWait+rand.N(retryWait))
		}
	}
	c.setSeen(seenLeader{})
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// follow notes who leads and returns nil when nobody does.
func (c *Control) follow(ctx context.Context) error {
	key := c.opt.Keys.Leader()
	ask, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askTimeout)
	got, err := c.opt.Client.Get(ask, key)
	cancel()
	if err != nil {
		return fmt.Errorf("read who leads: %w", err)
	}
	if len(got.Kvs) == 0 {
		return nil
	}
	c.noteLeader(got.Kvs[0].Value, got.Kvs[0].CreateRevision)
	// The watch ends with the first error; then who leads is read again.
	watch, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for w := range c.opt.Client.Watch(watch, key, clientv3.WithRev(got.Header.Revision+1)) {
		if err := w.Err(); err != nil {
			return fmt.Errorf("watch who leads: %w", err)
		}
		for _, e := range w.Events {
			if e.Type == clientv3.EventTypeDelete {
				c.setSeen(seenLeader{})
				return nil
			}
			c.noteLeader(e.Kv.Value, e.Kv.CreateRevision)
		}
	}
	return fmt.Errorf("watch who leads: %w", cmpErr(ctx.Err(), errors.New("the watch ended")))
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (c *Control) noteLeader(value []byte, term int64) {
	var l keyspace.Leader
	if err := json.Unmarshal(value, &l); err != nil {
		c.log.Error("the leader's record cannot be read", "error", err)
	}
	if before := c.seen(); before.term != term {
		c.log.Info("another control plane leads", "leader", l.Name, "address", l.Address, "term", term)
	}
	c.setSeen(seenLeader{l, term})
}

// campaign tries once to become the leader; nil without an error is that
// somebody was faster.
func (c *Control) campaign(ctx context.Context) (*office, error) {
	t := c.opt.Timing
	ask, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askTimeout)
	defer cancel()
	sent := time.Now()
	granted, err := c.opt.Client.Grant(ask, int64(t.LeaderTTL/time.Second))
	if err != nil {
		return nil, fmt.Errorf("get a lease for the leader: %w", err)
	}
	keeper, err := lease.New(sent, min(t.LeaderTTL, time.Duration(granted.TTL)*time.Second), t.LeaderMargin)
	if err != nil {
		c.revoke(granted.ID)
		return nil, fmt.Errorf("the leader's lease: %w", err)
	}
	l := keyspace.Leader{Name: c.opt.Name, Address: c.opt.Address, Since: c.opt.Now().UTC(), Version: c.opt.Version}
	record, err := json.Marshal(l)
	if err != nil {
		panic("BUG: encode the leader's record: " + err.Error())
	}
	key := c.opt.Keys.Leader()
	won, err := c.opt.Client.Txn(ask).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, string(record), clientv3.WithLease(granted.ID))).
		Commit()
	if err != nil || !won.Succeeded {
		// After an error the key may be ours all the same: it goes with the lease.
		c.revoke(granted.ID)
		if err != nil {
			return nil, fmt.Errorf("take the office of the leader: %w", err)
		}
		return nil, nil
	}
	term := won.Header.Revision
	c.setSeen(seenLeader{l, term})
	return newOffice(c, l, term, granted.ID, keeper), nil
}

// revoke ends a lease as well as it can; otherwise it runs out.
func (c *Control) revoke(id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), resignTimeout)
	defer cancel()
	if _, err := c.opt.Client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		c.metrics.etcdErrors.Add(1)
		c.log.Info("a lease is left to run out", "error", err)
	}
}

// serve is one term in office.
func (c *Control) serve(ctx context.Context, o *office) {
	c.metrics.elections.Add(1)
	c.log.Info("elected", "term", o.term)
	c.mu.Lock()
	c.mu.office = o
	c.mu.Unlock()

	why := o.run(ctx)

	o.keeper.GiveUp()
	c.mu.Lock()
	c.mu.office = nil
	c.mu.leader = seenLeader{}
	c.mu.Unlock()
	o.end()
	c.revoke(o.leaseID)
	if ctx.Err() != nil {
		c.log.Info("resigned", "term", o.term)
		return
	}
	c.log.Warn("no longer the leader", "term", o.term, "error", why)
}

// renew is a lease.Renew.
func (c *Control) renew(id clientv3.LeaseID) lease.Renew {
	return func(ctx context.Context) (time.Duration, error) {
		// KeepAliveOnce tries again by itself until ctx ends. Whenever the try was
		// sent that was answered, it was after the Keeper had noted the time. The
		// time limit leaves time for another try, at another member of etcd.
		ctx, cancel := context.WithTimeout(ctx, c.opt.Timing.LeaderTTL/3)
		defer cancel()
		r, err := c.opt.Client.KeepAliveOnce(ctx, id)
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return 0, fmt.Errorf("%w: %w", lease.ErrLost, err)
		case err != nil:
			c.metrics.etcdErrors.Add(1)
			return 0, err
		}
		return time.Duration(r.TTL) * time.Second, nil
	}
}
