package controlplane

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"hikyaku/controlplane/keyspace"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/reputation/steer"
)

var _ state.Steering = (*Control)(nil)

// decisionsPage is how many decisions are read from etcd at once.
const decisionsPage = 250

// Decisions is of state.Steering. They are read from etcd, which needs no leader:
// somebody who asks why may ask since there is none.
func (c *Control) Decisions(ctx context.Context, f state.DecisionFilter) (*state.DecisionPage, error) {
	prefix := c.opt.Keys.Decision("")
	end := clientv3.GetPrefixRangeEnd(prefix)
	if f.Page != "" {
		end = prefix + f.Page
	}
	if f.Limit <= 0 {
		f.Limit = decisionsPage
	}
	out := &state.DecisionPage{Decisions: []state.Decision{}}
	for {
		got, err := c.opt.Client.Get(ctx, prefix, clientv3.WithRange(end), clientv3.WithLimit(decisionsPage), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
		if err != nil {
			c.metrics.etcdErrors.Add(1)
			return nil, fmt.Errorf("read decisions: %w", err)
		}
		for _, kv := range got.Kvs {
			end = string(kv.Key)
			var d keyspace.Decision
			if err := json.Unmarshal(kv.Value, &d); err != nil {
				out.Unreadable++
				continue
			}
			if !f.Since.IsZero() && d.At.Before(f.Since) {
				return out, nil
			}
			if !picks(&f, &d) {
				continue
			}
			if len(out.Decisions) == f.Limit {
				out.Next = out.Decisions[f.Limit-1].ID
				return out, nil
			}
			out.Decisions = append(out.Decisions, state.Decision(d))
		}
		if !got.More || len(got.Kvs) == 0 {
			return out, nil
		}
	}
}

func picks(f *state.DecisionFilter, d *keyspace.Decision) bool {
	for _, x := range [...][2]string{{f.Carrier, d.Carrier}, {f.Source, d.Source}, {f.Tenant, d.Tenant}, {f.Action, d.Action}} {
		if x[0] != "" && x[0] != x[1] {
			return false
		}
	}
	return true
}

// Decision is of state.Steering.
func (c *Control) Decision(ctx context.Context, id string) (*state.Decision, error) {
	d, _, err := c.decision(ctx, id)
	if err != nil {
		return nil, err
	}
	return (*state.Decision)(d), nil
}

func (c *Control) decision(ctx context.Context, id string) (d *keyspace.Decision, mod int64, err error) {
	if id == "" || strings.Contains(id, "/") {
		return nil, 0, fmt.Errorf("decision %q: %w", id, state.ErrNotFound)
	}
	got, err := c.opt.Client.Get(ctx, c.opt.Keys.Decision(id))
	if err != nil {
		c.metrics.etcdErrors.Add(1)
		return nil, 0, fmt.Errorf("read decision %s: %w", id, err)
	}
	if len(got.Kvs) == 0 {
		return nil, 0, fmt.Errorf("decision %s: %w; the oldest are deleted, beyond %d of a kind", id, state.ErrNotFound, keyspace.MaxDecisions)
	}
	d = &keyspace.Decision{}
	if err := json.Unmarshal(got.Kvs[0].Value, d); err != nil {
		return nil, 0, fmt.Errorf("read decision %s: %w", id, err)
	}
	return d, got.Kvs[0].ModRevision, nil
}

// Undo is of state.Steering.
func (c *Control) Undo(ctx context.Context, u state.Undo) (*state.Decision, error) {
	o := c.lead()
	if o == nil {
		return askLeader[*state.Decision](ctx, c, "undo", u)
	}
	o.orders.Lock()
	defer o.orders.Unlock()
	return o.undo(ctx, u)
}

// undo takes back what is in force by a decision, and marks the decision so in the
// same transaction: were it marked first, a leader that ends between the two
// would leave in force what nobody can take back any more.
func (o *office) undo(ctx context.Context, u state.Undo) (*state.Decision, error) {
	if err := o.reachNow(ctx); err != nil {
		return nil, err
	}
	d, mod, err := o.c.decision(ctx, u.ID)
	if errors.Is(err, state.ErrNotFound) {
		if x := o.inForce(u.ID); x != nil { // longer than its record was kept
			d, mod, err = x, 0, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if d.UndoneBy != "" {
		return nil, state.Refuse("decision %s was taken back before, by %s", d.ID, d.UndoneBy)
	}
	err = o.steering.order(func(ctl *steer.Controller) error {
		return ctl.Undo(o.c.opt.Now(), *d, by(u.Author, u.Reason))
	})
	if err != nil {
		return nil, err
	}
	d.UndoneBy, d.UndoneAt = u.Author, o.c.opt.Now().UTC()
	var mark *write
	if mod != 0 {
		w := putRecord(o.c.opt.Keys.Decision(d.ID), mod, d)
		mark = &w
	}
	return (*state.Decision)(d), o.steering.told(ctx, d.Carrier, d.Source, mark)
}

// inForce is what can be said of a decision by what is in force through it, nil if
// that is nothing.
func (o *office) inForce(id string) *keyspace.Decision {
	o.mu.Lock()
	defer o.mu.Unlock()
	for carrier, r := range o.mu.tables.steering {
		for i := range r.value.Lanes {
			if l := &r.value.Lanes[i]; l.Decision == id {
				d := &keyspace.Decision{ID: id, Carrier: carrier, Site: l.Site, Source: l.Source, Action: l.State, To: l.State, Why: l.Reason, Until: l.Rests.Time()}
				if l.State == policy.StateWarming && l.Rate == nil && l.Connections == 0 {
					d.Action = "warm-up"
				}
				return d
			}
		}
		for i := range r.value.Holds {
			if h := &r.value.Holds[i]; h.Decision == id {
				return &keyspace.Decision{ID: id, Tenant: h.Tenant, Carrier: h.Carrier, Stream: h.Stream, Job: h.Job, Action: "hold", Why: h.Reason, Until: h.Until.Time()}
			}
		}
	}
	return nil
}

// by is who says so, and why.
func by(author, reason string) string {
	if reason == "" {
		return author
	}
	return author + ": " + reason
}

// order does something with the controller between two rounds and has the next
// one come at once.
func (s *steering) order(do func(*steer.Controller) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ctl == nil {
		return fmt.Errorf("%w: it has only just been elected", state.ErrNoLeader)
	}
	s.followLocked(s.o.policyNow(), s.o.c.opt.Now())
	if err := do(s.mu.ctl); err != nil {
		return fmt.Errorf("%w: %w", state.ErrRefused, err)
	}
	s.collectLocked(s.mu.ctl.Decide(s.o.c.opt.Now()))
	return nil
}

// told writes what an order has changed, with mark if there is one: it is in force
// when the order is answered. Rounds may write it first.
func (s *steering) told(ctx context.Context, carrier, source string, mark *write) error {
	name := carrier
	if source == "" {
		name = keyspace.TenantSteering
	}
	for range orderTries {
		err := s.writeAll(ctx, name, mark)
		switch {
		case err == nil:
			mark = nil
		case mark != nil && !errors.Is(err, errDeposed):
			mark = s.remark(ctx, mark)
		}
		if waits := s.waits(name); mark == nil && !waits {
			return nil
		}
		pause(ctx, 10*time.Millisecond) // of a removal the watch brings word by itself
	}
	return fmt.Errorf("%w: the order stands, but etcd has not taken it yet", state.ErrNoLeader)
}

// remark is a mark on a decision whose record may have changed meanwhile: nil when
// it is marked, or gone.
func (s *steering) remark(ctx context.Context, mark *write) *write {
	got, err := s.o.c.opt.Client.Get(ctx, mark.key)
	switch {
	case err != nil:
		return mark
	case len(got.Kvs) == 0 || bytes.Equal(got.Kvs[0].Value, mark.value):
		return nil
	}
	w := *mark
	w.mod = got.Kvs[0].ModRevision
	return &w
}

// SetLane is of state.Steering.
func (c *Control) SetLane(ctx context.Context, s state.SetLane) (*state.Lane, error) {
	o := c.lead()
	if o == nil {
		return askLeader[*state.Lane](ctx, c, "lane", s)
	}
	o.orders.Lock()
	defer o.orders.Unlock()
	return o.setLane(ctx, s)
}

func (o *office) setLane(ctx context.Context, s state.SetLane) (*state.Lane, error) {
	if err := o.reachNow(ctx); err != nil {
		return nil, err
	}
	set := o.policyNow()
	switch {
	case set.Carriers[s.Carrier] == nil:
		return nil, fmt.Errorf("carrier %s: %w", s.Carrier, state.ErrNotFound)
	case set.Sources[s.Source] == nil:
		return nil, fmt.Errorf("source %s: %w", s.Source, state.ErrNotFound)
	case !set.Steers(s.Carrier):
		return nil, state.Refuse("steering is not on at carrier %s: nothing would follow (disable the source, or use a throttle)", s.Carrier)
	}
	now := o.c.opt.Now()
	err := o.steering.order(func(ctl *steer.Controller) error {
		who := by(s.Author, s.Reason)
		switch s.State {
		case policy.StateRetired:
			return ctl.Retire(now, s.Carrier, s.Site, s.Source, who)
		case policy.StateResting:
			return ctl.Rest(now, s.Carrier, s.Site, s.Source, s.Until, who)
		}
		x := courseOf(ctl, s.Carrier, s.Site, s.Source)
		if x == nil || x.State == policy.StateHealthy {
			return nil
		}
		return ctl.Undo(now, keyspace.Decision{ID: x.Decision, Carrier: s.Carrier, Site: s.Site, Source: s.Source, Action: "retire"}, who)
	})
	if err != nil {
		return nil, err
	}
	if err := o.steering.told(ctx, s.Carrier, s.Source, nil); err != nil {
		return nil, err
	}
	o.steering.mu.Lock()
	defer o.steering.mu.Unlock()
	if x := courseOf(o.steering.mu.ctl, s.Carrier, s.Site, s.Source); x != nil {
		l := laneView(s.Carrier, x)
		return &l, nil
	}
	return &state.Lane{Carrier: s.Carrier, Site: s.Site, Source: s.Source, State: policy.StateHealthy}, nil
}

// courseOf is what the controller has in force about a source.
func courseOf(ctl *steer.Controller, carrier, site, source string) *keyspace.SteeredLane {
	r := ctl.Steering(carrier)
	i := slices.IndexFunc(r.Lanes, func(l keyspace.SteeredLane) bool { return l.Source == source && l.Site == site })
	if i < 0 {
		return nil
	}
	return &r.Lanes[i]
}

func laneView(carrier string, l *keyspace.SteeredLane) state.Lane {
	v := state.Lane{Carrier: carrier, Site: l.Site, Source: l.Source, State: l.State, Connections: l.Connections, PerDay: l.PerDay, Rests: l.Rests.Time(), Decision: l.Decision, Reason: l.Reason}
	if l.Rate != nil {
		v.Rate = l.Rate.String()
	}
	return v
}

// Lanes is of state.Steering: what stands in etcd, which nodes obey.
func (c *Control) Lanes(ctx context.Context, f state.LaneFilter) ([]state.Lane, error) {
	records, err := c.steeringRecords(ctx)
	if err != nil {
		return nil, err
	}
	out := []state.Lane{}
	for carrier, r := range records {
		for i := range r.Lanes {
			l := &r.Lanes[i]
			if f.Carrier != "" && f.Carrier != carrier || f.Source != "" && f.Source != l.Source || f.State != "" && f.State != l.State {
				continue
			}
			out = append(out, laneView(carrier, l))
		}
	}
	slices.SortFunc(out, func(a, b state.Lane) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Source, b.Source))
	})
	return out, nil
}

// Holds is of state.Steering. Those that have ended are left out.
func (c *Control) Holds(ctx context.Context) ([]state.Hold, error) {
	records, err := c.steeringRecords(ctx)
	if err != nil {
		return nil, err
	}
	out := []state.Hold{}
	for _, h := range records[keyspace.TenantSteering].Holds {
		if c.opt.Now().Before(h.Until.Time()) {
			out = append(out, state.Hold{Tenant: h.Tenant, Carrier: h.Carrier, Stream: h.Stream, Job: h.Job, Until: h.Until.Time(), Decision: h.Decision, Reason: h.Reason})
		}
	}
	slices.SortFunc(out, func(a, b state.Hold) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Job, b.Job))
	})
	return out, nil
}

// steeringRecords reads what was decided; a record that cannot be read is left
// out, and the leader alarms of it.
func (c *Control) steeringRecords(ctx context.Context) (map[string]keyspace.Steering, error) {
	prefix := c.opt.Keys.Steering("")
	got, err := c.opt.Client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		c.metrics.etcdErrors.Add(1)
		return nil, fmt.Errorf("read what was decided: %w", err)
	}
	records := map[string]keyspace.Steering{}
	for _, kv := range got.Kvs {
		var r keyspace.Steering
		if json.Unmarshal(kv.Value, &r) == nil {
			records[string(kv.Key)[len(prefix):]] = r
		}
	}
	return records, nil
}

// Scores is of state.Steering.
func (c *Control) Scores(ctx context.Context, f state.ScoreFilter) ([]state.Score, error) {
	if o := c.lead(); o != nil {
		return o.scores(f)
	}
	return askLeader[[]state.Score](ctx, c, "scores", f)
}

func (o *office) scores(f state.ScoreFilter) ([]state.Score, error) {
	s := o.steering
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ctl == nil {
		return nil, fmt.Errorf("%w: it has only just been elected", state.ErrNoLeader)
	}
	all := s.mu.ctl.Scores(o.c.opt.Now(), steer.Filter{Carrier: f.Carrier, Source: f.Source, Tenant: f.Tenant, Domain: f.Domain, Most: scoresKept})
	out := []state.Score{}
	for i := range all {
		if f.Limit > 0 && len(out) == f.Limit {
			break
		}
		if x := &all[i]; f.Of == "" || f.Of == scoreOf(x) {
			out = append(out, scoreView(x))
		}
	}
	return out, nil
}

// scoresKept bounds what is looked through for one question.
const scoresKept = 40_000

func scoreOf(x *steer.Score) string {
	switch {
	case x.Source != "":
		return state.OfSources
	case x.Tenant != "":
		return state.OfTenants
	}
	return state.OfDomains
}

func scoreView(x *steer.Score) state.Score {
	v := state.Score{Carrier: x.Carrier, Site: x.Site, Source: x.Source, Tenant: x.Tenant, Job: x.Job, Domain: x.Domain, Score: x.Score, State: x.State,
		Connections: x.Connections, PerDay: x.PerDay, Until: x.Until, Decision: x.Decision, Reasons: x.Reasons, Replies: x.Replies, Windows: []state.WindowCount{}}
	if x.Rate != nil {
		v.Rate = x.Rate.String()
	}
	if x.LastGood != nil {
		v.LastGood = x.LastGood.String()
	}
	for _, w := range x.Windows {
		v.Windows = append(v.Windows, state.WindowCount{Span: w.Span.String(), Counts: w.Counts})
	}
	return v
}

// WarmUps is of state.Steering.
func (c *Control) WarmUps(ctx context.Context) ([]state.WarmUp, error) {
	if o := c.lead(); o != nil {
		return o.warmUps()
	}
	return askLeader[[]state.WarmUp](ctx, c, "warm-ups", nil)
}

func (o *office) warmUps() ([]state.WarmUp, error) {
	s := o.steering
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.ctl == nil {
		return nil, fmt.Errorf("%w: it has only just been elected", state.ErrNoLeader)
	}
	out := []state.WarmUp{}
	for _, p := range s.mu.ctl.Progress(o.c.opt.Now()) {
		out = append(out, state.WarmUp{WarmUp: p.WarmUp, Carrier: p.Carrier, Source: p.Source, Day: p.Day, Days: p.Days, PerDay: p.PerDay, Sent: p.Sent, Ends: p.Ends, Held: p.Held, Paused: p.Paused, Done: p.Done})
	}
	return out, nil
}

// reachNow waits for the term's first look at etcd.
func (o *office) reachNow(ctx context.Context) error {
	if err := o.ready(); err != nil {
		return err
	}
	o.mu.Unlock()
	return ctx.Err()
}
