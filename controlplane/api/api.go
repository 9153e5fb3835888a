package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/state"
	"hikyaku/controlplane/store"
	"hikyaku/spool/message"
)

// OpenAPIPath is where the OpenAPI document is served, with .json or .yaml.
const OpenAPIPath = "/v1/openapi"

// MaxBody bounds request bodies. A guard before the mux must let as much pass.
const MaxBody = 8 << 20

// Options set up the API. Store is required; without the others, the routes that
// need them do not exist.
type Options struct {
	// API takes the operations, so that all parts of the admin API are in one
	// document. nil: one of their own on the mux, with its document.
	API     huma.API
	Store   store.Store
	Cluster state.Cluster // nodes, sources, grants, leader
	Peers   Peers         // the way to nodes; needs Cluster
	Audit   Audit         // what was ordered beside policy
	Version string
	Logger  *slog.Logger     // nil: discard
	Now     func() time.Time // nil: time.Now
}

type api struct {
	store   store.Store
	cluster state.Cluster
	peers   Peers
	audit   Audit
	version string
	log     *slog.Logger
	now     func() time.Time
	ids     message.IDs
	streams chan struct{} // open at once
	turn    atomic.Uint64 // which node is asked next where any one will do
}

// maxStreams bounds the streams open at once. Each holds a connection to every
// node.
const maxStreams = 16

// Register puts the routes on mux and returns their OpenAPI document. The mux
// must be served behind access.Guard.
func Register(mux *http.ServeMux, o Options) *huma.OpenAPI {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := o.API
	if h == nil {
		c := NewConfig(cmp.Or(o.Version, "dev"))
		c.OpenAPIPath = OpenAPIPath
		h = humago.New(mux, c)
	}
	a := &api{store: o.Store, cluster: o.Cluster, peers: o.Peers, audit: o.Audit, version: o.Version, log: o.Logger, now: o.Now, streams: make(chan struct{}, maxStreams)}
	a.registerPolicy(h)
	a.registerDiff(h)
	a.registerThrottle(h)
	if a.cluster != nil {
		a.registerApplied(h)
		a.registerCluster(h)
	}
	if a.audit != nil {
		a.registerAudit(h)
	}
	if a.cluster != nil && a.peers != nil {
		a.registerFan(h)
	}
	return h.OpenAPI()
}

// operation fills in what all operations share.
func operation(id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"policy"},
		MaxBodyBytes: MaxBody, Errors: []int{http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusServiceUnavailable},
	}
}

// withBody documents a body that we decode ourselves.
func withBody[T any](h huma.API, op huma.Operation) huma.Operation {
	schema := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, op.OperationID)
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}
	op.SkipValidateBody = true
	return op
}

// also adds statuses that an operation can answer with.
func also(op huma.Operation, statuses ...int) huma.Operation {
	op.Errors = append(op.Errors, statuses...)
	return op
}

// tagged puts an operation into another chapter.
func tagged(op huma.Operation, tag string) huma.Operation {
	op.Tags = []string{tag}
	return op
}

func (a *api) registerPolicy(h huma.API) {
	const missing, bad, conflict, refused, forbidden = http.StatusNotFound, http.StatusBadRequest, http.StatusConflict, http.StatusPreconditionFailed, http.StatusForbidden
	huma.Register(h, operation("list-policy", http.MethodGet, "/v1/policy", "List all resources"), a.listAll)
	huma.Register(h, also(operation("list-kind", http.MethodGet, "/v1/policy/{kind}", "List the resources of a kind"), missing), a.listKind)
	huma.Register(h, also(operation("get-resource", http.MethodGet, "/v1/policy/{kind}/{name}", "Get one resource"), missing), a.get)
	huma.Register(h, also(withBody[PutRequest](h, operation("put-resource", http.MethodPut, "/v1/policy/{kind}/{name}", "Create or change one resource")), bad, missing, conflict, refused, forbidden), a.put)
	huma.Register(h, also(operation("delete-resource", http.MethodDelete, "/v1/policy/{kind}/{name}", "Delete one resource"), bad, missing, conflict, refused, forbidden), a.delete)
	huma.Register(h, also(withBody[ApplyRequest](h, operation("apply", http.MethodPost, "/v1/policy:apply", "Change several resources, all or none")), bad, missing, conflict, refused, forbidden), a.apply)
	huma.Register(h, operation("history", http.MethodGet, "/v1/policy:history", "List revisions, newest first"), a.history)
	huma.Register(h, also(withBody[RollbackRequest](h, operation("rollback", http.MethodPost, "/v1/policy:rollback", "Go back to the resources of an old revision")), bad, missing, conflict, refused), a.rollback)
	huma.Register(h, also(operation("accept-restored", http.MethodPost, "/v1/policy:accept-restored", "Let the policy of an etcd that was restored from an older backup count"), conflict), a.acceptRestored)
}

type listOut struct {
	ETag string `header:"ETag" doc:"The policy's revision, in quotes: for If-Match of a batch."`
	Body *List
}

func (a *api) listAll(ctx context.Context, _ *struct{}) (*listOut, error) { return a.list(ctx, "") }

func (a *api) listKind(ctx context.Context, in *struct {
	Kind string `path:"kind"`
	Asked
}) (*listOut, error) {
	kind, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	if in.InForce && kind == policy.KindCarrier {
		rs, rev, err := a.carriersInForce(ctx)
		if err != nil {
			return nil, a.fail("list carriers", err)
		}
		return &listOut{etag(rev), &List{Revision: rev, Resources: rs}}, nil
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
	return &listOut{etag(rev), out}, nil
}

type getOut struct {
	ETag string `header:"ETag" doc:"The resource's revision, in quotes: for If-Match."`
	Body *Resource
}

func (a *api) get(ctx context.Context, in *struct {
	Kind string `path:"kind"`
	Name string `path:"name" doc:"A stream's name may hold a slash, written %2F."`
	Asked
}) (*getOut, error) {
	kind, err := kindOf(in.Kind)
	if err != nil {
		return nil, err
	}
	if in.InForce && kind == policy.KindCarrier {
		rs, _, err := a.carriersInForce(ctx)
		if err != nil {
			return nil, a.fail("get a carrier", err)
		}
		for i := range rs {
			if rs[i].Name == in.Name {
				return &getOut{etag(rs[i].Revision), &rs[i]}, nil
			}
		}
	}
	r, err := a.store.Get(ctx, kind, in.Name)
	if err != nil {
		return nil, a.fail("get a resource", err)
	}
	return &getOut{etag(r.Revision), resource(&r)}, nil
}

type resultOut struct {
	ETag string `header:"ETag" doc:"The policy's revision, in quotes: for If-Match of a batch."`
	Body *Result
}

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
	return parseETag(c.IfMatch)
}

func parseETag(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.Trim(s, `"`), 10, 64)
	if err != nil || n < 1 || etag(n) != s {
		return 0, huma.Error400BadRequest("If-Match: want the ETag of what was read, as in \"12\"")
	}
	return n, nil
}

// Whole is what a change of the whole policy may depend on.
type Whole struct {
	IfMatch string `header:"If-Match" doc:"Only if the policy is still at this revision (the ETag of a listing)."`
}

// expected is the revision of the header, which must not contradict the body's.
func (w *Whole) expected(body int64) (int64, error) {
	if w.IfMatch == "" {
		return body, nil
	}
	n, err := parseETag(w.IfMatch)
	if err == nil && body != 0 && body != n {
		err = huma.Error400BadRequest("If-Match and expected_revision name different revisions")
	}
	return n, err
}

func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// Author is who asks. The header is a claim that stands beside the name of the
// key, for the history.
type Author struct {
	Claimed string `header:"Hikyaku-Author" maxLength:"128" doc:"Who makes the change, for the history. The name of the key stands before it."`
}

// name is who history and audit name.
func (a *Author) name(ctx context.Context) string {
	id := access.From(ctx)
	if id.Claimed == "" {
		id.Claimed = strings.ToValidUTF8(a.Claimed, "?")
	}
	return id.Author()
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
		Author:  in.name(ctx), Reason: body.Reason, DryRun: body.DryRun,
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
		Author:  in.name(ctx), Reason: in.Reason, DryRun: in.DryRun,
	}, expected != 0)
}

func (a *api) apply(ctx context.Context, in *struct {
	Whole
	Author
	RawBody []byte `contentType:"application/json"`
}) (*resultOut, error) {
	b, err := decodeApply(in.RawBody)
	if err != nil {
		return nil, a.fail("read the body", err)
	}
	b.Author = in.name(ctx)
	if b.Expected, err = in.expected(b.Expected); err != nil {
		return nil, err
	}
	return a.change(ctx, *b, in.IfMatch != "")
}

// change applies a batch. precondition says that a conflict is about a header
// of the request (412), not about its body (409).
func (a *api) change(ctx context.Context, b store.Batch, precondition bool) (*resultOut, error) {
	b.Role = string(access.From(ctx).Role)
	if err := a.permit(ctx, &b); err != nil {
		return nil, err
	}
	r, err := a.store.Apply(ctx, b)
	if err != nil {
		if precondition {
			return nil, a.failed(err)
		}
		return nil, a.fail("change policy", err)
	}
	a.logChange(r, b.Author, b.Reason, b.DryRun)
	return &resultOut{etag(r.Revision), result(r, b.DryRun)}, nil
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
	Whole
	Author
	RawBody []byte `contentType:"application/json"`
}) (*resultOut, error) {
	r, err := decodeRollback(in.RawBody)
	if err != nil {
		return nil, a.fail("read the body", err)
	}
	r.Author, r.Role = in.name(ctx), string(access.From(ctx).Role)
	if r.Expected, err = in.expected(r.Expected); err != nil {
		return nil, err
	}
	res, err := a.store.Rollback(ctx, *r)
	if err != nil && in.IfMatch != "" {
		return nil, a.failed(err)
	}
	if err != nil {
		return nil, a.fail("roll policy back", err)
	}
	a.logChange(res, r.Author, r.Reason, r.DryRun)
	return &resultOut{etag(res.Revision), result(res, r.DryRun)}, nil
}

func kindOf(word string) (string, error) {
	kind, ok := policy.KindOf(word)
	if !ok {
		return "", huma.Error404NotFound("there is no kind " + strconv.Quote(word[:min(len(word), 60)]) + "; the kinds are " + strings.Join(policy.Kinds(), ", "))
	}
	return kind, nil
}
