package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// answerTime bounds what a listing may take.
const answerTime = 30 * time.Second

// answer is the body of an answer.
type answer[T any] struct{ Body T }

// list is an answer without paging.
type list[T any] struct {
	Items []T `json:"items"`
}

// ScopeQuery is a scope in query parameters. It is exported because huma reads
// embedded fields only then, as are PageQuery and JobPath.
type ScopeQuery struct {
	Destination string `query:"destination" maxLength:"255" doc:"recipient domain"`
	Tenant      string `query:"tenant" maxLength:"64"`
	Stream      string `query:"stream" maxLength:"64"`
	Pool        string `query:"pool" maxLength:"64"`
	Job         string `query:"job" maxLength:"128"`
	Carrier     string `query:"carrier" maxLength:"64"`
	Source      string `query:"source" maxLength:"64"`
}

func (q ScopeQuery) scope() Scope {
	q.Destination = strings.ToLower(strings.TrimSuffix(q.Destination, "."))
	return Scope(q)
}

// PageQuery is the page of a listing.
type PageQuery struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Page  string `query:"page" maxLength:"1024" doc:"next of the page before"`
}

// route registers one operation whose work is fn. A Node's error is turned into
// a problem in one place, and the time is bounded.
func route[I, O any](h huma.API, a *api, op huma.Operation, fn func(context.Context, *I) (O, error)) {
	op.Errors = append(op.Errors, http.StatusForbidden, http.StatusInternalServerError, http.StatusServiceUnavailable)
	op.Tags = []string{"node"}
	huma.Register(h, op, func(ctx context.Context, in *I) (*answer[O], error) {
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		out, err := fn(ctx, in)
		if err != nil {
			return nil, a.fail(op.OperationID, err)
		}
		return &answer[O]{out}, nil
	})
}

func get(id, path, summary string, errs ...int) huma.Operation {
	return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Errors: errs}
}

func (a *api) register(h huma.API) {
	a.registerQueues(h)
	a.registerActions(h)
	a.registerJobs(h)
	a.registerScheduler(h)
	a.registerTransfers(h)
	a.registerSuppressions(h)
	a.registerWebhooks(h)
	a.registerSenders(h)
	a.registerReplies(h)
}

func (a *api) registerQueues(h huma.API) {
	type queuesIn struct {
		ScopeQuery
		PageQuery
		Sort string `query:"sort" enum:"size,age,due,name" default:"size"`
	}
	route(h, a, get("list-queues", "/v1/queues", "List queues"), func(ctx context.Context, in *queuesIn) (*QueueList, error) {
		if err := own(ctx, &in.Tenant); err != nil {
			return nil, err
		}
		return a.node.Queues(ctx, QueueFilter{Scope: in.scope(), Sort: in.Sort, Limit: in.Limit, Page: in.Page})
	})
	type whyIn struct{ ScopeQuery }
	route(h, a, get("why", "/v1/queues/why", "Which limits hold a scope back"), func(ctx context.Context, in *whyIn) (*WhyAnswer, error) {
		if err := own(ctx, &in.Tenant); err != nil {
			return nil, err
		}
		return a.node.Why(ctx, in.scope())
	})
	type deliveriesIn struct {
		Destination string `query:"destination" required:"true" minLength:"1" maxLength:"255" doc:"recipient domain"`
		Tenant      string `query:"tenant" maxLength:"64"`
		Stream      string `query:"stream" maxLength:"64"`
		Pool        string `query:"pool" maxLength:"64"`
		Job         string `query:"job" maxLength:"128"`
		PageQuery
	}
	route(h, a, get("list-deliveries", "/v1/deliveries", "List the deliveries queued for a destination"), func(ctx context.Context, in *deliveriesIn) (*DeliveryList, error) {
		if err := own(ctx, &in.Tenant); err != nil {
			return nil, err
		}
		s := ScopeQuery{Destination: in.Destination, Tenant: in.Tenant, Stream: in.Stream, Pool: in.Pool, Job: in.Job}
		return a.node.Deliveries(ctx, DeliveryFilter{Scope: s.scope(), Limit: in.Limit, Page: in.Page})
	})
	type messageIn struct {
		ID      string `path:"id" maxLength:"40" doc:"message or delivery id"`
		Content bool   `query:"content" doc:"with the stored content"`
		From    int    `query:"from" minimum:"0" maximum:"65535" doc:"first delivery shown"`
		Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	route(h, a, get("get-message", "/v1/messages/{id}", "Show a message and its deliveries", http.StatusNotFound), func(ctx context.Context, in *messageIn) (*Message, error) {
		id, err := messageID(in.ID)
		if err != nil {
			return nil, err
		}
		if err := a.ownMessage(ctx, id); err != nil {
			return nil, err
		}
		return a.node.Message(ctx, id, MessageOptions{Content: in.Content, From: in.From, Limit: in.Limit})
	})
	type none struct{}
	route(h, a, get("overview", "/v1/overview", "One look at the node"), func(ctx context.Context, _ *none) (*Overview, error) {
		o, err := a.node.Overview(ctx)
		if err == nil && a.cluster != nil {
			o.Alarms = a.cluster().Alarms
		}
		return o, err
	})
}

// messageID checks that s is a message or delivery id.
func messageID(s string) (string, error) {
	s = strings.ToLower(s)
	_, err := message.ParseID(s)
	if err == nil {
		return s, nil
	}
	if _, derr := message.ParseDeliveryID(s); derr == nil {
		return s, nil
	}
	return "", huma.Error422UnprocessableEntity(err.Error())
}

func (a *api) registerActions(h huma.API) {
	type actIn struct{ Body ActionRequest }
	post := huma.Operation{OperationID: "act", Method: http.MethodPost, Path: "/v1/actions", Summary: "Hold, release, retry, cancel or expire deliveries", Errors: []int{http.StatusNotFound, http.StatusConflict}}
	route(h, a, post, func(ctx context.Context, in *actIn) (*ActionResult, error) {
		if err := checkAction(&in.Body); err != nil {
			return nil, err
		}
		if err := a.ownAction(ctx, &in.Body); err != nil {
			return nil, err
		}
		in.Body.Author = authorOf(ctx, in.Body.Author)
		out, err := a.node.Act(ctx, &in.Body)
		return out, unseen(ctx, "message or hold", err)
	})
	type none struct{}
	route(h, a, get("list-actions", "/v1/actions", "List holds and cancels that stand"), func(ctx context.Context, _ *none) (list[Action], error) {
		as, err := a.node.Actions(ctx)
		return list[Action]{notNil(visible(access.From(ctx), as))}, err
	})
	type deleteIn struct {
		ID string `path:"id" maxLength:"64"`
	}
	del := huma.Operation{OperationID: "delete-action", Method: http.MethodDelete, Path: "/v1/actions/{id}", DefaultStatus: http.StatusOK, Summary: "End a hold", Errors: []int{http.StatusNotFound}}
	route(h, a, del, func(ctx context.Context, in *deleteIn) (*ActionResult, error) {
		if err := a.ownDelete(ctx, in.ID); err != nil {
			return nil, err
		}
		return a.node.DeleteAction(ctx, in.ID)
	})
}

// checkAction refuses what would surprise the operator.
func checkAction(r *ActionRequest) error {
	empty := r.Scope == (Scope{})
	if r.Message != "" {
		if !empty || r.All {
			return huma.Error422UnprocessableEntity("give either a message or a scope")
		}
		id, err := messageID(r.Message)
		r.Message = id
		return err
	}
	if empty && !r.All {
		return huma.Error422UnprocessableEntity("an empty scope is all mail of the node; set all to mean that")
	}
	if !empty && r.All {
		return huma.Error422UnprocessableEntity("all goes with an empty scope only")
	}
	if r.Expires != nil && r.Verb != VerbHold {
		return huma.Error422UnprocessableEntity("expires is for hold only")
	}
	r.Scope.Destination = strings.ToLower(strings.TrimSuffix(r.Scope.Destination, "."))
	return nil
}

// JobPath names a job.
type JobPath struct {
	Tenant string `path:"tenant" maxLength:"64"`
	ID     string `path:"id" maxLength:"128"`
}

func (a *api) registerJobs(h huma.API) {
	type jobsIn struct {
		Tenant string `query:"tenant" maxLength:"64"`
		State  string `query:"state" enum:"active,paused,cancelled"`
		PageQuery
	}
	route(h, a, get("list-jobs", "/v1/jobs", "List jobs"), func(ctx context.Context, in *jobsIn) (*JobList, error) {
		if err := own(ctx, &in.Tenant); err != nil {
			return nil, err
		}
		return a.node.Jobs(ctx, JobFilter{Tenant: in.Tenant, State: in.State, Limit: in.Limit, Page: in.Page})
	})
	route(h, a, get("get-job", "/v1/jobs/{tenant}/{id}", "Show a job", http.StatusNotFound), func(ctx context.Context, in *JobPath) (*Job, error) {
		if !access.From(ctx).Owns(in.Tenant) {
			return nil, hidden("job")
		}
		out, err := a.node.Job(ctx, in.Tenant, in.ID)
		return out, unseen(ctx, "job", err)
	})
	type changeIn struct {
		JobPath
		Body JobChange
	}
	patch := huma.Operation{OperationID: "change-job", Method: http.MethodPatch, Path: "/v1/jobs/{tenant}/{id}", Summary: "Pause, resume, slow or cancel a job", Errors: []int{http.StatusNotFound, http.StatusConflict}}
	route(h, a, patch, func(ctx context.Context, in *changeIn) (*Job, error) {
		if !access.From(ctx).Owns(in.Tenant) {
			return nil, hidden("job")
		}
		if in.Body.State == nil && in.Body.Rate == nil {
			return nil, huma.Error422UnprocessableEntity("nothing to change: give state or rate")
		}
		if in.Body.Rate != nil && *in.Body.Rate != "" {
			if _, err := policy.ParseRate(*in.Body.Rate); err != nil {
				return nil, huma.Error422UnprocessableEntity(err.Error())
			}
		}
		out, err := a.node.ChangeJob(ctx, in.Tenant, in.ID, in.Body)
		return out, unseen(ctx, "job", err)
	})
}

func (a *api) registerScheduler(h huma.API) {
	type listIn struct {
		ScopeQuery
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}
	filter := func(in *listIn) ListFilter { return ListFilter{in.scope(), in.Limit} }
	route(h, a, get("list-lanes", "/v1/lanes", "List lanes: source × site"), func(ctx context.Context, in *listIn) (list[Lane], error) {
		v, err := a.node.Lanes(ctx, filter(in))
		return list[Lane]{notNil(v)}, err
	})
	route(h, a, get("list-sites", "/v1/sites", "List sites: MX host sets"), func(ctx context.Context, in *listIn) (list[Site], error) {
		v, err := a.node.Sites(ctx, filter(in))
		return list[Site]{notNil(v)}, err
	})
	route(h, a, get("list-budgets", "/v1/budgets", "List limits and how much of them is left"), func(ctx context.Context, in *listIn) (list[Budget], error) {
		v, err := a.node.Budgets(ctx, filter(in))
		return list[Budget]{notNil(v)}, err
	})
}

// notNil makes an empty listing [] in JSON.
func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
