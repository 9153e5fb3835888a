package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
)

// ErrRefused says that this node may not join: its name is another's, the
// cluster is another one, the versions do not meet.
var ErrRefused = errors.New("the cluster does not take this node")

func refused(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, a...))
}

// registration is one lease with what is bound to it.
type registration struct {
	lease  int64
	keeper *lease.Keeper
	since  time.Time
}

// alive reports whether the node may rely on the registration at now.
func (c *Control) alive(r *registration, now time.Time) bool {
	return r != nil && (c.opt.Unsafe.TrustSession || r.keeper.Holds(now))
}

// Join registers the node before it does anything. An error that wraps
// ErrRefused is final. An etcd that does not answer within JoinWait is not an
// error: the node starts with what it has on disk, and Run goes on trying.
func (c *Control) Join(ctx context.Context) error {
	c.sweep(ctx)
	wait, cancel := context.WithTimeout(ctx, c.opt.JoinWait)
	defer cancel()
	err := c.register(wait)
	for err != nil && !errors.Is(err, ErrRefused) && sleep(wait, jitter(2*firstRetry)) {
		err = c.register(wait)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, ErrRefused):
		return fmt.Errorf("join as node %q: %w", c.opt.Name, err)
	case err != nil:
		c.alarm("registration", "not registered: "+err.Error())
	}
	c.joined = true
	return nil
}

// register makes one try.
func (c *Control) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if err := c.checkCluster(ctx); err != nil {
		return err
	}
	sent := time.Now()
	granted, err := c.opt.Client.Grant(ctx, int64(c.opt.TTL/time.Second))
	if err != nil {
		return fmt.Errorf("ask for a lease: %w", err)
	}
	reg := &registration{lease: int64(granted.ID), since: c.opt.Now()}
	ttl := min(c.opt.TTL, time.Duration(granted.TTL)*time.Second)
	if reg.keeper, err = lease.New(sent, ttl, c.opt.Margin); err != nil {
		return err
	}
	replaced, err := c.putRegistration(ctx, reg)
	if err != nil {
		c.revoke(reg.lease)
		return err
	}
	if replaced != 0 {
		c.revoke(replaced)
	}
	c.mu.Lock()
	c.mu.reg, c.mu.lease = reg, reg.lease
	c.mu.Unlock()
	c.count.registrations.Add(1)
	c.clearAlarm("registration")
	c.log.Info("registered", "node", c.opt.Name, "lease", reg.lease, "replaces", replaced)
	c.look()
	nudge(c.report)
	return nil
}

// checkCluster refuses a cluster that is not the one the node knows.
func (c *Control) checkCluster(ctx context.Context) error {
	got, err := c.opt.Client.Get(ctx, c.opt.Keys.Cluster())
	if err != nil {
		return fmt.Errorf("read the cluster's name: %w", err)
	}
	if len(got.Kvs) == 0 {
		return errors.New("etcd has no cluster under " + c.opt.Keys.Prefix() + " yet: no control plane has run on it")
	}
	cl, err := keyspace.DecodeCluster(got.Kvs[0].Value)
	if err != nil {
		return refused("%v", err)
	}
	known, err := keyspace.RememberedCluster(c.opt.DataDir)
	if err != nil {
		return err
	}
	if err := cl.Check(c.opt.Key, known); err != nil {
		return refused("%v", err)
	}
	return keyspace.RememberCluster(c.opt.DataDir, cl.ID)
}

// putRegistration writes nodes/<name>. It returns the lease of an earlier
// incarnation that was still registered.
func (c *Control) putRegistration(ctx context.Context, reg *registration) (replaced int64, err error) {
	o := &c.opt
	all, err := o.Client.Get(ctx, o.Keys.Node(""), clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("read the nodes: %w", err)
	}
	var modified int64
	key := o.Keys.Node(o.Name)
	for _, kv := range all.Kvs {
		var other keyspace.Registration
		if err := json.Unmarshal(kv.Value, &other); err != nil {
			return 0, refused("registration %s cannot be read: %v", kv.Key, err)
		}
		if string(kv.Key) == key {
			if modified, replaced = kv.ModRevision, other.Lease; other.NodeID != o.NodeID {
				return 0, refused("node %q is alive with another spool (%s) at %s, version %s, since %s; give this one another name, or stop that one",
					o.Name, other.NodeID, other.Peer, other.Version, other.Started.UTC().Format(time.RFC3339))
			}
			continue
		}
		if other.Protocol[0] > keyspace.Protocol || other.Protocol[1] < keyspace.MinProtocol {
			return 0, refused("node %q (version %s) understands protocols %d to %d, this version %d to %d; upgrade step by step",
				other.Name, other.Version, other.Protocol[0], other.Protocol[1], keyspace.MinProtocol, keyspace.Protocol)
		}
	}
	record, err := json.Marshal(keyspace.Registration{
		Name: o.Name, NodeID: o.NodeID, Lease: reg.lease, Replaces: replaced, TTL: o.TTL, Started: reg.since, Version: o.Version,
		Protocol: [2]int{keyspace.MinProtocol, keyspace.Protocol}, Peer: o.Peer, Gossip: o.Gossip, Labels: o.Labels, Capacity: o.Capacity,
	})
	if err != nil {
		return 0, fmt.Errorf("BUG: %w", err)
	}
	// modified is 0 where there was none, and so is the revision of what is not there.
	done, err := o.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", modified)).
		Then(clientv3.OpPut(key, string(record), clientv3.WithLease(clientv3.LeaseID(reg.lease)))).Commit()
	switch {
	case err != nil:
		return 0, fmt.Errorf("write the registration: %w", err)
	case !done.Succeeded:
		return 0, errors.New("write the registration: another one came first")
	}
	return replaced, nil
}

// revoke ends a lease at the server, if it can be asked; else it expires.
func (c *Control) revoke(id int64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := c.opt.Client.Revoke(ctx, clientv3.LeaseID(id)); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		c.log.Warn("a lease is left to expire", "lease", id, "error", err)
	}
}

// stayRegistered keeps the lease, and registers anew when it is lost and what
// was used by it has come to its end.
func (c *Control) stayRegistered(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		reg := c.mu.reg
		c.mu.Unlock()
		if reg == nil {
			if !c.registerAnew(ctx) {
				return
			}
			continue
		}
		err := c.keep(ctx, reg)
		if ctx.Err() != nil {
			return
		}
		c.lost(reg, err)
		c.awaitFaded(ctx, reg)
	}
}

// keep returns when the lease is lost or ctx ends.
func (c *Control) keep(ctx context.Context, reg *registration) error {
	if c.opt.Unsafe.TrustSession {
		return c.trustSession(ctx, reg)
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	c.jobs.Go(func() { c.watchdog(watching, reg) })
	return reg.keeper.Keep(ctx, func(ctx context.Context) (time.Duration, error) { return c.renew(ctx, reg.lease) })
}

// watchdog takes the sources away when the deadline comes: Keep itself may be
// waiting for its next try. (What is asked before each MAIL does not wait for
// either.)
func (c *Control) watchdog(ctx context.Context, reg *registration) {
	for sleep(ctx, time.Until(reg.keeper.Until())) {
		if !reg.keeper.Holds(time.Now()) {
			c.lost(reg, fmt.Errorf("%w: its deadline has passed", lease.ErrLost))
			return
		}
	}
}

// renew asks once, on a stream of its own. (The client's KeepAliveOnce would ask
// again and again without a pause while no server can be reached.) A try has a
// fraction of the TTL, so that another server is asked while there is time.
func (c *Control) renew(ctx context.Context, id int64) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.opt.TTL/4, time.Second))
	defer cancel()
	stream, err := pb.NewLeaseClient(c.opt.Client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, fmt.Errorf("renew the lease: %w", err)
	}
	defer func() { _ = stream.CloseSend() }()
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return 0, fmt.Errorf("renew the lease: %w", err)
	}
	answer, err := stream.Recv()
	switch {
	case err != nil:
		return 0, fmt.Errorf("renew the lease: %w", err)
	case answer.ID != id || answer.TTL <= 0:
		return 0, fmt.Errorf("%w: etcd knows it no more", lease.ErrLost)
	}
	c.count.renewals.Add(1)
	return time.Duration(answer.TTL) * time.Second, nil
}

// trustSession is the negative control: the client's own channel.
func (c *Control) trustSession(ctx context.Context, reg *registration) error {
	alive, err := c.opt.Client.KeepAlive(ctx, clientv3.LeaseID(reg.lease))
	if err != nil {
		return err
	}
	for range alive {
		c.count.renewals.Add(1)
	}
	return fmt.Errorf("%w: the client says so", lease.ErrLost)
}

// checkRegistered looks whether the registration is what etcd holds. A lease
// may live on while somebody removed what was bound to it: then the leader
// counts the node as gone, and so must the node.
func (c *Control) checkRegistered(ctx context.Context, reg *registration) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	key := c.opt.Keys.Node(c.opt.Name)
	got, err := c.opt.Client.Get(ctx, key)
	if err != nil || len(got.Kvs) > 0 && got.Kvs[0].Lease == reg.lease {
		return
	}
	c.lost(reg, fmt.Errorf("%w: etcd does not hold %s by it any more", lease.ErrLost, key))
	c.revoke(reg.lease)
}

// lost takes away, at once, all that was held by the registration.
func (c *Control) lost(reg *registration, why error) {
	reg.keeper.GiveUp()
	c.mu.Lock()
	first := c.mu.reg == reg
	if first {
		c.mu.reg = nil
		for _, t := range c.mu.tenures {
			if t.lease == reg.lease && !t.fixed {
				c.finishLocked(t, "the lease is lost", reg.keeper.Until().Add(c.opt.Quarantine/2))
			}
		}
	}
	c.mu.Unlock()
	if first {
		c.count.losses.Add(1)
		c.alarm("registration", "not registered: "+why.Error())
		c.look()
	}
}

// awaitFaded waits until nothing is in use by a lost lease: only then may a new
// registration say that it replaces it.
func (c *Control) awaitFaded(ctx context.Context, reg *registration) {
	for {
		var open *Hold
		c.mu.Lock()
		for _, t := range c.mu.tenures {
			if t.lease == reg.lease && !t.fixed && t.phase != released {
				open = t.hold
			}
		}
		c.mu.Unlock()
		if open == nil {
			return
		}
		select {
		case <-open.empty:
			if !sleep(ctx, 10*time.Millisecond) { // it is being detached
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// registerAnew tries until it succeeds. That the cluster refuses the node now,
// as when another took its name meanwhile, is an alarm: what needs no lease goes
// on. false: ctx ended.
func (c *Control) registerAnew(ctx context.Context) bool {
	wait := firstRetry
	for sleep(ctx, jitter(wait)) {
		err := c.register(ctx)
		if err == nil {
			return true
		}
		c.alarm("registration", "not registered: "+err.Error())
		wait = min(2*wait, lastRetry)
	}
	return false
}
