package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// OpenAPIPath is where the OpenAPI document is served, with .json or .yaml.
const OpenAPIPath = "/v1/policy:openapi"

// MaxBody bounds request bodies. A guard before the mux must let as much pass.
const MaxBody = 8 << 20

// Options set up the API. Store is required.
type Options struct {
	Store   store.Store
	Version string
	Logger  *slog.Logger // nil: discard
}

type api struct {
	store store.Store
	log   *slog.Logger
}

// Register puts the policy routes on mux and returns their OpenAPI document.
func Register(mux *http.ServeMux, o Options) *huma.OpenAPI {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &api{store: o.Store, log: o.Logger}
	c := huma.DefaultConfig("Hikyaku policy", cmp.Or(o.Version, "dev"))
	c.Info.Description = "What Hikyaku does with mail: tenants, streams, pools, sources, carriers, routes, signing keys."
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = OpenAPIPath, "", ""
	c.CreateHooks = nil // no $schema in answers: they are for programs that have the types
	c.RejectUnknownQueryParameters = true
	h := humago.New(mux, c)
	a.register(h)
	return h.OpenAPI()
}

// operation fills in what all operations share.
func operation(id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"policy"},
		MaxBodyBytes: MaxBody, Errors: []int{http.StatusUnprocessableEntity, http.StatusInternalServerError},
	}
}

// withBody documents a body that we decode ourselves.
func withBody[T any](h huma.API, op huma.Operation) huma.Operation {
	schema := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, op.OperationID)
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	op.SkipValidateBody = true
	return op
}

func (a *api) register(h huma.API) {
	huma.Register(h, operation("list-policy", http.MethodGet, "/v1/policy", "List all resources"), a.listAll)
	huma.Register(h, operation("list-kind", http.MethodGet, "/v1/policy/{kind}", "List the resources of a kind"), a.listKind)
	huma.Register(h, operation("get-resource", http.MethodGet, "/v1/policy/{kind}/{name}", "Get one resource"), a.get)
	huma.Register(h, withBody[PutRequest](h, operation("put-resource", http.MethodPut, "/v1/policy/{kind}/{name}", "Create or change one resource")), a.put)
	huma.Register(h, operation("delete-resource", http.MethodDelete, "/v1/policy/{kind}/{name}", "Delete one resource"), a.delete)
	huma.Register(h, withBody[ApplyRequest](h, operation("apply", http.MethodPost, "/v1/policy:apply", "Change several resources, all or none")), a.apply)
	huma.Register(h, operation("history", http.MethodGet, "/v1/policy:history", "List revisions, newest first"), a.history)
	huma.Register(h, withBody[RollbackRequest](h, operation("rollback", http.MethodPost, "/v1/policy:rollback", "Go back to the resources of an old revision")), a.rollback)
}

type listOut struct{ Body *List }

func (a *api) listAll(ctx context.Context, _ *struct{}) (*listOut, error) { return a.list(ctx, "") }

func (a *api) listKind(ctx context.Context, in *struct {
	Kind string `path:"kind"`
}) (*listOut, error) {
	kind, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	return a.list(ctx, kind)
}

func (a *api) list(ctx context.Context, kind string) (*listOut, error) {
	rs, rev, err := a.store.List(ctx, kind)
	if err != nil {
		return nil, a.fail("list policy", err)
	}
	out := &List{Revision: rev, Resources: make([]Resource, 0, len(rs))}
	for i := range rs {
		out.Resources = append(out.Resources, *resource(&rs[i]))
	}
	return &listOut{out}, nil
}

type getOut struct {
	ETag string `header:"ETag" doc:"The resource's revision, in quotes: for If-Match."`
	Body *Resource
}

func (a *api) get(ctx context.Context, in *struct {
	Kind string `path:"kind"`
	Name string `path:"name" doc:"A stream's name may hold a slash, written %2F."`
}) (*getOut, error) {
	kind, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	r, err := a.store.Get(ctx, kind, in.Name)
	if err != nil {
		return nil, a.fail("get a resource", err)
	}
	return &getOut{etag(r.Revision), resource(&r)}, nil
}

type resultOut struct{ Body *Result }

// Condition is what a change of one resource may depend on (RFC 9110 13.1). It
// is exported since huma reads exported embedded structs only.
type Condition struct {
	IfMatch     string `header:"If-Match" doc:"Only if the resource is still at this revision (its ETag)."`
	IfNoneMatch string `header:"If-None-Match" doc:"\"*\": only if the resource does not exist."`
}

func (c *Condition) expected() (int64, error) {
	switch {
	case c.IfNoneMatch == "*" && c.IfMatch == "":
		return store.Absent, nil
	case c.IfNoneMatch != "":
		return 0, huma.Error400BadRequest("If-None-Match: only * is understood, and not together with If-Match")
	case c.IfMatch == "":
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(c.IfMatch, `"`), 10, 64)
	if err != nil || n < 1 || etag(n) != c.IfMatch {
		return 0, huma.Error400BadRequest("If-Match: want the ETag of a resource, as in \"12\"")
	}
	return n, nil
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// Author is who asks. It is a claim: what is known for sure is only that the
// guard let the request in.
type Author struct {
	Claimed string `header:"Hikyaku-Author" maxLength:"128" doc:"Who makes the change, for the history."`
}

func (a *Author) name() string {
	if a.Claimed == "" {
		return "unknown"
	}
	return strings.ToValidUTF8(a.Claimed, "?")
}

func (a *api) put(ctx context.Context, in *struct {
	Condition
	Author
	Kind    string `path:"kind"`
	Name    string `path:"name" doc:"A stream's name may hold a slash, written %2F."`
	RawBody []byte `contentType:"application/json"`
}) (*resultOut, error) {
	kind, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	expected, err := in.expected()
	if err != nil {
		return nil, err
	}
	spec, body, err := decodePut(kind, in.RawBody)
	if err != nil {
		return nil, a.fail("read the body", err)
	}
	return a.change(ctx, store.Batch{
		Changes: []store.Change{{Kind: kind, Name: in.Name, Spec: spec, Expected: expected}},
		Author:  in.name(), Reason: body.Reason, DryRun: body.DryRun,
	}, expected != 0)
}

func (a *api) delete(ctx context.Context, in *struct {
	Condition
	Author
	Kind   string `path:"kind"`
	Name   string `path:"name" doc:"A stream's name may hold a slash, written %2F."`
	Reason string `query:"reason" maxLength:"1000" doc:"Why, for the history."`
	DryRun bool   `query:"dry_run" doc:"Say what would happen and change nothing."`
}) (*resultOut, error) {
	kind, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	expected, err := in.expected()
	if err != nil {
		return nil, err
	}
	return a.change(ctx, store.Batch{
		Changes: []store.Change{{Kind: kind, Name: in.Name, Expected: expected}},
		Author:  in.name(), Reason: in.Reason, DryRun: in.DryRun,
	}, expected != 0)
}

func (a *api) apply(ctx context.Context, in *struct {
	Author
	RawBody []byte `contentType:"application/json"`
}) (*resultOut, error) {
	b, err := decodeApply(in.RawBody)
	if err != nil {
		return nil, a.fail("read the body", err)
	}
	b.Author = in.name()
	return a.change(ctx, *b, false)
}

// change applies a batch. precondition says that a conflict is about a header
// of the request (412), not about its body (409).
func (a *api) change(ctx context.Context, b store.Batch, precondition bool) (*resultOut, error) {
	r, err := a.store.Apply(ctx, b)
	if err != nil {
		if precondition {
			return nil, a.failed(err)
		}
		return nil, a.fail("change policy", err)
	}
	a.logChange(r, b.Author, b.Reason, b.DryRun)
	return &resultOut{result(r, b.DryRun)}, nil
}

func (a *api) logChange(r *store.Result, author, reason string, dryRun bool) {
	if dryRun {
		return
	}
	for _, e := range r.Effects {
		if e.Action != store.Unchanged {
			a.log.Info("policy "+string(e.Action), "kind", e.Kind, "name", e.Name, "revision", r.Revision, "author", author, "reason", reason)
		}
	}
}

type historyOut struct{ Body *History }

func (a *api) history(ctx context.Context, in *struct {
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"20"`
}) (*historyOut, error) {
	rs, err := a.store.History(ctx, in.Limit)
	if err != nil {
		return nil, a.fail("list revisions", err)
	}
	out := &History{Revisions: make([]Revision, 0, len(rs))}
	for _, r := range rs {
		out.Revisions = append(out.Revisions, Revision(r))
	}
	return &historyOut{out}, nil
}

func (a *api) rollback(ctx context.Context, in *struct {
	Author
	RawBody []byte `contentType:"application/json"`
}) (*resultOut, error) {
	r, err := decodeRollback(in.RawBody)
	if err != nil {
		return nil, a.fail("read the body", err)
	}
	r.Author = in.name()
	res, err := a.store.Rollback(ctx, *r)
	if err != nil {
		return nil, a.fail("roll policy back", err)
	}
	a.logChange(res, r.Author, r.Reason, r.DryRun)
	return &resultOut{result(res, r.DryRun)}, nil
}

func kindOf(word string) (string, error) {
	kind, ok := policy.KindOf(word)
	if !ok {
		return "", huma.Error404NotFound("there is no kind " + strconv.Quote(word[:min(len(word), 60)]) + "; the kinds are " + strings.Join(policy.Kinds(), ", "))
	}
	return kind, nil
}
