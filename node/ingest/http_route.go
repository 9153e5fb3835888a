package ingest

import (
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"hikyaku/controlplane/policy"
	"hikyaku/spool/message"
)

// caller is who makes a request: everything below works for one tenant.
type caller struct {
	ctx    context.Context
	tenant string
	key    string // name of the API key, "" from a network
	addr   netip.Addr
}

// from is how events name the caller.
func (c *caller) from() string {
	if c.key != "" {
		return "key " + c.key
	}
	return c.addr.String()
}

// route finds the operation. Paths are compared as they were sent: what needs
// normalising is unknown.
func (s *HTTPServer) route(ctx *fasthttp.RequestCtx) error {
	path := string(ctx.Request.URI().PathOriginal())
	method := string(ctx.Method())
	switch path {
	case "/healthz":
		return s.only(method, s.health, ctx, fasthttp.MethodGet, fasthttp.MethodHead)
	case "/openapi.json":
		return s.only(method, s.static("application/json", s.openapi), ctx, fasthttp.MethodGet, fasthttp.MethodHead)
	case "/docs":
		return s.only(method, s.static("text/html; charset=utf-8", s.docs), ctx, fasthttp.MethodGet, fasthttp.MethodHead)
	}
	rest, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return refuse(fasthttp.StatusNotFound, codeNotFound, "no such page; the API is described at /docs")
	}
	kind, name, named := strings.Cut(rest, "/")
	if !(kind == "messages" || kind == "jobs" && named) {
		return refuse(fasthttp.StatusNotFound, codeNotFound, "no such page; the API is described at /docs")
	}
	c, err := s.authenticate(ctx)
	if err != nil {
		return err
	}
	switch {
	case !named:
		if method != fasthttp.MethodPost {
			return notAllowed(fasthttp.MethodPost)
		}
		return s.submit(ctx, c)
	case kind == "messages":
		return s.messageCall(ctx, c, method, name)
	}
	job, err := url.PathUnescape(name)
	if err != nil || !visible([]byte(job), maxJobName) || strings.Contains(name, "/") {
		return ErrNotFound
	}
	return s.jobCall(ctx, c, method, job)
}

func notAllowed(methods ...string) *httpError {
	e := refuse(fasthttp.StatusMethodNotAllowed, codeMethod, "this call takes "+strings.Join(methods, ", "))
	e.headers = []string{"Allow", strings.Join(methods, ", ")}
	return e
}

func (s *HTTPServer) only(method string, h func(*fasthttp.RequestCtx), ctx *fasthttp.RequestCtx, methods ...string) error {
	for _, m := range methods {
		if m == method {
			h(ctx)
			return nil
		}
	}
	return notAllowed(methods...)
}

func (s *HTTPServer) health(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetContentType("application/json")
	ok := !s.draining.Load() && (s.backend.Healthy == nil || s.backend.Healthy())
	if !ok {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
	}
	ctx.Response.SetBodyString(`{"ok":` + strconv.FormatBool(ok) + "}\n")
}

func (s *HTTPServer) static(kind string, body []byte) func(*fasthttp.RequestCtx) {
	return func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		h.SetContentType(kind)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		ctx.Response.SetBodyRaw(body)
	}
}

// authenticate finds the tenant: by bearer key, else by network. A key that is
// given must be right, from wherever it comes.
func (s *HTTPServer) authenticate(ctx *fasthttp.RequestCtx) (*caller, error) {
	c := &caller{ctx: s.ctx, addr: remoteAddr(ctx.RemoteAddr())}
	header := string(ctx.Request.Header.Peek("Authorization"))
	if header == "" {
		if tenant, ok := s.backend.Authenticator.Network(c.addr); ok {
			c.tenant = tenant
			return c, nil
		}
		if policy.AnyContains(s.l.OpenNetworks, c.addr) {
			c.tenant = policy.DefaultName
			return c, nil
		}
		return nil, unauthorized("an API key is needed: send Authorization: Bearer and the key")
	}
	now := s.now()
	if s.failures.blocked(c.addr, now, s.l.MaxAuthFailuresPerClient) {
		e := refuse(fasthttp.StatusTooManyRequests, codeTooMany, "too many bad keys from this address")
		e.retryAfter = authFailureWindow
		return nil, e
	}
	scheme, token, _ := strings.Cut(header, " ")
	if token = strings.TrimLeft(token, " "); strings.EqualFold(scheme, "Bearer") && visible([]byte(token), 512) {
		if tenant, key, ok := s.backend.Authenticator.APIKey(c.ctx, token); ok {
			c.tenant, c.key = tenant, key
			return c, nil
		}
	}
	s.failures.add(c.addr, now)
	return nil, unauthorized("the API key is not valid")
}

func unauthorized(text string) *httpError {
	e := refuse(fasthttp.StatusUnauthorized, codeUnauthorized, text)
	e.headers = []string{"WWW-Authenticate", `Bearer realm="hikyaku"`}
	return e
}

// wantJSON refuses bodies of another type.
func wantJSON(ctx *fasthttp.RequestCtx) error {
	kind, params, _ := strings.Cut(string(ctx.Request.Header.ContentType()), ";")
	params = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(params)), `"`, "")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") || params != "" && params != "charset=utf-8" {
		e := refuse(fasthttp.StatusUnsupportedMediaType, codeMediaType, "the body must be Content-Type: application/json, in UTF-8")
		e.headers = []string{"Accept", "application/json"}
		return e
	}
	return nil
}

// parseMessageName reads the id of a message or of a delivery.
func parseMessageName(name string) (id message.ID, index *uint16, err error) {
	if id, err = message.ParseID(name); err == nil {
		return id, nil, nil
	}
	d, err := message.ParseDeliveryID(name)
	if err != nil {
		return id, nil, ErrNotFound
	}
	return d.Message, &d.Index, nil
}
