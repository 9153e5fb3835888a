package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hikyaku/controlplane/policy"
)

// Options say who may ask.
type Options struct {
	// Token is the bearer token of the token file, whose role is admin. Without
	// one, clients on this machine are let in as admins.
	Token string
	// Policy gives the policy in force, whose AdminKeys are let in. nil: none.
	Policy func() *policy.Set
	// Hosts are names under which the API may be asked, beside localhost and
	// plain addresses. Only checked for clients that bring no key.
	Hosts []string
	// MaxBody bounds request bodies. Default 1 MiB.
	MaxBody int64
	// Refused is told of logins that were refused, at most a few a minute, in
	// the request's own goroutine. nil: nobody.
	Refused func(context.Context, Refusal)
	Logger  *slog.Logger     // nil: discard
	Now     func() time.Time // nil: time.Now
}

// Refusal is a login that was refused.
type Refusal struct {
	Address string // of the client
	Route   string // "GET /v1/queues", "" for none
	Reason  string
	// More is how many were refused since the last Refusal that was told.
	More uint64
}

// Guard is the one door of the admin listener.
type Guard struct {
	o        Options
	mux      *http.ServeMux
	handler  http.Handler
	token    [32]byte
	keys     atomic.Pointer[keyIndex]
	failures failures
	told     tellings
	count    struct{ refused, limited, forbidden, unaudited atomic.Uint64 }
}

// CheckListen refuses to open an address to the network without a token.
func CheckListen(listen, token string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("admin address %q: %w", listen, err)
	}
	if token != "" || host == "localhost" {
		return nil
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Unmap().IsLoopback() {
		return nil
	}
	return errors.New("admin address " + listen + " can be reached from the network: set a token, or listen on 127.0.0.1")
}

// New is a guard before the mux.
//
// Browsers are the danger on loopback: a page anywhere can send requests to
// 127.0.0.1, and a name that resolves to it (DNS rebinding) can read the
// answers. So without a key the Host must be an address, localhost or a known
// name, and requests that change something must not come from another origin.
func New(mux *http.ServeMux, o Options) *Guard {
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	g := &Guard{o: o, mux: mux, token: sha256.Sum256([]byte(o.Token))}
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "requests of web pages from elsewhere are refused")
	}))
	g.handler = origin.Handler(http.HandlerFunc(g.check))
	return g
}

// ServeHTTP implements http.Handler.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Metrics counts since the start.
func (g *Guard) Metrics() Metrics {
	m := Metrics{Refused: g.count.refused.Load(), Limited: g.count.limited.Load(), Forbidden: g.count.forbidden.Load(), Unaudited: g.count.unaudited.Load()}
	g.failures.metrics(&m)
	return m
}

// openPath lists what needs no key: load balancers and init systems ask it,
// and it says nothing about mail.
func openPath(path string) bool { return path == "/livez" || path == "/readyz" }

func (g *Guard) check(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if openPath(r.URL.Path) {
		g.pass(w, r, Identity{})
		return
	}
	_, route := g.mux.Handler(r)
	id, ok := g.login(w, r, route)
	if !ok {
		return
	}
	if route != "" && !id.Role.May(route) {
		g.count.forbidden.Add(1)
		problem(w, http.StatusForbidden, fmt.Sprintf("key %s has the role %s; this needs %s", id.Name, id.Role, Needs(route)))
		return
	}
	g.pass(w, r, id)
}

// pass hands a request to the mux, within bounds.
func (g *Guard) pass(w http.ResponseWriter, r *http.Request, id Identity) {
	if r.ContentLength > g.o.MaxBody {
		problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have at most %d bytes", g.o.MaxBody))
		return
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, g.o.MaxBody)
	}
	serve(g.mux, w, r.WithContext(With(r.Context(), id)))
}

// login says whose request it is, or answers it.
func (g *Guard) login(w http.ResponseWriter, r *http.Request, route string) (Identity, bool) {
	address, parsed := remote(r.RemoteAddr)
	id := Identity{Claimed: clip(r.Header.Get(AuthorHeader)), Address: address.String()}
	presented := r.Header.Get("Authorization")
	if presented == "" && g.o.Token == "" && parsed && address.IsLoopback() {
		if !knownHost(r.Host, g.o.Hosts) {
			problem(w, http.StatusMisdirectedRequest, "unknown host name; ask by address, by localhost, or configure the name")
			return id, false
		}
		id.Name, id.Role = "local client", Admin
		return id, true
	}
	now := g.o.Now()
	if wait := g.failures.wait(address, now); wait > 0 {
		g.count.limited.Add(1)
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		problem(w, http.StatusTooManyRequests, "too many refused logins from this address; wait and try again")
		return id, false
	}
	if presented == "" {
		// Nothing was tried, so nothing is counted: every browser asks so first.
		if g.o.Token == "" {
			problem(w, http.StatusForbidden, "without a token this API answers loopback clients, and bearers of an admin key")
			return id, false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="hikyaku"`)
		problem(w, http.StatusUnauthorized, "this API needs a bearer token or an admin key")
		return id, false
	}
	reason := g.recognise(&id, presented, address, now)
	if reason == "" {
		return id, true
	}
	g.refuse(r.Context(), address, Refusal{Address: address.String(), Route: route, Reason: reason}, now)
	w.Header().Set("WWW-Authenticate", `Bearer realm="hikyaku", error="invalid_token"`)
	problem(w, http.StatusUnauthorized, "the token or key is not valid here")
	return id, false
}

// recognise fills the identity from what the client brings. The reason why not
// is for log and audit; the client is told that it is not valid, and no more.
func (g *Guard) recognise(id *Identity, presented string, from netip.Addr, now time.Time) (reason string) {
	scheme, text, _ := strings.Cut(presented, " ")
	text = strings.TrimSpace(text)
	if !strings.EqualFold(scheme, "Bearer") {
		return "not a bearer token"
	}
	// Digests are compared, so neither length nor content shows in the time.
	sum := sha256.Sum256([]byte(text))
	if subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 && g.o.Token != "" {
		id.Name, id.Role = "admin token", Admin
		return ""
	}
	k, reason := g.index().find(text, from, now)
	if reason != "" {
		return reason
	}
	id.Name, id.Role, id.Tenant = k.name, k.role, k.tenant
	return ""
}

// refuse counts a refused login and tells of it.
func (g *Guard) refuse(ctx context.Context, address netip.Addr, r Refusal, now time.Time) {
	g.count.refused.Add(1)
	g.failures.failed(address, now)
	more, tell := g.told.tell(now)
	if !tell {
		g.count.unaudited.Add(1)
		return
	}
	r.More = more
	g.o.Logger.Warn("admin login refused", "address", r.Address, "route", r.Route, "reason", r.Reason, "more", more)
	if g.o.Refused != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		g.o.Refused(ctx, r)
	}
}

// Peer stands before a node's part of the admin API where other processes of
// the cluster ask it. Whoever serves it has made sure that a peer asks; on whose
// behalf, the peer says.
func Peer(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := passed(r)
		_, route := mux.Handler(r)
		if !ok || route != "" && !id.Role.May(route) {
			problem(w, http.StatusForbidden, fmt.Sprintf("the role %q may not do this", id.Role))
			return
		}
		serve(mux, w, r.WithContext(With(r.Context(), id)))
	})
}

// remote is the client's address without port and zone.
func remote(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddrPort(s)
	return a.Addr().Unmap().WithZone(""), err == nil
}

func hostOf(s string) string {
	a, ok := remote(s)
	if !ok {
		return ""
	}
	return a.String()
}

func knownHost(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, host) })
}

// serve is the mux with problem documents where its own answers are plain text:
// no such path (404), no such method (405).
func serve(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	h, route := mux.Handler(r)
	if odd(r.URL.Path) {
		// The mux would send the client to the path without the dots: names that
		// are dots do not exist.
		problem(w, http.StatusNotFound, "there is nothing at this path; /docs lists what there is")
		return
	}
	if route != "" {
		mux.ServeHTTP(w, r)
		return
	}
	p := &peek{header: http.Header{}}
	h.ServeHTTP(p, r)
	if allow := p.header.Get("Allow"); allow != "" && p.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		problem(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s is not for this path; it takes %s", clip(r.Method), allow))
		return
	}
	problem(w, http.StatusNotFound, "there is nothing at this path; /docs lists what there is")
}

// odd reports whether a path has segments that are empty or dots.
func odd(path string) bool {
	path = strings.TrimSuffix(path, "/")
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		if segment == "" && path != "" || segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// peek takes an answer's status and headers and drops its body.
type peek struct {
	header http.Header
	status int
}

func (p *peek) Header() http.Header         { return p.header }
func (p *peek) WriteHeader(status int)      { p.status = status }
func (p *peek) Write(b []byte) (int, error) { return len(b), nil }

// problem writes an error as RFC 9457 says.
func problem(w http.ResponseWriter, status int, detail string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	b, err := json.Marshal(map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
	if err == nil {
		_, _ = w.Write(append(b, '\n')) // the client may be gone; there is nobody to tell
	}
}
