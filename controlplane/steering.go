package controlplane

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"hikyaku/controlplane/exchange"
	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/reputation"
	"hikyaku/reputation/steer"
)

// steering is a term's hand on sources and tenants: what nodes report goes to the
// controller (reputation/steer), and what that decides to etcd, where nodes
// follow it. One goroutine, run, calls Observe and Decide; orders of people and
// questions take the lock between two rounds.
//
// What was decided is in force when it is in etcd and not before: a leader that
// has been deposed cannot write it, and its successor begins with what is there.
type steering struct {
	o    *office
	wake chan struct{} // capacity 1: a round is wanted before the next tick

	inbox struct {
		sync.Mutex
		reports []observed // in the order in which they were taken
		rows    int
	}

	// writing has room for one who compares the records with the tables and writes
	// what differs: until the tables show what one has written, another would take
	// for in force what no longer is, or is not yet.
	writing chan struct{}

	// Lock order: an office's lock may be taken under this one, never the other way
	// round.
	mu struct {
		sync.Mutex
		ctl     *steer.Controller // nil until what was learnt before has been read
		set     *policy.Set       // that ctl has
		pending []keyspace.Decision
		dirty   map[string]bool      // carriers whose record may have to be written
		wrote   map[string]time.Time // when it last was, or was tried; monotonic
		learnt  map[string]*learnt   // by carrier
	}
}

// observed is what one report said of replies.
type observed struct {
	node    string
	tallies []exchange.Tally
	samples []exchange.Sample
}

const (
	// maxInbox bounds the rows of reports that wait for the next round; 27 MB. Beyond
	// it they are dropped and counted: what a carrier says, it says again.
	maxInbox = 200_000
	// leastRound is the least time from one round to the next, whatever is wanted.
	leastRound = 250 * time.Millisecond
)

func newSteering(o *office) *steering {
	s := &steering{o: o, wake: make(chan struct{}, 1), writing: make(chan struct{}, 1)}
	s.mu.dirty, s.mu.wrote, s.mu.learnt = map[string]bool{}, map[string]time.Time{}, map[string]*learnt{}
	return s
}

// hurry asks for a round now.
func (s *steering) hurry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// observe takes what a report says of replies; the report gives it up. A carrier
// that blocks a source does not wait for the tick.
func (s *steering) observe(r *exchange.Report) {
	if len(r.Tallies)+len(r.Samples) == 0 {
		return
	}
	x := observed{node: r.Node, tallies: r.Tallies, samples: r.Samples}
	r.Tallies, r.Samples = nil, nil
	blocked := false
	for i := range x.tallies {
		blocked = blocked || x.tallies[i].Category == string(reputation.Blocked)
	}
	s.inbox.Lock()
	full := s.inbox.rows+len(x.tallies) > maxInbox
	if !full {
		s.inbox.reports = append(s.inbox.reports, x)
		s.inbox.rows += len(x.tallies)
	}
	s.inbox.Unlock()
	if full {
		s.o.c.metrics.talliesLost.Add(int64(len(x.tallies)))
	}
	if blocked {
		s.hurry()
	}
}

func (s *steering) received() []observed {
	s.inbox.Lock()
	defer s.inbox.Unlock()
	list := s.inbox.reports
	s.inbox.reports, s.inbox.rows = nil, 0
	return list
}

// run decides each second until ctx ends. An orderly end leaves what was learnt to
// the next leader.
func (s *steering) run(ctx context.Context) {
	if !s.begin(ctx) {
		return
	}
	tick := time.NewTicker(s.o.c.opt.Timing.Tick)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.wake:
		}
		if ctx.Err() != nil {
			break
		}
		s.decide()
		s.write(ctx)
		pause(ctx, min(leastRound, s.o.c.opt.Timing.Tick))
	}
	s.leave(ctx)
}

// decide is one look of the controller at what was reported since the last.
func (s *steering) decide() {
	began := time.Now()
	set := s.o.policyNow()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.c.opt.Now()
	s.followLocked(set, now)
	for _, x := range s.received() {
		s.mu.ctl.Observe(now, x.node, x.tallies, x.samples)
	}
	s.collectLocked(s.mu.ctl.Decide(now))
	s.o.c.metrics.steered(time.Since(began))
}

// followLocked gives the controller a new policy. What was decided is no news to
// it: it comes from it.
func (s *steering) followLocked(set *policy.Set, now time.Time) {
	if set.SamePolicy(s.mu.set) {
		return
	}
	s.mu.set = set
	s.mu.ctl.SetPolicy(now, set)
}

// collectLocked takes decisions on their way to etcd, and logs each: the log is
// what is left of those that find no room.
func (s *steering) collectLocked(ds []keyspace.Decision) {
	for i := range ds {
		d := &ds[i]
		d.Term = s.o.term
		s.o.c.metrics.decidedOn(d.Action)
		s.o.c.log.Info("decision", decisionAttrs(d)...)
		if l := s.mu.learnt[learntName(d)]; l != nil {
			l.decided = true
		}
	}
	s.mu.pending = append(s.mu.pending, ds...)
	if over := len(s.mu.pending) - keyspace.MaxDecisions; over > 0 {
		s.mu.pending = append([]keyspace.Decision(nil), s.mu.pending[over:]...)
		s.o.c.metrics.decisionsLost.Add(int64(over))
	}
	for _, name := range s.mu.ctl.Dirty() {
		s.mu.dirty[name] = true
	}
}

// learntName is the carrier whose snapshot a decision changes.
func learntName(d *keyspace.Decision) string {
	if d.Source == "" {
		return keyspace.TenantSteering
	}
	return d.Carrier
}

func decisionAttrs(d *keyspace.Decision) []any {
	attrs := []any{slog.String("id", d.ID), slog.String("action", d.Action)}
	for _, f := range [...][2]string{{"carrier", d.Carrier}, {"site", d.Site}, {"source", d.Source}, {"tenant", d.Tenant}, {"stream", d.Stream}, {"job", d.Job},
		{"from", d.From}, {"to", d.To}, {"rule", d.Rule}, {"why", d.Why}} {
		if f[1] != "" {
			attrs = append(attrs, slog.String(f[0], f[1]))
		}
	}
	if !d.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", d.Until))
	}
	if d.DryRun {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	return attrs
}

// policyNow is the policy that the office decides by.
func (o *office) policyNow() *policy.Set {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.policy
}

// steeredLocked puts what stands in etcd over the policy, if it has changed: the
// leader shares out what the nodes obey, and not what it means to write.
func (o *office) steeredLocked(now time.Time) {
	t := o.mu.tables
	if t == nil || o.mu.policy == nil || !t.steeringChanged {
		return
	}
	t.steeringChanged = false
	records := make(map[string]keyspace.Steering, len(t.steering))
	for carrier, r := range t.steering {
		records[carrier] = r.value.Steering
	}
	x := keyspace.Merge(records)
	x.Revision = t.revision
	c := x.Since(o.mu.policy.Steering())
	o.mu.policy = o.mu.policy.WithSteering(x)
	if len(c.Lanes) > 0 { // holds bound no budget
		o.limitsLocked(now)
	}
}

// lanesByState counts the courses in force.
func (t *tables) lanesByState() map[string]int {
	n := map[string]int{}
	for _, state := range policy.States() {
		n[state] = 0
	}
	for _, r := range t.steering {
		for i := range r.value.Lanes {
			if _, known := n[r.value.Lanes[i].State]; known {
				n[r.value.Lanes[i].State]++
			}
		}
	}
	return n
}
