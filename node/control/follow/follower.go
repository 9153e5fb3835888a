package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Etcd is what is needed of an etcd client; *clientv3.Client has it.
type Etcd interface {
	clientv3.KV
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
}

// Options of a Follower. Client, Keys, Key and DataDir are required.
type Options struct {
	Client  Etcd
	Keys    keyspace.Keys
	Key     keyspace.Key
	DataDir string
	Logger  *slog.Logger // default slog.Default
	// Wait is how long Open waits for etcd before it starts with the snapshot
	// on disk. Default 5s.
	Wait time.Duration
}

// Timing.
const (
	// pollInterval is how often the head is read beside the watch: a watch says
	// nothing when etcd was restored from a backup, or is cut off.
	pollInterval = 5 * time.Second
	askTimeout   = 5 * time.Second
	minBackoff   = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// Follower is a node's policy. It is safe for concurrent use.
type Follower struct {
	o    Options
	log  *slog.Logger
	turn chan struct{} // holds one token: its taker may change the policy and call subscribers

	// These belong to whoever has the turn.
	seen    *keyspace.Snapshot // the newest that was read from etcd, valid or not
	refused error              // why it is not in force, if it is not
	cluster string             // "" until it is known
	// wentBack: etcd holds an older policy than this node does, or none that is ours.
	wentBack bool
	steer    steering

	good atomic.Pointer[policyInForce]

	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		subscribers map[int]func(*policy.Set)
		lastID      int
		connected   bool
		contact     time.Time // of the last answer from etcd, zero for none
		alarms      [alarms]string
		steered     int64 // the revision of what was decided
		metrics     Metrics
	}
}

// policyInForce is a snapshot that was found valid. It is immutable.
type policyInForce struct {
	snap   *keyspace.Snapshot
	opened *keyspace.Opened
	set    *policy.Set
}

// Status is how well the policy is followed.
type Status struct {
	// Revision is the one in force.
	Revision int64
	// Steered is etcd's revision at which what was decided about sources and
	// tenants stood as it is in force.
	Steered int64
	// Age is how long ago etcd last answered; since Open if it never did.
	Age       time.Duration
	Connected bool
	// Alarm is what somebody must look at, "" for nothing.
	Alarm string
}

// Metrics are counters since Open.
type Metrics struct {
	Applied     int64 // revisions that came into force; some may stand for several
	Refused     int64 // revisions that were not valid
	WentBack    int64 // times that etcd was found to hold an older policy
	Forked      int64 // times that etcd's history was found to be another
	SaveFailed  int64 // snapshots that could not be written to disk
	Reconnected int64 // watches that had to begin again
	Steered     int64 // changes of what was decided that came into force
}

// Open reads the policy and begins to follow it. It fails for the wrong
// cluster or key, and where there is neither an answer from etcd within
// Options.Wait nor a snapshot on disk.
func Open(ctx context.Context, o Options) (*Follower, error) {
	if o.Key.IsZero() {
		return nil, errors.New("follow policy: there is no cluster key")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Wait <= 0 {
		o.Wait = 5 * time.Second
	}
	f := &Follower{o: o, log: o.Logger, turn: make(chan struct{}, 1), seen: &keyspace.Snapshot{}}
	f.mu.subscribers = map[int]func(*policy.Set){}
	f.mu.contact = time.Now()
	var err error
	if f.cluster, err = keyspace.RememberedCluster(o.DataDir); err != nil {
		return nil, fmt.Errorf("follow policy: %w", err)
	}
	if err := f.loadFile(); err != nil {
		f.setAlarm(alarmFile, err)
	}
	if err := f.loadSteeringFile(); err != nil {
		f.setAlarm(alarmSteering, err)
	}
	if err := f.first(ctx); err != nil {
		return nil, fmt.Errorf("follow policy: %w", err)
	}
	f.turn <- struct{}{}
	if f.Status().Connected {
		if _, err := f.loadSteering(ctx); err != nil {
			f.log.Warn("what was decided about sources could not be read; it is what is on disk for now", "error", err)
		}
	}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.wg.Go(func() { f.follow(ctx) })
	f.wg.Go(func() { f.followSteering(ctx) })
	return f, nil
}

// first is the first policy: from etcd if it answers in time, else from disk.
func (f *Follower) first(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, f.o.Wait)
	defer cancel()
	var err error
	for pause := minBackoff; ; pause = min(2*pause, time.Second) {
		_, err = f.sync(wait, true)
		switch {
		case errors.Is(err, keyspace.ErrWrongCluster) && !errors.Is(err, errNoCluster):
			return err
		case f.good.Load() != nil && (err == nil || !retryable(err)):
			return nil
		}
		select {
		case <-time.After(pause):
			continue
		case <-wait.Done():
		}
		break
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if now := f.good.Load(); now != nil {
		f.log.Warn("etcd does not answer; the node starts with the policy on its disk", "revision", now.snap.Revision, "error", err)
		return nil
	}
	return fmt.Errorf("there is no policy on disk (%s), and after %s none from etcd: %w", filepath.Join(f.o.DataDir, fileName), f.o.Wait, err)
}

// Snapshot is the policy in force.
func (f *Follower) Snapshot() *policy.Set { return f.good.Load().set }

// Subscribe calls fn with the policy in force, then with each new one, in
// order. fn must be quick and must not call Subscribe. stop ends it.
func (f *Follower) Subscribe(fn func(*policy.Set)) (stop func()) {
	<-f.turn
	f.mu.Lock()
	f.mu.lastID++
	id := f.mu.lastID
	f.mu.subscribers[id] = fn
	f.mu.Unlock()
	fn(f.good.Load().set)
	f.turn <- struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.mu.subscribers, id)
	}
}

// publish needs the turn.
func (f *Follower) publish(p *policyInForce) {
	f.mu.Lock()
	f.mu.metrics.Applied++
	f.mu.Unlock()
	f.tell(f.steered(p))
}

// tell puts a set in force. It needs the turn.
func (f *Follower) tell(p *policyInForce) {
	f.good.Store(p)
	f.mu.Lock()
	ids := slices.Sorted(maps.Keys(f.mu.subscribers))
	f.mu.Unlock()
	for _, id := range ids {
		f.mu.Lock()
		fn := f.mu.subscribers[id]
		f.mu.Unlock()
		if fn != nil {
			fn(p.set)
		}
	}
}

// Cluster is the id of the cluster that the node belongs to.
func (f *Follower) Cluster() string {
	<-f.turn
	defer func() { f.turn <- struct{}{} }()
	return f.cluster
}

// Status says how well it goes.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Revision: f.good.Load().snap.Revision, Steered: f.mu.steered, Age: time.Since(f.mu.contact), Connected: f.mu.connected}
	for _, text := range f.mu.alarms {
		switch {
		case text == "":
		case s.Alarm == "":
			s.Alarm = text
		default:
			s.Alarm += "; " + text
		}
	}
	return s
}

// Metrics takes a snapshot of the counters.
func (f *Follower) Metrics() Metrics {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.metrics
}

// Close stops following. The last policy stays in force.
func (f *Follower) Close() error {
	f.cancel()
	f.wg.Wait()
	return nil
}
