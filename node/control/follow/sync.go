package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
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

// What etcd may hold that is not followed. None of it is cured by asking again
// at once.
var (
	errWentBack  = errors.New("policy in etcd went back")
	errRefused   = errors.New("policy in etcd is refused")
	errNoCluster = fmt.Errorf("%w: etcd holds no cluster", keyspace.ErrWrongCluster)
)

// retryable reports whether etcd did not answer, as against not pleasing.
func retryable(err error) bool {
	return !errors.Is(err, errWentBack) && !errors.Is(err, errRefused) && !errors.Is(err, keyspace.ErrWrongCluster) && !errors.Is(err, keyspace.ErrDamaged)
}

// sync brings the policy up to what etcd holds and returns etcd's revision. It
// needs the turn, or to be alone. whole asks for a look at the cluster too.
func (f *Follower) sync(ctx context.Context, whole bool) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r := &pinned{kv: f.o.Client}
	var err error
	if whole {
		err = f.checkCluster(ctx, r)
	}
	if err == nil {
		err = f.syncPolicy(ctx, r)
	}
	if r.rev != 0 {
		f.wentBack = errors.Is(err, errWentBack) || errors.Is(err, keyspace.ErrWrongCluster) || errors.Is(err, keyspace.ErrDamaged)
	}
	f.mu.Lock()
	f.mu.connected = err == nil || !retryable(err)
	if f.mu.connected {
		f.mu.contact = time.Now()
	}
	f.mu.Unlock()
	if err == nil || !retryable(err) {
		f.setAlarm(alarmEtcd, err)
	}
	return r.rev, err
}

func (f *Follower) checkCluster(ctx context.Context, r *pinned) error {
	kvs, err := r.Range(ctx, f.o.Keys.Cluster(), "", 1)
	if err != nil {
		return err
	}
	if len(kvs) == 0 {
		return fmt.Errorf("%w under %s: no control plane has been started there yet, the endpoints or the prefix are wrong, or etcd has lost its data", errNoCluster, f.o.Keys.Prefix())
	}
	c, err := keyspace.DecodeCluster(kvs[0].Value)
	if err != nil {
		return fmt.Errorf("%w: %w", keyspace.ErrDamaged, err)
	}
	if err := c.Check(f.o.Key, f.cluster); err != nil {
		return err
	}
	if f.cluster == "" {
		if err := keyspace.RememberCluster(f.o.DataDir, c.ID); err != nil {
			return err
		}
		f.cluster = c.ID
	}
	return nil
}

func (f *Follower) syncPolicy(ctx context.Context, r *pinned) error {
	head, _, err := f.o.Keys.LoadHead(ctx, r)
	if err != nil {
		return err
	}
	now := f.good.Load()
	newest := f.seen
	if now != nil && now.snap.Revision > newest.Revision {
		newest = now.snap
	}
	switch {
	case head.Revision < newest.Revision || head.Revision == newest.Revision && head.Sum != newest.Sum:
		return fmt.Errorf("%w: it holds revision %d (%.8s), but this node has %d (%.8s), which stays in force: etcd was restored from an older backup, and somebody must say which policy counts (hikyaku policy accept-restored)",
			errWentBack, head.Revision, head.Sum, newest.Revision, newest.Sum)
	case head.Revision == newest.Revision && now != nil:
		if now.snap.Revision < newest.Revision {
			return f.refused
		}
		return nil
	}
	next, err := f.o.Keys.CatchUp(ctx, r, newest, head)
	known, forked := now, false
	if errors.Is(err, keyspace.ErrGap) || errors.Is(err, keyspace.ErrNotInline) || errors.Is(err, keyspace.ErrDamaged) {
		if forked, err = f.forked(ctx, r, newest); err != nil {
			return err
		}
		next, err = f.o.Keys.LoadSnapshot(ctx, r, head)
		known = nil
	}
	if err != nil {
		return err
	}
	return f.take(next, known, forked)
}

// forked reports whether etcd's history at a revision is not the one that was
// read before.
func (f *Follower) forked(ctx context.Context, r *pinned, s *keyspace.Snapshot) (bool, error) {
	if s.Revision == 0 {
		return false, nil
	}
	kvs, err := r.Range(ctx, f.o.Keys.PolicyDelta(s.Revision), "", 1)
	if err != nil || len(kvs) == 0 {
		return false, err
	}
	d, err := keyspace.DecodeDelta(kvs[0].Value)
	return err != nil || d.Sum != s.Sum, nil
}

// take puts a snapshot in force if it is valid.
func (f *Follower) take(next *keyspace.Snapshot, known *policyInForce, forked bool) error {
	f.seen = next
	p, err := f.open(next, known)
	if err != nil {
		f.mu.Lock()
		f.mu.metrics.Refused++
		f.mu.Unlock()
		f.refused = fmt.Errorf("%w: %w", errRefused, err)
		return f.refused
	}
	var fork error
	if forked {
		fork = fmt.Errorf("etcd's policy history is not the one this node followed: it was restored from an older backup and changed since. Revision %d of it is in force; changes made before may be missing", next.Revision)
		f.mu.Lock()
		f.mu.metrics.Forked++
		f.mu.Unlock()
	}
	f.setAlarm(alarmFork, fork)
	if err := f.saveFile(next); err != nil {
		f.mu.Lock()
		f.mu.metrics.SaveFailed++
		f.mu.Unlock()
		f.setAlarm(alarmFile, err)
	} else {
		f.setAlarm(alarmFile, nil)
	}
	if len(p.opened.Later) > 0 {
		f.log.Warn("policy has settings of a later version, which this node does not heed", "revision", next.Revision, "resources", p.opened.Later[:min(len(p.opened.Later), 20)])
	}
	f.setAlarm(alarmEtcd, nil) // whoever hears of the revision finds all well
	f.publish(p)
	return nil
}

// open reads and validates a snapshot.
func (f *Follower) open(s *keyspace.Snapshot, before *policyInForce) (*policyInForce, error) {
	var known *keyspace.Opened
	if before != nil {
		known = before.opened
	}
	opened, err := f.o.Key.OpenSnapshot(s, known)
	if err != nil {
		return nil, fmt.Errorf("policy revision %d: %w", s.Revision, err)
	}
	set, problems := policy.New(catalogue.OverStored(opened.Resources))
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("policy revision %d is not valid: %w", s.Revision, err)
	}
	set.Revision = s.Revision
	return &policyInForce{s, opened, set}, nil
}

// follow keeps up with etcd until ctx ends.
func (f *Follower) follow(ctx context.Context) {
	wait := time.Duration(0)
	for {
		began := time.Now()
		err := f.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = 0
		}
		wait = min(max(2*wait, minBackoff), maxBackoff)
		f.mu.Lock()
		f.mu.metrics.Reconnected++
		f.mu.Unlock()
		f.log.Warn("the watch on policy ended; it is begun again", "in", wait, "error", err)
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
			return
		}
	}
}

// watch syncs, then does so again whenever the head changes and every now and
// then, until something is wrong.
func (f *Follower) watch(ctx context.Context) error {
	last, err := f.syncInTurn(ctx, true)
	if err != nil && retryable(err) {
		return err
	}
	wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ch := f.o.Client.Watch(wctx, f.o.Keys.PolicyHead(), clientv3.WithRev(last+1))
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		whole := false
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
			whole = true
		case <-ctx.Done():
			return ctx.Err()
		}
		rev, err := f.syncInTurn(ctx, whole)
		if err != nil && retryable(err) {
			return err
		}
		if rev < last {
			return fmt.Errorf("etcd itself went back, from its revision %d to %d: it was restored from a backup", last, rev)
		}
		last = rev
	}
}

func (f *Follower) syncInTurn(ctx context.Context, whole bool) (int64, error) {
	select {
	case <-f.turn:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { f.turn <- struct{}{} }()
	return f.sync(ctx, whole)
}

// What there is to alarm about, each with its own text.
const (
	alarmEtcd = iota // what etcd holds
	alarmFork
	alarmFile
	alarmSteering
	alarms
)

// setAlarm notes what is wrong, nil when it is over, and logs the change.
func (f *Follower) setAlarm(which int, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	f.mu.Lock()
	before := f.mu.alarms[which]
	f.mu.alarms[which] = text
	if errors.Is(err, errWentBack) && text != before {
		f.mu.metrics.WentBack++
	}
	f.mu.Unlock()
	switch {
	case text != "" && text != before:
		f.log.Error("policy is not followed as it should be", "error", text)
	case text == "" && before != "":
		f.log.Info("policy is followed as it should be again")
	}
}
