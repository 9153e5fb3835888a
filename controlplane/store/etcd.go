package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/catalogue"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
)

// Timing of an Etcd.
const (
	// pollInterval is how often the head is read beside the watch: a watch says
	// nothing when etcd was restored from a backup, or is cut off.
	pollInterval = 5 * time.Second
	// askTimeout bounds one question to etcd, changeTimeout a whole change.
	askTimeout    = 5 * time.Second
	changeTimeout = 20 * time.Second
	// baseEvery is after how many revisions the whole policy is written again,
	// and baseAbove the size of one delta that makes it worth it at once.
	baseEvery = 64
	baseAbove = 256 << 10
)

// Etcd keeps policy in etcd. Any number of control planes may have one over the
// same etcd; they see each other's changes by watching.
type Etcd struct {
	client *clientv3.Client
	o      Options
	log    *slog.Logger

	cluster keyspace.Cluster
	turn    chan struct{} // holds one token: its taker may change the state and call subscribers
	state   atomic.Pointer[etcdState]

	ctx    context.Context // the root of all that Close ends
	cancel context.CancelFunc
	wg     sync.WaitGroup

	high highWater // needs the turn

	auditTurn chan struct{} // as turn, for the audit log
	tail      auditTail

	mu struct {
		sync.Mutex
		subscribers map[int]func(*policy.Set)
		lastID      int
		closed      bool
		trouble     [troubles]string // what Degraded says
	}
	failures, alarms atomic.Int64
}

// etcdState is a state with what lies in etcd of it. It is immutable.
type etcdState struct {
	*state
	snap   *keyspace.Snapshot
	opened *keyspace.Opened
}

var _ Store = (*Etcd)(nil)

// OpenEtcd opens the policy of a cluster and follows it. An empty etcd gets a
// new cluster; with Options.ImportDir, the policy of an older version's file
// store. The client stays the caller's.
func OpenEtcd(ctx context.Context, client *clientv3.Client, o Options) (_ *Etcd, err error) {
	if o.Key.IsZero() {
		return nil, errors.New("open the policy store: there is no cluster key")
	}
	if o.Keys.Prefix() == "" {
		if o.Keys, err = keyspace.New(""); err != nil {
			return nil, err
		}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Keep <= 0 {
		o.Keep = keepRevisions
	}
	e := &Etcd{client: client, o: o, log: o.Logger, turn: make(chan struct{}, 1), auditTurn: make(chan struct{}, 1)}
	e.mu.subscribers = map[int]func(*policy.Set){}
	if err := e.bootstrap(ctx); err != nil {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	if err := e.loadHigh(); err != nil {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	empty, err := newEtcdState(o.Key, &keyspace.Snapshot{}, nil)
	if err != nil {
		panic("BUG: the empty policy is not valid: " + err.Error())
	}
	e.state.Store(empty)
	if err := e.importFiles(ctx); err != nil {
		return nil, fmt.Errorf("take over the policy of an older version: %w", err)
	}
	if _, err := e.sync(ctx); err != nil && !errors.Is(err, ErrWentBack) {
		return nil, fmt.Errorf("open the policy store: %w", err)
	}
	e.turn <- struct{}{}
	e.auditTurn <- struct{}{}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.follow()
	}()
	return e, nil
}

// newEtcdState opens and validates a snapshot. before (or nil) is an earlier
// state of the same history.
func newEtcdState(key keyspace.Key, snap *keyspace.Snapshot, before *etcdState) (*etcdState, error) {
	var known *keyspace.Opened
	if before != nil {
		known = before.opened
	}
	opened, err := key.OpenSnapshot(snap, known)
	if err != nil {
		return nil, err
	}
	set, problems := policy.New(catalogue.OverStored(opened.Resources))
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("policy revision %d is not valid: %w", snap.Revision, err)
	}
	set.Revision = snap.Revision
	s := &state{resources: opened.Resources, set: set}
	s.Revision.Revision = snap.Revision
	return &etcdState{s, snap, opened}, nil
}

// Cluster says which cluster this is.
func (e *Etcd) Cluster() keyspace.Cluster { return e.cluster }

// bootstrap creates the cluster's record, or checks it.
func (e *Etcd) bootstrap(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	remembered := ""
	if e.o.DataDir != "" {
		var err error
		if remembered, err = keyspace.RememberedCluster(e.o.DataDir); err != nil {
			return err
		}
	}
	resp, err := e.client.Get(ctx, e.o.Keys.Cluster())
	if err != nil {
		return fmt.Errorf("read the cluster record: %w", err)
	}
	if len(resp.Kvs) == 0 {
		if remembered != "" {
			return fmt.Errorf("%w: etcd holds no cluster under %s, but this machine belongs to %s: wrong endpoints or prefix, or etcd has lost its data and must be restored from a backup", keyspace.ErrWrongCluster, e.o.Keys.Prefix(), remembered)
		}
		if resp, err = e.found(ctx); err != nil {
			return err
		}
	}
	c, err := keyspace.DecodeCluster(resp.Kvs[0].Value)
	if err != nil {
		return err
	}
	if err := c.Check(e.o.Key, remembered); err != nil {
		return err
	}
	e.cluster = *c
	if e.o.DataDir != "" {
		return keyspace.RememberCluster(e.o.DataDir, c.ID)
	}
	return nil
}

// found writes the record of a new cluster, unless another control plane is
// faster, and reads what is there then.
func (e *Etcd) found(ctx context.Context) (*clientv3.GetResponse, error) {
	c, err := keyspace.NewCluster(e.o.Key, e.o.Now())
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode the cluster record: %w", err)
	}
	key := e.o.Keys.Cluster()
	if _, err := e.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(value))).Commit(); err != nil {
		return nil, fmt.Errorf("write the cluster record: %w", err)
	}
	resp, err := e.client.Get(ctx, key)
	if err == nil && len(resp.Kvs) == 0 {
		err = errors.New("it is gone again")
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster record: %w", err)
	}
	return resp, nil
}

// publish puts a state in force. It needs the turn.
func (e *Etcd) publish(s *etcdState) {
	e.state.Store(s)
	e.raiseHigh(s.snap)
	e.mu.Lock()
	ids := slices.Sorted(maps.Keys(e.mu.subscribers))
	e.mu.Unlock()
	for _, id := range ids {
		e.mu.Lock()
		fn := e.mu.subscribers[id]
		e.mu.Unlock()
		if fn != nil {
			fn(s.set)
		}
	}
}

// takeTurn waits until nobody else changes the store.
func (e *Etcd) takeTurn(ctx context.Context) error {
	select {
	case <-e.turn:
	case <-ctx.Done():
		return fmt.Errorf("wait for another policy change: %w", ctx.Err())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		e.turn <- struct{}{}
		return errClosed
	}
	return nil
}

var errClosed = errors.New("policy store is closed")

func (e *Etcd) endTurn() { e.turn <- struct{}{} }

// List implements Store.
func (e *Etcd) List(_ context.Context, kind string) ([]policy.Resource, int64, error) {
	s := e.state.Load()
	var out []policy.Resource
	for _, r := range s.resources {
		if kind == "" || r.Kind == kind {
			out = append(out, r)
		}
	}
	return out, s.snap.Revision, nil
}

// Get implements Store.
func (e *Etcd) Get(_ context.Context, kind, name string) (policy.Resource, error) {
	if r := e.state.Load().find(kind, name); r != nil {
		return *r, nil
	}
	return policy.Resource{}, fmt.Errorf("%s/%s: %w", kind, name, ErrNotFound)
}

// Snapshot implements Store.
func (e *Etcd) Snapshot() *policy.Set { return e.state.Load().set }

// Subscribe implements Store.
func (e *Etcd) Subscribe(fn func(*policy.Set)) (stop func()) {
	<-e.turn
	e.mu.Lock()
	e.mu.lastID++
	id := e.mu.lastID
	e.mu.subscribers[id] = fn
	e.mu.Unlock()
	fn(e.state.Load().set)
	e.endTurn()
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.mu.subscribers, id)
	}
}

// Close waits for a change under way and stops following. What is in etcd
// stays.
func (e *Etcd) Close() error {
	<-e.turn
	e.mu.Lock()
	closed := e.mu.closed
	e.mu.closed = true
	e.mu.Unlock()
	e.endTurn()
	if !closed {
		e.cancel()
		e.wg.Wait()
	}
	return nil
}

// highWater is the newest revision that this machine has seen in force. It is
// on disk, so that an etcd that was restored from an older backup is noticed
// after a restart too.
type highWater struct {
	Cluster  string `json:"cluster"`
	Revision int64  `json:"revision"`
	Sum      string `json:"sum"`
}

const highFile = "policy-revision"

func (e *Etcd) loadHigh() error {
	if e.o.DataDir == "" {
		return nil
	}
	path := filepath.Join(e.o.DataDir, highFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var h highWater
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		// It guards against a rare mistake of people; it must not be the reason
		// that a control plane does not start.
		e.log.Error("the newest policy revision seen here cannot be read; an etcd restored from an older backup would not be noticed", "file", path, "error", err)
		return nil
	}
	if h.Cluster == e.cluster.ID {
		e.high = h
	}
	return nil
}

// raiseHigh needs the turn.
func (e *Etcd) raiseHigh(s *keyspace.Snapshot) {
	if s.Revision <= e.high.Revision {
		return
	}
	e.high = highWater{e.cluster.ID, s.Revision, s.Sum}
	if e.o.DataDir == "" {
		return
	}
	b, err := json.Marshal(e.high)
	if err == nil {
		err = keyspace.WriteFile(filepath.Join(e.o.DataDir, highFile), append(b, '\n'))
	}
	if err != nil {
		e.log.Warn("the newest policy revision cannot be remembered", "revision", s.Revision, "error", err)
	}
}
