package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/state"
)

// Cluster is the part of the API that is about nodes, sources, grants and what
// was ordered. Only a control plane has it; a node answers 404.
type Cluster struct {
	c      *Client
	author string
}

// Cluster makes the typed part for an author.
func (c *Client) Cluster(author string) *Cluster { return &Cluster{c, author} }

func get[T any](ctx context.Context, c *Cluster, path string, q url.Values) (*T, error) {
	out := new(T)
	if err := c.do(ctx, request{method: http.MethodGet, path: path, query: q}, out); err != nil {
		return nil, err
	}
	return out, nil
}

func all[T any](ctx context.Context, c *Cluster, path string, q url.Values) ([]T, error) {
	out, err := get[struct {
		Items []T `json:"items"`
	}](ctx, c, path, q)
	if err != nil {
		return nil, err
	}
	return out.Items, nil
}

func (c *Cluster) do(ctx context.Context, r request, out any) error {
	return (&Policy{c.c, c.author}).do(ctx, r, out)
}

// values leaves empty parameters out; pairs are name and value.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func number[N ~int | ~int64](n N) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

// Summary is the cluster in one look, and who the server takes the asker for.
func (c *Cluster) Summary(ctx context.Context) (*api.ClusterSummary, error) {
	return get[api.ClusterSummary](ctx, c, "/v1/cluster", nil)
}

// Nodes lists nodes.
func (c *Cluster) Nodes(ctx context.Context) ([]state.Node, error) {
	return all[state.Node](ctx, c, "/v1/nodes", nil)
}

func nodePath(name string) string { return "/v1/nodes/" + url.PathEscape(name) }

// Node shows a node.
func (c *Cluster) Node(ctx context.Context, name string) (*state.Node, error) {
	return get[state.Node](ctx, c, nodePath(name), nil)
}

// Drain takes a node's sources and mail away; Undrain lets it take part again.
// The answer shows the node after the order, which is not done by then.
func (c *Cluster) Drain(ctx context.Context, name, reason string) (*state.Node, error) {
	return c.order(ctx, name, "drain", reason)
}

// Undrain takes a drain back.
func (c *Cluster) Undrain(ctx context.Context, name, reason string) (*state.Node, error) {
	return c.order(ctx, name, "undrain", reason)
}

func (c *Cluster) order(ctx context.Context, name, verb, reason string) (*state.Node, error) {
	out := &state.Node{}
	return out, c.do(ctx, request{method: http.MethodPost, path: nodePath(name) + "/" + verb, in: api.OrderBody{Reason: reason}}, out)
}

// RemoveNode ends the membership of a dead node.
func (c *Cluster) RemoveNode(ctx context.Context, name, reason string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: nodePath(name), query: values("reason", reason)}, nil)
}

// SourceFilter picks sources.
type SourceFilter struct{ Node, Pool, State string }

// Sources lists sources.
func (c *Cluster) Sources(ctx context.Context, f SourceFilter) ([]state.Source, error) {
	return all[state.Source](ctx, c, "/v1/sources", values("node", f.Node, "pool", f.Pool, "state", f.State))
}

// MoveSource hands a source to a node.
func (c *Cluster) MoveSource(ctx context.Context, source, node, reason string) (*state.Source, error) {
	out := &state.Source{}
	return out, c.do(ctx, request{method: http.MethodPost, path: "/v1/sources/" + url.PathEscape(source) + "/move", in: api.MoveBody{Node: node, Reason: reason}}, out)
}

// GrantFilter picks grants.
type GrantFilter struct{ Node, Carrier, Tenant, Kind string }

// Grants lists each node's part of the budgets.
func (c *Cluster) Grants(ctx context.Context, f GrantFilter) ([]state.Grant, error) {
	return all[state.Grant](ctx, c, "/v1/grants", values("node", f.Node, "carrier", f.Carrier, "tenant", f.Tenant, "kind", f.Kind))
}

// Leases lists leases.
func (c *Cluster) Leases(ctx context.Context) ([]state.Lease, error) {
	return all[state.Lease](ctx, c, "/v1/leases", nil)
}

// Leader shows the leader.
func (c *Cluster) Leader(ctx context.Context) (*state.Leader, error) {
	return get[state.Leader](ctx, c, "/v1/leader", nil)
}

// GossipKeys lists the keys that gossip is encrypted with.
func (c *Cluster) GossipKeys(ctx context.Context) ([]state.GossipKey, error) {
	return all[state.GossipKey](ctx, c, gossipKeys, nil)
}

const gossipKeys = "/v1/gossip-keys"

// AddGossipKey makes a new key, which nodes can read by from then on.
func (c *Cluster) AddGossipKey(ctx context.Context) (*state.GossipKey, error) {
	out := new(state.GossipKey)
	return out, c.do(ctx, request{method: http.MethodPost, path: gossipKeys}, out)
}

// UseGossipKey has all nodes encrypt with a key of the ring.
func (c *Cluster) UseGossipKey(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodPost, path: gossipKeys + "/" + url.PathEscape(id) + "/use"}, nil)
}

// RemoveGossipKey takes a key off the ring.
func (c *Cluster) RemoveGossipKey(ctx context.Context, id string) error {
	return c.do(ctx, request{method: http.MethodDelete, path: gossipKeys + "/" + url.PathEscape(id)}, nil)
}

// AuditFilter picks entries of the audit log.
type AuditFilter struct {
	Author, Role, Action, Scope string
	Since, Until                time.Time
	Limit                       int
	Page                        string
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Audit lists what was ordered, newest first.
func (c *Cluster) Audit(ctx context.Context, f AuditFilter) (*api.AuditList, error) {
	return get[api.AuditList](ctx, c, "/v1/audit", values("author", f.Author, "role", f.Role, "action", f.Action, "scope", f.Scope,
		"since", stamp(f.Since), "until", stamp(f.Until), "limit", number(f.Limit), "page", f.Page))
}

// VerifyAudit checks that the audit log is whole.
func (c *Cluster) VerifyAudit(ctx context.Context) (*api.AuditProof, error) {
	return get[api.AuditProof](ctx, c, "/v1/audit:verify", nil)
}

// Applied says which nodes have a revision (0: the newest). It waits up to a
// minute for all of them.
func (c *Cluster) Applied(ctx context.Context, revision int64, wait time.Duration) (*api.Applied, error) {
	return get[api.Applied](ctx, c, "/v1/policy:applied", values("revision", number(revision), "wait", number(int((wait+time.Second-1)/time.Second))))
}

// Throttles says what limits a carrier.
func (p *Policy) Throttles(ctx context.Context, carrier string) (*api.CarrierThrottles, error) {
	out := &api.CarrierThrottles{}
	if err := p.do(ctx, request{method: http.MethodGet, path: throttlePath(carrier)}, out); err != nil {
		return nil, err
	}
	for i := range out.Throttles {
		if err := typed(&out.Throttles[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func throttlePath(carrier string) string {
	return "/v1/carriers/" + url.PathEscape(carrier) + "/throttle"
}

// Throttle gives a carrier other limits; a revision other than 0 is that of the
// throttle that is replaced.
func (p *Policy) Throttle(ctx context.Context, carrier string, in *api.ThrottleRequest) (*api.ThrottleChange, error) {
	return p.throttle(ctx, request{method: http.MethodPut, path: throttlePath(carrier), in: in})
}

// ClearThrottle ends the throttle of a carrier, or a narrower one.
func (p *Policy) ClearThrottle(ctx context.Context, carrier string, on api.Narrow, reason string, dryRun bool) (*api.ThrottleChange, error) {
	q := values("pool", on.Pool, "source", on.Source, "tenant", on.Tenant, "reason", reason)
	if dryRun {
		q.Set("dry_run", "true")
	}
	return p.throttle(ctx, request{method: http.MethodDelete, path: throttlePath(carrier), query: q})
}

func (p *Policy) throttle(ctx context.Context, r request) (*api.ThrottleChange, error) {
	out := &api.ThrottleChange{}
	if err := p.do(ctx, r, out); err != nil {
		return nil, err
	}
	return out, typedEffects(out.Effects)
}

// Diff says what became of each resource between two revisions; from 0 is the
// empty policy, to 0 the one in force.
func (p *Policy) Diff(ctx context.Context, from, to int64) (*api.Diff, error) {
	out := &api.Diff{}
	if err := p.do(ctx, request{method: http.MethodGet, path: "/v1/policy:diff", query: values("from", number(from), "to", number(to))}, out); err != nil {
		return nil, err
	}
	return out, typedEffects(out.Effects)
}

func typedEffects(es []api.Effect) error {
	for i := range es {
		for _, r := range []*api.Resource{es[i].Before, es[i].After} {
			if r == nil {
				continue
			}
			if err := typed(r); err != nil {
				return err
			}
		}
	}
	return nil
}
