package client

import (
	"context"
	"net/http"
	"net/url"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/state"
)

// Decisions lists what was decided, newest first.
func (c *Cluster) Decisions(ctx context.Context, f state.DecisionFilter) (*api.DecisionList, error) {
	return get[api.DecisionList](ctx, c, "/v1/decisions", values("carrier", f.Carrier, "source", f.Source, "tenant", f.Tenant, "action", f.Action,
		"since", stamp(f.Since), "limit", number(f.Limit), "page", f.Page))
}

func decisionPath(id string) string { return "/v1/decisions/" + url.PathEscape(id) }

// Decision shows one.
func (c *Cluster) Decision(ctx context.Context, id string) (*state.Decision, error) {
	return get[state.Decision](ctx, c, decisionPath(id), nil)
}

// UndoDecision takes a decision back that is still in force.
func (c *Cluster) UndoDecision(ctx context.Context, id, reason string) (*state.Decision, error) {
	out := &state.Decision{}
	return out, c.do(ctx, request{method: http.MethodPost, path: decisionPath(id) + "/undo", in: api.OrderBody{Reason: reason}}, out)
}

// Scores lists how well sources and tenants are liked, the worst first.
func (c *Cluster) Scores(ctx context.Context, f state.ScoreFilter) ([]state.Score, error) {
	return all[state.Score](ctx, c, "/v1/reputation", values("carrier", f.Carrier, "source", f.Source, "tenant", f.Tenant, "domain", f.Domain, "of", f.Of, "limit", number(f.Limit)))
}

// SteeredLanes lists what is in force about sources at carriers.
func (c *Cluster) SteeredLanes(ctx context.Context, f state.LaneFilter) ([]state.Lane, error) {
	return all[state.Lane](ctx, c, "/v1/reputation/lanes", values("carrier", f.Carrier, "source", f.Source, "state", f.State))
}

// SetLane puts a source at a carrier into a state by hand.
func (c *Cluster) SetLane(ctx context.Context, carrier, source string, o *api.LaneOrder) (*state.Lane, error) {
	out := &state.Lane{}
	path := "/v1/reputation/lanes/" + url.PathEscape(carrier) + "/" + url.PathEscape(source)
	return out, c.do(ctx, request{method: http.MethodPost, path: path, in: o}, out)
}

// TenantHolds lists what the control plane holds of tenants' mail.
func (c *Cluster) TenantHolds(ctx context.Context) ([]state.Hold, error) {
	return all[state.Hold](ctx, c, "/v1/reputation/holds", nil)
}

// WarmUps lists warm-ups and how far they are.
func (c *Cluster) WarmUps(ctx context.Context) ([]state.WarmUp, error) {
	return all[state.WarmUp](ctx, c, "/v1/warm-ups", nil)
}
