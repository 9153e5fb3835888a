package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
)

// FanJobPath names a job.
type FanJobPath struct {
	Tenant string `path:"tenant" maxLength:"64"`
	ID     string `path:"id" maxLength:"128"`
}

func (p FanJobPath) path() string {
	return "/v1/jobs/" + url.PathEscape(p.Tenant) + "/" + url.PathEscape(p.ID)
}

// jobOut is 200 when all nodes have answered a change, else 207.
type jobOut struct {
	Status int
	Body   *ClusterJobAnswer
}

func (a *api) registerFanJobs(h huma.API) {
	huma.Register(h, fanOp("jobs", http.MethodGet, "jobs", "List jobs over all nodes"), a.jobs)
	huma.Register(h, fanOp("job", http.MethodGet, "jobs/{tenant}/{id}", "Show a job over all nodes"), a.job)
	op := partly(h, fanOp("change-job", http.MethodPatch, "jobs/{tenant}/{id}", "Pause, resume, slow or cancel a job on all nodes", http.StatusConflict))
	op.Responses["207"].Content["application/json"].Schema = h.OpenAPI().Components.Schemas.Schema(typeOf[ClusterJobAnswer](), true, "ClusterJobAnswer")
	huma.Register(h, op, a.changeJob)
}

type nodeJobs struct {
	Jobs []ClusterJob `json:"jobs"`
	Next string       `json:"next"`
}

func (a *api) jobs(ctx context.Context, in *struct {
	Tenant string `query:"tenant" maxLength:"64"`
	State  string `query:"state" enum:"active,paused,cancelled"`
	NodesQuery
	PageQuery
}) (*out[ClusterJobs], error) {
	if err := owned(ctx, &in.Tenant); err != nil {
		return nil, err
	}
	l, err := a.begin(ctx, in.Node, in.PageQuery)
	if err != nil {
		return nil, err
	}
	q := url.Values{}
	if in.Tenant != "" {
		q.Set("tenant", in.Tenant)
	}
	if in.State != "" {
		q.Set("state", in.State)
	}
	as := ask[nodeJobs](ctx, a, l.nodes, func(n state.Node) call { return l.ask(n, "/v1/jobs", q) })
	if err := agreed(as); err != nil {
		return nil, err
	}
	pages := map[string]page[ClusterJob]{}
	for _, x := range as {
		if x.err != nil {
			continue
		}
		for i := range x.value.Jobs {
			x.value.Jobs[i].On = []string{x.node}
		}
		pages[x.node] = page[ClusterJob]{x.value.Jobs, x.value.Next}
	}
	js, rest := merge(l.from, pages, l.order, in.Limit, func(x, y *ClusterJob) bool {
		return x.Tenant < y.Tenant || x.Tenant == y.Tenant && x.ID < y.ID
	}, joinJob)
	body := &ClusterJobs{Jobs: append([]ClusterJob{}, js...), Coverage: cover(as)}
	body.Next, err = packed(rest)
	return &out[ClusterJobs]{body}, err
}

// joinJob adds what another node knows of the same job.
func joinJob(into, from *ClusterJob) bool {
	if into.Tenant != from.Tenant || into.ID != from.ID {
		return false
	}
	if into.State != from.State {
		into.State = "mixed"
	}
	if into.Rate == "" {
		into.Rate = from.Rate
	}
	if from.Created.Before(into.Created) {
		into.Created = from.Created
	}
	if from.Updated.After(into.Updated) {
		into.Updated = from.Updated
	}
	into.Accepted += from.Accepted
	into.Queued += from.Queued
	into.Delivered += from.Delivered
	into.Bounced += from.Bounced
	into.Expired += from.Expired
	into.Cancelled += from.Cancelled
	into.On = append(into.On, from.On...)
	return true
}

func (a *api) job(ctx context.Context, in *struct {
	FanJobPath
	NodesQuery
}) (*out[ClusterJobAnswer], error) {
	if !access.From(ctx).Owns(in.Tenant) {
		return nil, problem(http.StatusNotFound, noJob)
	}
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	as := ask[ClusterJob](ctx, a, nodes, func(state.Node) call { return call{method: http.MethodGet, path: in.path()} })
	j, err := a.oneJob(as)
	return &out[ClusterJobAnswer]{j}, err
}

const noJob = "no node knows such a job"

// oneJob joins what the nodes know of one job.
func (a *api) oneJob(as []answer[ClusterJob]) (*ClusterJobAnswer, error) {
	var j *ClusterJobAnswer
	for i := range as {
		x := &as[i]
		if statusOf(x.err) == http.StatusNotFound {
			x.err = nil // an answer: it is not there
			continue
		}
		if x.err != nil {
			continue
		}
		x.value.On = []string{x.node}
		if j == nil {
			j = &ClusterJobAnswer{ClusterJob: x.value}
			continue
		}
		joinJob(&j.ClusterJob, &x.value)
	}
	if j == nil {
		if err := agreed(as); err != nil {
			return nil, err
		}
		return nil, a.notAnywhere(cover(as), noJob)
	}
	j.Coverage = cover(as)
	return j, nil
}

func (a *api) changeJob(ctx context.Context, in *struct {
	Author
	FanJobPath
	NodesQuery
	Body JobOrder
}) (*jobOut, error) {
	switch {
	case !access.From(ctx).Owns(in.Tenant):
		return nil, problem(http.StatusNotFound, noJob)
	case in.Body.State == nil && in.Body.Rate == nil:
		return nil, problem(http.StatusUnprocessableEntity, "nothing to change: give state or rate")
	}
	var what []string
	if in.Body.State != nil {
		what = append(what, *in.Body.State)
	}
	if in.Body.Rate != nil {
		if _, err := policy.ParseRate(*in.Body.Rate); *in.Body.Rate != "" && err != nil {
			return nil, problem(http.StatusUnprocessableEntity, err.Error())
		}
		what = append(what, "rate "+*in.Body.Rate)
	}
	nodes, err := a.targets(ctx, in.Node)
	if err != nil {
		return nil, err
	}
	a.record(ctx, entry{"job", "job " + in.ID + ", tenant " + in.Tenant, "", strings.Join(what, ", ")})
	as := ask[ClusterJob](ctx, a, nodes, func(state.Node) call {
		return call{method: http.MethodPatch, path: in.path(), body: in.Body}
	})
	j, err := a.oneJob(as)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if !j.Complete {
		status = http.StatusMultiStatus
	}
	return &jobOut{status, j}, nil
}
