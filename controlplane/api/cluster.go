package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/state"
)

// You is who the server takes the asker for.
type You struct {
	Key    string `json:"key"`
	Role   string `json:"role,omitempty" enum:"admin,operator,read-only,tenant"`
	Tenant string `json:"tenant,omitempty"`
}

// ClusterSummary is the cluster in one look.
type ClusterSummary struct {
	Version  string `json:"version"`
	You      You    `json:"you"`
	Leader   string `json:"leader,omitempty" doc:"Absent while there is none."`
	Revision int64  `json:"revision,omitempty" doc:"Of the policy."`
	Nodes    int    `json:"nodes,omitempty"`
	Live     int    `json:"live,omitempty"`
	Draining int    `json:"draining,omitempty"`
	Sources  int    `json:"sources,omitempty"`
	Unheld   int    `json:"sources_unheld,omitempty" doc:"Movable sources that no node may send from at the moment."`
}

// items is a listing that comes whole.
type items[T any] struct {
	Body struct {
		Items []T `json:"items"`
	}
}

func listed[T any](v []T) *items[T] {
	out := &items[T]{}
	out.Body.Items = append([]T{}, v...)
	return out
}

// OrderBody says why.
type OrderBody struct {
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

// MoveBody says where to.
type MoveBody struct {
	Node   string `json:"node" minLength:"1" maxLength:"64" doc:"The new holder."`
	Reason string `json:"reason,omitempty" maxLength:"1000" doc:"Why, for the audit log."`
}

// NodePath names a node.
type NodePath struct {
	Node string `path:"node" maxLength:"64"`
}

type nodeOut struct{ Body *state.Node }

type sourceOut struct{ Body *state.Source }

func clusterOp(id, method, path, summary string, statuses ...int) huma.Operation {
	op := tagged(also(operation(id, method, path, summary), statuses...), "cluster")
	op.DefaultStatus = http.StatusOK
	return op
}

func (a *api) registerCluster(h huma.API) {
	const missing, conflict = http.StatusNotFound, http.StatusConflict
	huma.Register(h, clusterOp("cluster", http.MethodGet, "/v1/cluster", "Show the cluster in one look, and who you are"), a.summary)
	huma.Register(h, clusterOp("list-nodes", http.MethodGet, "/v1/nodes", "List nodes"), func(ctx context.Context, _ *struct{}) (*items[state.Node], error) {
		v, err := a.cluster.Nodes(ctx)
		return listed(v), a.clusterFail("list nodes", err)
	})
	huma.Register(h, clusterOp("get-node", http.MethodGet, "/v1/nodes/{node}", "Show a node", missing), func(ctx context.Context, in *NodePath) (*nodeOut, error) {
		n, err := a.node(ctx, in.Node)
		return &nodeOut{n}, err
	})
	huma.Register(h, clusterOp("list-sources", http.MethodGet, "/v1/sources", "List sources and who holds them"), a.listSources)
	huma.Register(h, clusterOp("list-grants", http.MethodGet, "/v1/grants", "List each node's part of the budgets"), a.listGrants)
	huma.Register(h, clusterOp("list-leases", http.MethodGet, "/v1/leases", "List the leases by which something is held"), func(ctx context.Context, _ *struct{}) (*items[state.Lease], error) {
		v, err := a.cluster.Leases(ctx)
		return listed(v), a.clusterFail("list leases", err)
	})
	huma.Register(h, clusterOp("get-leader", http.MethodGet, "/v1/leader", "Show the leader and how it fares"), func(ctx context.Context, _ *struct{}) (*struct{ Body *state.Leader }, error) {
		v, err := a.cluster.Leader(ctx)
		return &struct{ Body *state.Leader }{&v}, a.clusterFail("show the leader", err)
	})
	huma.Register(h, clusterOp("drain-node", http.MethodPost, "/v1/nodes/{node}/drain", "Take a node's sources and mail away", missing, conflict), a.order("drain", a.cluster.Drain))
	huma.Register(h, clusterOp("undrain-node", http.MethodPost, "/v1/nodes/{node}/undrain", "Let a node take part again", missing, conflict), a.order("undrain", a.cluster.Undrain))
	huma.Register(h, clusterOp("remove-node", http.MethodDelete, "/v1/nodes/{node}", "End the membership of a dead node", missing, conflict), a.remove)
	huma.Register(h, clusterOp("move-source", http.MethodPost, "/v1/sources/{source}/move", "Hand a source to another node", missing, conflict), a.move)
	a.registerGossip(h)
	a.registerSteering(h)
}

func (a *api) summary(ctx context.Context, _ *struct{}) (*struct{ Body *ClusterSummary }, error) {
	id := access.From(ctx)
	out := &ClusterSummary{Version: a.version, You: You{id.Name, string(id.Role), id.Tenant}}
	answer := &struct{ Body *ClusterSummary }{out}
	if id.Role == access.Tenant {
		return answer, nil // the rest is not the tenant's
	}
	out.Revision = a.store.Snapshot().Revision
	if l, err := a.cluster.Leader(ctx); err == nil {
		out.Leader = l.Name
	}
	ns, err := a.cluster.Nodes(ctx)
	if err != nil {
		return nil, a.clusterFail("list nodes", err)
	}
	ss, err := a.cluster.Sources(ctx)
	if err != nil && !errors.Is(err, state.ErrNoLeader) { // without a leader the nodes can still be asked
		return nil, a.clusterFail("list sources", err)
	}
	for _, n := range ns {
		out.Nodes++
		if n.Live {
			out.Live++
		}
		if n.Drain != "" {
			out.Draining++
		}
	}
	for _, s := range ss {
		out.Sources++
		if s.Mode == state.Movable && s.State != "held" && !s.Disabled {
			out.Unheld++
		}
	}
	return answer, nil
}

// node is one node, or 404.
func (a *api) node(ctx context.Context, name string) (*state.Node, error) {
	ns, err := a.cluster.Nodes(ctx)
	if err != nil {
		return nil, a.clusterFail("list nodes", err)
	}
	for i := range ns {
		if ns[i].Name == name {
			return &ns[i], nil
		}
	}
	return nil, problem(http.StatusNotFound, "there is no such node; \"hikyaku node list\" shows them")
}

func (a *api) listSources(ctx context.Context, in *struct {
	Node  string `query:"node" maxLength:"64" doc:"Only those of this node."`
	Pool  string `query:"pool" maxLength:"64" doc:"Only those of this pool."`
	State string `query:"state" enum:"held,releasing,quarantined,free"`
}) (*items[state.Source], error) {
	v, err := a.cluster.Sources(ctx)
	if err != nil {
		return nil, a.clusterFail("list sources", err)
	}
	return listed(slices.DeleteFunc(slices.Clone(v), func(s state.Source) bool {
		return in.Node != "" && s.Node != in.Node || in.State != "" && s.State != in.State || in.Pool != "" && !slices.Contains(s.Pools, in.Pool)
	})), nil
}

func (a *api) listGrants(ctx context.Context, in *struct {
	Node    string `query:"node" maxLength:"64" doc:"Only those of this node."`
	Carrier string `query:"carrier" maxLength:"64"`
	Tenant  string `query:"tenant" maxLength:"64"`
	Kind    string `query:"kind" enum:"carrier,carrier-pool,carrier-source,tenant,tenant-carrier,stream,job"`
}) (*items[state.Grant], error) {
	v, err := a.cluster.Grants(ctx)
	if err != nil {
		return nil, a.clusterFail("list grants", err)
	}
	other := func(want, have string) bool { return want != "" && want != have }
	v = slices.DeleteFunc(slices.Clone(v), func(g state.Grant) bool {
		return other(in.Node, g.Node) || other(in.Carrier, g.Carrier) || other(in.Tenant, g.Tenant) || other(in.Kind, g.Kind)
	})
	slices.SortStableFunc(v, func(x, y state.Grant) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Carrier, y.Carrier), cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.Job, y.Job))
	})
	return listed(v), nil
}

// order is an order about one node; the answer shows the node after it.
func (a *api) order(verb string, do func(context.Context, state.Order) error) func(context.Context, *struct {
	Author
	NodePath
	Body *OrderBody `required:"false"`
}) (*nodeOut, error) {
	return func(ctx context.Context, in *struct {
		Author
		NodePath
		Body *OrderBody `required:"false"`
	}) (*nodeOut, error) {
		o := state.Order{Node: in.Node, Author: in.name(ctx)}
		if in.Body != nil {
			o.Reason = in.Body.Reason
		}
		if err := do(ctx, o); err != nil {
			return nil, a.clusterFail(verb+" a node", err)
		}
		a.log.Info("node "+verb, "node", o.Node, "author", o.Author, "reason", o.Reason)
		a.record(ctx, entry{verb, "node " + o.Node, o.Reason, ""})
		n, err := a.node(ctx, in.Node)
		return &nodeOut{n}, err
	}
}

// Removed is the answer to the removal of a node.
type Removed struct {
	Node string `json:"node"`
}

func (a *api) remove(ctx context.Context, in *struct {
	Author
	NodePath
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the audit log."`
}) (*struct{ Body Removed }, error) {
	o := state.Order{Node: in.Node, Author: in.name(ctx), Reason: in.Reason}
	if err := a.cluster.Remove(ctx, o); err != nil {
		return nil, a.clusterFail("remove a node", err)
	}
	a.log.Info("node removed", "node", o.Node, "author", o.Author, "reason", o.Reason)
	a.record(ctx, entry{"remove", "node " + o.Node, o.Reason, ""})
	return &struct{ Body Removed }{Removed{in.Node}}, nil
}

func (a *api) move(ctx context.Context, in *struct {
	Author
	Source string `path:"source" maxLength:"64"`
	Body   MoveBody
}) (*sourceOut, error) {
	m := state.Move{Source: in.Source, Node: in.Body.Node, Author: in.name(ctx), Reason: in.Body.Reason}
	if err := a.cluster.Move(ctx, m); err != nil {
		return nil, a.clusterFail("move a source", err)
	}
	a.log.Info("source moves", "source", m.Source, "node", m.Node, "author", m.Author, "reason", m.Reason)
	a.record(ctx, entry{"move", "source " + m.Source, m.Reason, "to node " + m.Node})
	ss, err := a.cluster.Sources(ctx)
	if err != nil {
		return nil, a.clusterFail("list sources", err)
	}
	for i := range ss {
		if ss[i].Name == in.Source {
			return &sourceOut{&ss[i]}, nil
		}
	}
	return nil, problem(http.StatusNotFound, "the source is gone")
}

// clusterFail turns an error of the cluster's state into a problem; nil stays
// nil.
func (a *api) clusterFail(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrNotFound):
		return problem(http.StatusNotFound, err.Error())
	case errors.Is(err, state.ErrRefused):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, state.ErrNoLeader):
		return problem(http.StatusServiceUnavailable, err.Error()+"; one is elected within seconds if most members of etcd live")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem(http.StatusServiceUnavailable, "the answer took too long")
	}
	a.log.Error(what, "error", err)
	return problem(http.StatusServiceUnavailable, "the cluster cannot be asked at the moment; the log of the control plane says why")
}
