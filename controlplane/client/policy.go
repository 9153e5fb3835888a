package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/policy"
)

// Policy is the policy half of the API. Author is who the history names.
type Policy struct {
	c      *Client
	Author string
}

// Policy makes the typed half for an author.
func (c *Client) Policy(author string) *Policy { return &Policy{c, author} }

// List gets the resources of a kind, "" for all, and the revision.
func (p *Policy) List(ctx context.Context, kind string) (*api.List, error) {
	path := "/v1/policy"
	if kind != "" {
		path += "/" + url.PathEscape(kind)
	}
	out := &api.List{}
	if err := p.do(ctx, request{method: http.MethodGet, path: path}, out); err != nil {
		return nil, err
	}
	for i := range out.Resources {
		if err := typed(&out.Resources[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Get gets one resource.
func (p *Policy) Get(ctx context.Context, kind, name string) (*api.Resource, error) {
	out := &api.Resource{}
	if err := p.do(ctx, request{method: http.MethodGet, path: resourcePath(kind, name)}, out); err != nil {
		return nil, err
	}
	return out, typed(out)
}

// ListInForce is List; of carriers it gives all that are in force, those that ship
// too. A server that does not know of any ships none.
func (p *Policy) ListInForce(ctx context.Context, kind string) (*api.List, error) {
	out := &api.List{}
	err := p.do(ctx, request{method: http.MethodGet, path: "/v1/policy/" + url.PathEscape(kind), query: inForce}, out)
	if old(err) {
		return p.List(ctx, kind)
	}
	if err != nil {
		return nil, err
	}
	for i := range out.Resources {
		if err := typed(&out.Resources[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// GetInForce is Get; a carrier that ships is there also when nothing is set
// locally.
func (p *Policy) GetInForce(ctx context.Context, kind, name string) (*api.Resource, error) {
	out := &api.Resource{}
	err := p.do(ctx, request{method: http.MethodGet, path: resourcePath(kind, name), query: inForce}, out)
	if old(err) {
		return p.Get(ctx, kind, name)
	}
	if err != nil {
		return nil, err
	}
	return out, typed(out)
}

var inForce = url.Values{"in_force": {"true"}}

// old reports whether a server refused a parameter that it does not know.
func old(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity
}

// Delete removes one resource; revision 0 takes any.
func (p *Policy) Delete(ctx context.Context, n api.Name, reason string, dryRun bool) (*api.Result, error) {
	q := url.Values{}
	if reason != "" {
		q.Set("reason", reason)
	}
	if dryRun {
		q.Set("dry_run", "true")
	}
	r := request{method: http.MethodDelete, path: resourcePath(n.Kind, n.Name), query: q}
	if n.Revision != 0 {
		r.header = http.Header{"If-Match": {strconv.Quote(strconv.FormatInt(n.Revision, 10))}}
	}
	return p.result(ctx, r)
}

// Apply makes a batch of changes, all or none. Unlike a listing, the request
// shows the secrets that are set.
func (p *Policy) Apply(ctx context.Context, in *api.ApplyRequest) (*api.Result, error) {
	out := *in
	out.Resources = make([]api.Resource, len(in.Resources))
	for i, r := range in.Resources {
		var err error
		if r.Spec, err = revealed(r.Spec); err != nil {
			return nil, err
		}
		out.Resources[i] = r
	}
	return p.result(ctx, request{method: http.MethodPost, path: "/v1/policy:apply", in: &out})
}

// History lists revisions, newest first.
func (p *Policy) History(ctx context.Context, limit int) (*api.History, error) {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	out := &api.History{}
	return out, p.do(ctx, request{method: http.MethodGet, path: "/v1/policy:history", query: q}, out)
}

// Rollback goes back to an old revision.
func (p *Policy) Rollback(ctx context.Context, in *api.RollbackRequest) (*api.Result, error) {
	return p.result(ctx, request{method: http.MethodPost, path: "/v1/policy:rollback", in: in})
}

func (p *Policy) result(ctx context.Context, r request) (*api.Result, error) {
	out := &api.Result{}
	if err := p.do(ctx, r, out); err != nil {
		return nil, err
	}
	return out, typedEffects(out.Effects)
}

func (p *Policy) do(ctx context.Context, r request, out any) error {
	if p.Author != "" {
		if r.header == nil {
			r.header = http.Header{}
		}
		r.header.Set("Hikyaku-Author", strings.Map(printable, p.Author))
	}
	return p.c.do(ctx, r, out)
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

func resourcePath(kind, name string) string {
	return "/v1/policy/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}

// Policy gives the problems of an answer that are about resources of policy, so
// that a caller who has them in a file can say where.
func (e *Error) Policy() (ps policy.Problems, ok bool) {
	if e.Status != http.StatusUnprocessableEntity {
		return nil, false
	}
	for _, p := range e.Problems {
		i := strings.LastIndexByte(p.Path, ' ')
		kind, name, found := strings.Cut(p.Path[:max(i, 0)], "/")
		if !found {
			return nil, false
		}
		ps = append(ps, policy.Problem{Kind: kind, Name: name, Path: p.Path[i+1:], Reason: p.Reason})
	}
	return ps, len(ps) > 0
}
