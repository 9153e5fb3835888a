package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/state"
)

// DecisionList is one page of decisions, newest first.
type DecisionList struct {
	Decisions  []state.Decision `json:"decisions"`
	Next       string           `json:"next,omitempty" doc:"Page token of what is older."`
	Unreadable int              `json:"unreadable,omitempty" doc:"Records on the way that could not be read and are left out."`
}

// DecisionPath names a decision.
type DecisionPath struct {
	ID string `path:"id" maxLength:"64" doc:"As the list shows it."`
}

type decisionOut struct{ Body *state.Decision }

// registerSteering puts the operations about decisions, scores and warm-ups on the
// API, if the cluster steers.
func (a *api) registerSteering(h huma.API) {
	s, ok := a.cluster.(state.Steering)
	if !ok {
		return
	}
	const missing, conflict = http.StatusNotFound, http.StatusConflict
	op := func(id, method, path, summary string, statuses ...int) huma.Operation {
		return tagged(clusterOp(id, method, path, summary, statuses...), "reputation")
	}
	r := reputation{a, s}
	huma.Register(h, op("list-decisions", http.MethodGet, "/v1/decisions", "List what was decided about sources and tenants, newest first"), r.decisions)
	huma.Register(h, op("get-decision", http.MethodGet, "/v1/decisions/{id}", "Show a decision: what, why, by which rule, until when", missing), r.decision)
	huma.Register(h, op("undo-decision", http.MethodPost, "/v1/decisions/{id}/undo", "Take a decision back that is still in force", missing, conflict), r.undo)
	huma.Register(h, op("list-scores", http.MethodGet, "/v1/reputation", "List how well sources and tenants are liked, the worst first, with the reasons"), r.scores)
	huma.Register(h, op("list-lanes-steered", http.MethodGet, "/v1/reputation/lanes", "List what is in force about sources at carriers"), r.lanes)
	huma.Register(h, op("set-lane", http.MethodPost, "/v1/reputation/lanes/{carrier}/{source}", "Retire a source at a carrier, let it rest, or use it again", missing, conflict), r.setLane)
	huma.Register(h, op("list-tenant-holds", http.MethodGet, "/v1/reputation/holds", "List what the control plane holds of tenants' mail"), r.holds)
	huma.Register(h, op("list-warm-ups", http.MethodGet, "/v1/warm-ups", "List warm-ups and how far they are"), r.warmUps)
}

// reputation answers what is asked about decisions and what they rest on.
type reputation struct {
	*api
	s state.Steering
}

func (r *reputation) decisions(ctx context.Context, in *struct {
	Carrier string    `query:"carrier" maxLength:"64"`
	Source  string    `query:"source" maxLength:"64"`
	Tenant  string    `query:"tenant" maxLength:"64"`
	Action  string    `query:"action" maxLength:"40" doc:"As block, slow, rest, recover, hold or warm-up-day."`
	Since   time.Time `query:"since" doc:"inclusive"`
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Page    string    `query:"page" maxLength:"64" pattern:"^[0-9A-Za-z.-]*$" doc:"next of the page before"`
}) (*out[DecisionList], error) {
	p, err := r.s.Decisions(ctx, state.DecisionFilter{Carrier: in.Carrier, Source: in.Source, Tenant: in.Tenant, Action: in.Action, Since: in.Since, Limit: in.Limit, Page: in.Page})
	if err != nil {
		return nil, r.clusterFail("list decisions", err)
	}
	return &out[DecisionList]{&DecisionList{Decisions: append([]state.Decision{}, p.Decisions...), Next: p.Next, Unreadable: p.Unreadable}}, nil
}

func (r *reputation) decision(ctx context.Context, in *DecisionPath) (*decisionOut, error) {
	d, err := r.s.Decision(ctx, in.ID)
	return &decisionOut{d}, r.clusterFail("show a decision", err)
}

func (r *reputation) undo(ctx context.Context, in *struct {
	Author
	DecisionPath
	Body *OrderBody `required:"false"`
}) (*decisionOut, error) {
	u := state.Undo{ID: in.ID, Author: in.name(ctx)}
	if in.Body != nil {
		u.Reason = in.Body.Reason
	}
	d, err := r.s.Undo(ctx, u)
	if err != nil {
		return nil, r.clusterFail("undo a decision", err)
	}
	r.log.Info("decision undone", "id", u.ID, "author", u.Author, "reason", u.Reason)
	r.record(ctx, entry{"undo", "decision " + u.ID, u.Reason, aboutDecision(d)})
	return &decisionOut{d}, nil
}

// aboutDecision is what a decision did, in a line.
func aboutDecision(d *state.Decision) string {
	text := d.Action
	for _, f := range [...][2]string{{" of source ", d.Source}, {" at carrier ", d.Carrier}, {" of tenant ", d.Tenant}, {", stream ", d.Stream}, {", job ", d.Job}} {
		if f[1] != "" {
			text += f[0] + f[1]
		}
	}
	return text
}

func (r *reputation) scores(ctx context.Context, in *struct {
	Carrier string `query:"carrier" maxLength:"64"`
	Source  string `query:"source" maxLength:"64"`
	Tenant  string `query:"tenant" maxLength:"64"`
	Domain  string `query:"domain" maxLength:"255" doc:"Of the From header."`
	Of      string `query:"of" enum:"sources,tenants,domains" doc:"Only these; jobs are among the tenants."`
	Limit   int    `query:"limit" minimum:"1" maximum:"5000" default:"200"`
}) (*items[state.Score], error) {
	v, err := r.s.Scores(ctx, state.ScoreFilter{Carrier: in.Carrier, Source: in.Source, Tenant: in.Tenant, Domain: in.Domain, Of: in.Of, Limit: in.Limit})
	return listed(v), r.clusterFail("list scores", err)
}

func (r *reputation) lanes(ctx context.Context, in *struct {
	Carrier string `query:"carrier" maxLength:"64"`
	Source  string `query:"source" maxLength:"64"`
	State   string `query:"state" enum:"healthy,warming,slowed,resting,blocked,probation,retired"`
}) (*items[state.Lane], error) {
	v, err := r.s.Lanes(ctx, state.LaneFilter{Carrier: in.Carrier, Source: in.Source, State: in.State})
	return listed(v), r.clusterFail("list lanes", err)
}

// LaneOrder puts a source at a carrier into a state.
type LaneOrder struct {
	State  string    `json:"state" enum:"retired,resting,healthy" doc:"retired until it is taken back; resting until a time; healthy takes back what is in force."`
	Site   string    `json:"site,omitempty" maxLength:"300" doc:"At the default carrier: one of its sites."`
	Until  time.Time `json:"until,omitzero" doc:"With resting: the end, within 24 hours."`
	Reason string    `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

func (r *reputation) setLane(ctx context.Context, in *struct {
	Author
	Carrier string `path:"carrier" maxLength:"64"`
	Source  string `path:"source" maxLength:"64"`
	Body    LaneOrder
}) (*struct{ Body *state.Lane }, error) {
	b := &in.Body
	if (b.State == "resting") == b.Until.IsZero() {
		return nil, problem(http.StatusUnprocessableEntity, "until: a rest needs its end, and nothing else has one")
	}
	o := state.SetLane{Carrier: in.Carrier, Site: b.Site, Source: in.Source, State: b.State, Until: b.Until, Author: in.name(ctx), Reason: b.Reason}
	l, err := r.s.SetLane(ctx, o)
	if err != nil {
		return nil, r.clusterFail("set a source's state", err)
	}
	r.log.Info("source set by hand", "carrier", o.Carrier, "site", o.Site, "source", o.Source, "state", o.State, "author", o.Author, "reason", o.Reason)
	r.record(ctx, entry{o.State, "source " + o.Source + " at carrier " + o.Carrier, o.Reason, "it is " + l.State})
	return &struct{ Body *state.Lane }{l}, nil
}

func (r *reputation) holds(ctx context.Context, _ *struct{}) (*items[state.Hold], error) {
	v, err := r.s.Holds(ctx)
	return listed(v), r.clusterFail("list holds", err)
}

func (r *reputation) warmUps(ctx context.Context, _ *struct{}) (*items[state.WarmUp], error) {
	v, err := r.s.WarmUps(ctx)
	return listed(v), r.clusterFail("list warm-ups", err)
}
