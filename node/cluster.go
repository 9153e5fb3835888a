package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/policy"
	"hikyaku/node/control"
	"hikyaku/scheduler"
	"hikyaku/spool/message"
)

// This file joins the node to node/control: what may be sent from which source
// at this moment, and which part of the budgets. Without a control plane
// (Config.Control is nil) all of it is always this node's.

// Control is the node's side of the control plane (node/control).
type Control interface {
	// Join runs before the node does anything; an error ends it.
	Join(context.Context) error
	// Run runs beside the node and for a moment longer, so that sources can be
	// given back when nothing is sent from them any more.
	Run(context.Context) error
	UsePolicy(*policy.Set)
	// Hurry asks that the leader hears soon, and not with the next second.
	Hurry()
	Close() error
}

// NewControl makes the node's Control. It is told and asked through n; spool is
// the identity of the node's spool.
type NewControl func(n control.Node, spool string) (Control, error)

// cluster is what the control plane says at the moment.
type cluster struct {
	control Control // nil: there is none
	held    atomic.Pointer[map[string]*control.Hold]
	drain   atomic.Bool // ordered by a person
	signals *signals    // nil: nobody asks
	homes   atomic.Pointer[[]exchange.Home]
	refuged atomic.Bool                      // some of them are about one carrier
	waiting atomic.Pointer[map[string]int64] // of the last report, by carrier
	unsure  unsure

	// grantsEnd is when the grants end, in nanoseconds since the node's start on
	// the monotonic clock; 0: there are none. The scheduler's time is that of
	// the wall, which may go back and make a grant longer than it is.
	grantsEnd atomic.Int64
	floor     atomic.Pointer[scheduler.Grants] // what is left then
}

// openCluster makes the Control; before it has said so no source is held.
func (n *Node) openCluster() error {
	if n.cfg.Control == nil {
		return nil
	}
	n.cluster.signals = newSignals()
	n.UseSources(nil)
	n.UseGrants(control.Grants{})
	c, err := n.cfg.Control(n, n.spool.NodeID())
	if err == nil { // else c may be a nil of some type, which is no nil Control
		n.cluster.control = c
	}
	return err
}

// startCluster joins, and runs the Control until the returned function is
// called, which waits for its end. failed is called once if it ends by itself.
func (n *Node) startCluster(ctx context.Context, failed func(error)) (stop func(), err error) {
	c := n.cluster.control
	if c == nil {
		return func() {}, nil
	}
	if err := c.Join(ctx); err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it ends after the drain
	done := make(chan struct{})
	go func() { // waited for by stop
		defer close(done)
		if err := c.Run(run); err != nil {
			failed(controlFailed{fmt.Errorf("control plane: %w", err)})
		}
	}()
	return func() { cancel(); <-done }, nil
}

// controlFailed is the cause of an end that the Control brought about.
type controlFailed struct{ error }

// clusterFailed is why the Control ended the node; nil if it did not.
func clusterFailed(ctx context.Context) error {
	var failed controlFailed
	if errors.As(context.Cause(ctx), &failed) {
		return failed.error
	}
	return nil
}

// UseSources is control.Node. The right to use a source is asked of its Hold at
// every step, so the order here only matters for waking those who wait.
func (n *Node) UseSources(held map[string]*control.Hold) {
	names := make(map[string]bool, len(held))
	for name := range held {
		names[name] = true
	}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		n.cluster.held.Store(&held)
		s.SetSources(now, names)
		n.dispatch.wakeUnheldLocked(held)
	})
}

// wakeUnheldLocked ends sessions that wait for work of a source that was taken
// away.
func (d *dispatcher) wakeUnheldLocked(held map[string]*control.Hold) {
	for site, ws := range d.mu.waiters {
		kept := ws[:0]
		for _, w := range ws {
			if held[w.lane.Source] == w.hold {
				kept = append(kept, w)
				continue
			}
			w.ch <- struct{}{} // it was in the list once, so there is room
		}
		clear(ws[len(kept):])
		if len(kept) == 0 {
			delete(d.mu.waiters, site)
		} else {
			d.mu.waiters[site] = kept
		}
	}
}

// UseGrants is control.Node.
func (n *Node) UseGrants(g control.Grants) {
	floor := scheduler.Grants{Spanning: true, Floor: g.Floor, Rank: g.Rank, Lease: g.Lease, Revision: g.Revision}
	all := floor
	var end int64
	if !g.Until.IsZero() {
		end = max(1, int64(g.Until.Sub(n.began)))
		all.Until, all.Grants = n.now().Add(time.Until(g.Until)), g.List
	}
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		n.cluster.floor.Store(&floor)
		n.cluster.grantsEnd.Store(end)
		s.SetGrants(now, all)
	})
}

// lapseLocked takes grants back that have ended on the monotonic clock. The
// control does the same a moment later; but nothing may be dispatched between.
func (d *dispatcher) lapseLocked(now time.Time) {
	c := &d.n.cluster
	end := c.grantsEnd.Load()
	if end == 0 || int64(time.Since(d.n.began)) < end {
		return
	}
	c.grantsEnd.Store(0)
	d.mu.sched.SetGrants(now, *c.floor.Load())
}

// UseHomes is control.Node.
func (n *Node) UseHomes(homes []exchange.Home) {
	n.cluster.homes.Store(&homes)
	n.useRefuges(homes)
}

// Homes says which nodes have sources of the pools, best first.
func (n *Node) Homes() []exchange.Home {
	if h := n.cluster.homes.Load(); h != nil {
		return *h
	}
	return nil
}

// Drain is control.Node: new mail is refused for a while, so that load balancers
// go elsewhere. What is queued goes out as before, or is handed over.
func (n *Node) Drain(on bool) { n.cluster.drain.Store(on) }

// Drained reports whether a person ordered the node to take no mail.
func (n *Node) Drained() bool { return n.cluster.drain.Load() }

// FillReport is control.Node.
func (n *Node) FillReport(r *exchange.Report) {
	r.Revision = n.policy.Load().Revision
	r.Draining = n.draining.Load() || n.Drained()
	r.Queued = n.spool.Stats().Deliveries
	_, _, _, _, r.PerSecond = n.rates.perSecond()
	if m := n.spool.Metrics(); m.TotalBytes > 0 {
		r.SpoolFreePart = min(1, float64(m.FreeBytes)/float64(m.TotalBytes))
	}
	r.Signals = n.cluster.signals.take()
	if u := n.cluster.unsure.take(); len(u.tallies)+len(u.samples) > 0 {
		r.Tallies, r.Samples, r.Tallied = u.tallies, u.samples, u.serial
		n.hurry() // what was counted since then waits for the next one
	} else {
		r.Tallies, r.Samples = n.replies.Take()
	}
	var backlogs map[string]int64
	n.dispatch.with(func(s *scheduler.Scheduler, now time.Time) {
		r.Demands = s.Demands(now, exchange.MaxScopes)
		r.Stranded = int64(s.Counts().Stranded)
		backlogs = s.SourceBacklogs(now)
	})
	n.noteWaiting(r.Demands)
	if r.Stranded > 0 {
		r.Stranded = max(r.Stranded, n.survey().stranded) // queues so far: a survey is not for nothing
	}
	for i := range r.Sources {
		r.Sources[i].Backlog = backlogs[r.Sources[i].Source]
	}
}

// Unsent is control.Node: a report that the leader did not get.
func (n *Node) Unsent(r *exchange.Report) {
	n.cluster.signals.giveBack(r.Signals)
	if len(r.Tallies)+len(r.Samples) > 0 {
		n.cluster.unsure.put(sentTallies{cmp.Or(r.Tallied, r.Serial), r.Tallies, r.Samples})
	}
}

// sentTallies are what a report said of replies that got no answer.
type sentTallies struct {
	serial  uint64
	tallies []exchange.Tally
	samples []exchange.Sample
}

// unsure holds them until the next report, which says the same again: the leader
// may have had them or not, and knows by the serial. Added to what came since they
// would count twice.
type unsure struct {
	mu struct {
		sync.Mutex
		sentTallies
	}
}

func (u *unsure) put(s sentTallies) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.sentTallies = s
}

func (u *unsure) take() sentTallies {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.mu.sentTallies
	u.mu.sentTallies = sentTallies{}
	return s
}

// enter takes a session into the use of its source; leave must follow unless it
// says false: the source is not this node's.
func (o *outbound) enter() bool {
	held := o.d.n.cluster.held.Load()
	if held == nil {
		return true
	}
	h := (*held)[o.lane.Source]
	if h == nil || !h.MayUse(time.Now()) || !h.Enter() {
		o.d.n.dropUnusable()
		return false
	}
	o.hold, o.w.hold = h, h
	return true
}

// dropUnusable lets the scheduler know at once of sources whose time is over,
// which the control is about to say: else it would ask for sessions that cannot
// be, as fast as it can.
func (n *Node) dropUnusable() {
	now := time.Now()
	names := map[string]bool{}
	n.dispatch.with(func(s *scheduler.Scheduler, at time.Time) {
		for name, h := range *n.cluster.held.Load() {
			if h.MayUse(now) {
				names[name] = true
			}
		}
		s.SetSources(at, names)
	})
}

func (o *outbound) release() {
	if o.hold != nil {
		o.hold.Leave()
	}
}

// mayUse reports whether the session's source may still be used.
func (o *outbound) mayUse() bool { return o.hold == nil || o.hold.MayUse(time.Now()) }

// severable is ctx, ended also when the source's last use must end.
func (o *outbound) severable(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.hold == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(o.hold.Severed(), cancel)
	return ctx, func() { stop(); cancel() }
}

// ehloName is our name to the peer. In tests it says who is speaking, so that
// the receiver can tell two holders of a source apart.
func (o *outbound) ehloName(configured string) string {
	if !o.d.n.cfg.Delivery.EHLOEpoch || o.hold == nil {
		return configured
	}
	return fmt.Sprintf("%s.e%d.%s.test", o.d.n.name, o.hold.Epoch, o.lane.Source)
}

// signal counts what a carrier said to a source.
func (e *ending) signal() {
	s, t := e.n.cluster.signals, &e.tally
	if s == nil || !t.attempt || e.event.Source == "" || t.delivered+t.deferred+t.bounced == 0 {
		return
	}
	s.add(signalKey{e.event.Carrier, e.event.Source, e.event.Tenant}, exchange.Signal{Delivered: uint32(t.delivered), Deferred: uint32(t.deferred), Bounced: uint32(t.bounced)})
}

// signalConnection counts one connection of a source, or that a carrier's hosts
// took none.
func (o *outbound) signalConnection(connected bool, reply *message.Reply) {
	s := o.d.n.cluster.signals
	switch {
	case s == nil:
	case connected:
		s.add(signalKey{o.carrier, o.lane.Source, ""}, exchange.Signal{Connected: 1})
	case reply != nil && reply.Fault != message.FaultLocal:
		s.add(signalKey{o.carrier, o.lane.Source, ""}, exchange.Signal{Refused: 1})
	}
}
