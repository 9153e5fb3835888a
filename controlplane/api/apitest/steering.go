package apitest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hikyaku/controlplane/state"
)

var _ state.Steering = (*Cluster)(nil)

// DecisionID is the id of the newer of the two decisions that the cluster has at
// first: source a1 is blocked at docomo by it.
const DecisionID = "20261122T101400.000-00001"

const olderDecision = "20261122T091400.000-00001"

func decisions() []state.Decision {
	return []state.Decision{
		{ID: DecisionID, At: Epoch.Add(-time.Minute), Carrier: "docomo", Source: "a1", Action: "block", From: "slowed", To: "blocked", Rule: "blocked",
			Why: "12 of 14 replies refuse the source for its reputation", Replies: []string{"550 5.7.1 blocked (mail)"}, Until: Epoch.Add(29 * time.Minute), Term: 3},
		{ID: olderDecision, At: Epoch.Add(-61 * time.Minute), Tenant: "shop", Action: "hold", Rule: "unknown-users", Why: "6.1 % of 1000 recipients are unknown", Until: Epoch.Add(-time.Minute), Term: 3},
	}
}

func lanes() []state.Lane {
	return []state.Lane{{Carrier: "docomo", Source: "a1", State: "blocked", Connections: 1, Rate: "1/m", Rests: Epoch.Add(29 * time.Minute), Decision: DecisionID, Reason: "blocked"}}
}

// Decisions is of state.Steering.
func (c *Cluster) Decisions(_ context.Context, f state.DecisionFilter) (*state.DecisionPage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err != nil {
		return nil, c.mu.err
	}
	p := &state.DecisionPage{}
	for _, d := range c.mu.decisions {
		other := func(want, have string) bool { return want != "" && want != have }
		switch {
		case f.Page != "" && d.ID >= f.Page, d.At.Before(f.Since), other(f.Carrier, d.Carrier), other(f.Source, d.Source), other(f.Tenant, d.Tenant), other(f.Action, d.Action):
			continue
		case len(p.Decisions) == f.Limit:
			p.Next = p.Decisions[f.Limit-1].ID
			return p, nil
		}
		p.Decisions = append(p.Decisions, d)
	}
	return p, nil
}

// Decide adds a decision, as the newest.
func (c *Cluster) Decide(d state.Decision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.decisions = slices.Insert(c.mu.decisions, 0, d)
}

// Decision is of state.Steering.
func (c *Cluster) Decision(_ context.Context, id string) (*state.Decision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.mu.decisions, func(d state.Decision) bool { return d.ID == id })
	switch {
	case c.mu.err != nil:
		return nil, c.mu.err
	case i < 0:
		return nil, fmt.Errorf("decision %s: %w", id, state.ErrNotFound)
	}
	d := c.mu.decisions[i]
	return &d, nil
}

// Undo is of state.Steering.
func (c *Cluster) Undo(ctx context.Context, u state.Undo) (*state.Decision, error) {
	d, err := c.Decision(ctx, u.ID)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.UndoneBy != "" || !d.Until.After(Epoch) {
		return nil, state.Refuse("decision %s is not in force any more", u.ID)
	}
	d.UndoneBy, d.UndoneAt = u.Author, Epoch
	for i := range c.mu.decisions {
		if c.mu.decisions[i].ID == u.ID {
			c.mu.decisions[i] = *d
		}
	}
	c.mu.lanes = slices.DeleteFunc(c.mu.lanes, func(l state.Lane) bool { return l.Decision == u.ID })
	return d, nil
}

// SetLane is of state.Steering.
func (c *Cluster) SetLane(_ context.Context, s state.SetLane) (*state.Lane, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.err != nil:
		return nil, c.mu.err
	case !slices.ContainsFunc(c.mu.sources, func(x state.Source) bool { return x.Name == s.Source }):
		return nil, fmt.Errorf("source %s: %w", s.Source, state.ErrNotFound)
	case s.Site != "" && s.Carrier != "default":
		return nil, state.Refuse("only the default carrier has sites")
	}
	l := state.Lane{Carrier: s.Carrier, Site: s.Site, Source: s.Source, State: s.State, Rests: s.Until, Reason: "by " + s.Author}
	c.mu.lanes = slices.DeleteFunc(c.mu.lanes, func(o state.Lane) bool {
		return o.Carrier == s.Carrier && o.Site == s.Site && o.Source == s.Source
	})
	if s.State != "healthy" {
		c.mu.lanes = append(c.mu.lanes, l)
	}
	return &l, nil
}

// Lanes is of state.Steering.
func (c *Cluster) Lanes(_ context.Context, f state.LaneFilter) ([]state.Lane, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.mu.lanes), func(l state.Lane) bool {
		return f.Carrier != "" && f.Carrier != l.Carrier || f.Source != "" && f.Source != l.Source || f.State != "" && f.State != l.State
	}), c.mu.err
}

// Holds is of state.Steering.
func (c *Cluster) Holds(context.Context) ([]state.Hold, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []state.Hold{{Tenant: "shop", Carrier: "docomo", Until: Epoch.Add(time.Hour), Decision: olderDecision, Reason: "unknown users"}}, c.mu.err
}

// Scores is of state.Steering.
func (c *Cluster) Scores(_ context.Context, f state.ScoreFilter) ([]state.Score, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := []state.WindowCount{{Span: "6h", Counts: map[string]uint32{"delivered": 2, "blocked": 12}}}
	all := map[string]state.Score{
		state.OfSources: {Carrier: "docomo", Source: "a1", Score: 0, State: "blocked", Decision: DecisionID, Windows: counts, Reasons: []string{"-60: blocked"}},
		state.OfTenants: {Tenant: "shop", Carrier: "docomo", Score: 44, State: "held", Windows: counts},
		state.OfDomains: {Domain: "shop.example", Score: 100, Windows: counts},
	}
	var out []state.Score
	for _, of := range []string{state.OfSources, state.OfTenants, state.OfDomains} {
		if s := all[of]; (f.Of == "" || f.Of == of) && (f.Carrier == "" || f.Carrier == s.Carrier) && len(out) < f.Limit {
			out = append(out, s)
		}
	}
	return out, c.mu.err
}

// WarmUps is of state.Steering.
func (c *Cluster) WarmUps(context.Context) ([]state.WarmUp, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return []state.WarmUp{
		{WarmUp: "new", Carrier: "docomo", Source: "a2", Day: 2, Days: 14, PerDay: 100, Sent: 37, Ends: Epoch.Add(3 * time.Hour)},
		{WarmUp: "old", Carrier: "docomo", Source: "a1", Day: 14, Days: 14, Done: true},
	}, c.mu.err
}
