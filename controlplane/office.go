package controlplane

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/allocate/sources"
	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/lease"
	"hikyaku/controlplane/policy"
)

// office is one term of this process as the leader. Its goroutines are owned by
// run.
type office struct {
	c       *Control
	leader  keyspace.Leader
	term    int64
	leaseID clientv3.LeaseID
	keeper  *lease.Keeper
	began   time.Time
	wake    chan struct{} // capacity 1: there is something to decide
	lost    chan struct{} // closed by depose
	depose  func()        // ends the term: etcd has shown that another one has begun

	txnsBefore, conflictsBefore int64 // of this process before the term

	steering *steering

	// allocator is touched by the goroutine of decide alone.
	allocator *sources.Allocator

	// orders one at a time change members and assignments by hand.
	orders sync.Mutex

	mu struct {
		sync.Mutex
		tables  *tables       // nil until they have been read for the first time
		moved   chan struct{} // closed and replaced with each change of the tables
		nodes   map[string]*nodeState
		policy  *policy.Set
		account *account // of budgets
		homes   []exchange.Home
		alarms  map[string][]string // by node, of the last decision
		over    bool                // the term has ended
	}
}

// nodeState is what a node has said in this term.
type nodeState struct {
	name   string
	report *exchange.Report // the last one that was taken
	at     time.Time        // when it arrived
	before time.Duration    // from the one before it
	told   int64            // the floor in the answer to it
	// tallied is the serial of the last tallies that were counted, under a lease of
	// the node.
	tallied uint64
	lease   int64
}

func newOffice(c *Control, l keyspace.Leader, term int64, id clientv3.LeaseID, k *lease.Keeper) *office {
	now := time.Now()
	o := &office{
		c: c, leader: l, term: term, leaseID: id, keeper: k, began: now, wake: make(chan struct{}, 1),
		allocator: sources.New(now, sources.Config{TTL: c.opt.Timing.NodeTTL, Quarantine: c.opt.Timing.Quarantine, Settle: c.opt.Timing.Settle, MinHold: c.opt.Timing.MinHold}),
	}
	o.txnsBefore, o.conflictsBefore = c.metrics.txns.Load(), c.metrics.conflicts.Load()
	o.lost = make(chan struct{})
	o.depose = sync.OnceFunc(func() {
		o.keeper.GiveUp()
		close(o.lost)
	})
	o.mu.moved = make(chan struct{})
	o.mu.nodes = map[string]*nodeState{}
	o.mu.alarms = map[string][]string{}
	o.mu.account = newAccount(o, now)
	o.steering = newSteering(o)
	return o
}

// poke asks for a decision soon.
func (o *office) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run leads until the lease is lost or ctx ends, and says why.
func (o *office) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := o.c.opt.Store.Subscribe(o.usePolicy)
	defer stop()
	wg.Go(func() { cancel(o.keeper.Keep(ctx, o.c.renew(o.leaseID))) })
	wg.Go(func() {
		select {
		case <-o.lost:
			cancel(errDeposed)
		case <-ctx.Done():
		}
	})
	wg.Go(func() { o.follow(ctx) })
	wg.Go(func() { o.expireThrottles(ctx) })
	wg.Go(func() { o.steering.run(ctx) })
	if err := o.reach(ctx, 1); err == nil {
		o.decisions(ctx)
	}
	cancel(nil)
	return context.Cause(ctx)
}

// end wakes all who still wait for something of this term.
func (o *office) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.over = true
	close(o.mu.moved)
	o.mu.moved = make(chan struct{})
}

func (o *office) usePolicy(s *policy.Set) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.policy != nil {
		s = s.WithSteering(o.mu.policy.Steering())
	}
	o.mu.policy = s
	now := time.Now()
	o.steeredLocked(now)
	o.limitsLocked(now)
	o.feedLocked(now)
	o.poke()
	o.steering.hurry()
}

// decisions looks at everything whenever something has changed, and now and then
// without that, but not all the time.
func (o *office) decisions(ctx context.Context) {
	t := o.c.opt.Timing
	tick := time.NewTicker(t.Tick)
	defer tick.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		next, err := o.decide(ctx)
		took := time.Since(began)
		o.c.metrics.decided(took)
		switch {
		case ctx.Err() != nil, errors.Is(err, errDeposed):
			return
		case err != nil:
			o.c.log.Warn("a decision could not be written whole; it is made again", "term", o.term, "error", err)
			pause(ctx, retryWait)
		}
		pause(ctx, t.Decide)
		o.sleep(ctx, tick.C, next)
	}
}

// sleep waits for the next decision: something has changed, something falls due,
// or the tick.
func (o *office) sleep(ctx context.Context, tick <-chan time.Time, next time.Time) {
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	if !next.IsZero() {
		due.Reset(time.Until(next))
	}
	select {
	case <-ctx.Done():
	case <-o.wake:
	case <-tick:
	case <-due.C:
	}
}

// decide makes one round of decisions and writes them. next is when something
// falls due without news.
func (o *office) decide(ctx context.Context) (next time.Time, err error) {
	members, days := o.decideMembers()
	if err := o.commitAll(ctx, members); err != nil {
		return time.Time{}, err
	}
	if err := o.commitAll(ctx, days); err != nil {
		return time.Time{}, err
	}
	ws, next := o.decideSources()
	return next, o.commitAll(ctx, ws)
}

// expireThrottles deletes throttles whose time has passed. Nodes have stopped
// heeding them by themselves.
func (o *office) expireThrottles(ctx context.Context) {
	tick := time.NewTicker(o.c.opt.Timing.Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if names := o.c.opt.Store.Snapshot().Expired(o.c.opt.Now()); len(names) > 0 && o.keeper.Holds(time.Now()) {
			if err := o.c.deleteThrottles(ctx, names); err != nil && ctx.Err() == nil {
				o.c.log.Warn("throttles that have expired could not be deleted; it is tried again", "throttles", names, "error", err)
				pause(ctx, 10*retryWait)
			}
		}
	}
}
