package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/state"
	"hikyaku/controlplane/store"
)

// Options make a Control. Client, Keys, Name, Address and Store are needed;
// the other zero fields are defaults.
type Options struct {
	Client *clientv3.Client // the caller's, who closes it after Close
	Keys   keyspace.Keys
	// Key is the cluster key; without it the gossip keys cannot be changed.
	Key     keyspace.Key
	Name    string // of this process, unique among control planes
	Address string // where nodes and other control planes reach Handler, host:port
	Version string
	Store   store.Store // policy; the caller closes it after Close

	// Peer asks other control planes: with a client certificate, or with the
	// peer token. Scheme is http (the default) or https.
	Peer   *http.Client
	Scheme string

	Timing Timing
	Logger *slog.Logger
	Now    func() time.Time // the wall clock: of throttles, daily slots and records
}

// Timing is what the safety of sources rests on, and the pace of decisions. Zero
// fields are defaults. All control planes and nodes of a cluster must agree on
// NodeTTL and Quarantine. (Grants have their times in package exchange.)
type Timing struct {
	// LeaderTTL is that of the leader's lease, in whole seconds, and
	// LeaderMargin is taken off its deadline.
	LeaderTTL, LeaderMargin time.Duration
	// NodeTTL is that of the nodes' leases. Quarantine is how long a source rests
	// after etcd has removed its holder's registration.
	NodeTTL, Quarantine time.Duration
	// Decide is the least time between two decisions, and Tick the most.
	Decide, Tick time.Duration
	// Settle and MinHold are the patience of sources.Config.
	Settle, MinHold time.Duration
}

// Defaults of Timing.
const (
	DefaultLeaderTTL    = 5 * time.Second
	DefaultLeaderMargin = time.Second
	DefaultNodeTTL      = 10 * time.Second
	DefaultQuarantine   = 10 * time.Second
	defaultDecide       = 100 * time.Millisecond
	defaultTick         = time.Second
)

func (t *Timing) fill() error {
	orDefault(&t.LeaderTTL, DefaultLeaderTTL)
	orDefault(&t.LeaderMargin, DefaultLeaderMargin)
	orDefault(&t.NodeTTL, DefaultNodeTTL)
	orDefault(&t.Quarantine, DefaultQuarantine)
	orDefault(&t.Decide, defaultDecide)
	orDefault(&t.Tick, defaultTick)
	switch {
	case t.LeaderTTL < time.Second || t.LeaderTTL%time.Second != 0:
		return fmt.Errorf("leader TTL %s: want whole seconds", t.LeaderTTL)
	case t.LeaderMargin < 0 || t.LeaderMargin >= t.LeaderTTL:
		return fmt.Errorf("leader margin %s: want 0 to less than the TTL of %s", t.LeaderMargin, t.LeaderTTL)
	case t.NodeTTL < 0 || t.Quarantine < 0 || t.Decide < 0 || t.Tick < t.Decide:
		return errors.New("timing: want spans that are not negative, and a tick no shorter than the time between decisions")
	}
	return nil
}

func orDefault[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// Control is a control plane process. It implements state.Cluster.
type Control struct {
	opt     Options
	log     *slog.Logger
	metrics counters

	mu struct {
		sync.Mutex
		office *office // nil: this process does not lead
		// leader is who leads, as far as known; the zero value is nobody.
		leader seenLeader
		nodes  []state.Node // as they were last listed
		ran    bool
		closed bool
		cancel context.CancelFunc
		done   chan struct{} // closed when Run has ended
	}
}

var _ state.Cluster = (*Control)(nil)

// seenLeader is the leader key as it was last seen.
type seenLeader struct {
	keyspace.Leader
	term int64
}

// New checks the options. Nothing happens before Run.
func New(o Options) (*Control, error) {
	if o.Client == nil || o.Store == nil || o.Keys.Prefix() == "" || o.Name == "" || o.Address == "" {
		return nil, errors.New("control plane: the etcd client, the keys, the store, a name and an address are needed")
	}
	if err := o.Timing.fill(); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	orDefault(&o.Scheme, "http")
	if o.Peer == nil {
		o.Peer = &http.Client{}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Control{opt: o, log: o.Logger.With("control", o.Name)}
	c.mu.done = make(chan struct{})
	return c, nil
}

// Run stands for election and leads when elected, until ctx ends or Close is
// called. It returns nil then; a leader resigns at once. Trouble with etcd is
// no end: it is logged, counted and tried again. Call it once.
func (c *Control) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	switch {
	case c.mu.closed:
		c.mu.Unlock()
		return nil
	case c.mu.ran:
		c.mu.Unlock()
		return errors.New("control plane: Run was called before")
	}
	c.mu.ran, c.mu.cancel = true, cancel
	c.mu.Unlock()
	defer close(c.mu.done)
	c.stand(ctx)
	return nil
}

// Close ends Run and waits for it.
func (c *Control) Close() error {
	c.mu.Lock()
	ran, cancel := c.mu.ran, c.mu.cancel
	c.mu.closed = true // a Run that comes later ends at once
	c.mu.Unlock()
	if ran {
		cancel()
		<-c.mu.done
	}
	return nil
}

// lead is the office in which this process leads, nil if it does not or cannot
// be sure of it any more.
func (c *Control) lead() *office {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.mu.office; o != nil && o.keeper.Holds(time.Now()) {
		return o
	}
	return nil
}

// Leading reports whether this process is the leader at the moment.
func (c *Control) Leading() bool { return c.lead() != nil }

func (c *Control) seen() seenLeader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.leader
}

func (c *Control) setSeen(l seenLeader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.leader = l
}
