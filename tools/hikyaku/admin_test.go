package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
	policyapi "hikyaku/controlplane/api"
	clustertest "hikyaku/controlplane/api/apitest"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
	"hikyaku/tools/hikyaku/admin"
)

// adminBed is the whole admin listener as serve opens it: the guard, policy, a
// cluster that exists in memory, and nodes behind their peer addresses.
type adminBed struct {
	url     string
	doc     *huma.OpenAPI
	mux     *http.ServeMux
	store   *store.File
	cluster *clustertest.Cluster
	audit   *clustertest.Audit
	nodes   map[string]*apitest.Node
	keys    map[access.Role]string
}

const peerToken = "peers only"

// peerDoor is the peer listener of a node: it makes sure that a peer asks.
func peerDoor(mux *http.ServeMux) http.Handler {
	next := access.Peer(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+peerToken {
			http.Error(w, "not a peer", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func newAdminBed(t testing.TB, dir string) *adminBed {
	t.Helper()
	f, err := store.OpenFile(dir, store.Options{Now: func() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	b := &adminBed{store: f, audit: &clustertest.Audit{}, nodes: map[string]*apitest.Node{}, keys: map[access.Role]string{}, mux: http.NewServeMux()}
	b.cluster = clustertest.New(func() int64 { return f.Snapshot().Revision })
	list := newSuppressions(t)
	for _, name := range []string{"tokyo-1", "tokyo-2"} {
		b.nodes[name] = apitest.New()
		mux := http.NewServeMux()
		api.Register(mux, api.Options{Node: b.nodes[name], Suppressions: list, Version: "test"})
		s := httptest.NewServer(peerDoor(mux))
		t.Cleanup(s.Close)
		b.cluster.Peer(name, s.Listener.Addr().String())
	}
	b.doc = admin.Register(b.mux, &api.Options{Node: b.nodes["tokyo-1"], Suppressions: list, Version: "test"}, &policyapi.Options{Store: f, Cluster: b.cluster, Audit: b.audit, Version: "test",
		Peers: policyapi.HTTPPeers{Client: http.DefaultClient, Scheme: "http", Token: peerToken}})
	s := httptest.NewUnstartedServer(nil)
	s.Config = api.NewServer(access.New(b.mux, access.Options{MaxBody: policyapi.MaxBody, Policy: f.Snapshot, Refused: policyapi.Refused(b.audit)}))
	s.Start()
	t.Cleanup(s.Close)
	b.url = s.URL
	return b
}

// seed gives the bed policy, and a key of each role.
func (b *adminBed) seed(t testing.TB) {
	t.Helper()
	rate, err := policy.ParseRate("100/s")
	if err != nil {
		t.Fatal(err)
	}
	rs := []policy.Resource{
		{Kind: "Tenant", Name: "shop", Spec: &policy.Tenant{}}, {Kind: "Tenant", Name: "bank", Spec: &policy.Tenant{}},
		{Kind: "Carrier", Name: "docomo", Spec: &policy.Carrier{Domains: []string{"docomo.ne.jp"}, Limits: policy.Limits{Rate: &rate}}},
		{Kind: "Route", Name: "relay", Spec: &policy.Route{Domains: []string{"x.jp"}, Hosts: []string{"h"}, Username: "u", Password: policy.NewSecret("hunter2")}},
		{Kind: "Pool", Name: "p1", Spec: &policy.Pool{Sources: []policy.PoolMember{{Name: "a1"}}}},
		{Kind: "Source", Name: "a1", Spec: &policy.Source{Address: "198.51.100.1"}},
	}
	for _, role := range access.Roles() {
		key, hash := access.NewKey()
		k := &policy.AdminKey{Role: string(role), Hash: hash}
		if role == access.Tenant {
			k.Tenant = "shop"
		}
		b.keys[role] = key
		rs = append(rs, policy.Resource{Kind: "AdminKey", Name: "key-" + string(role), Spec: k})
	}
	if _, err := store.Seed(context.Background(), b.store, rs, "test", "seed"); err != nil {
		t.Fatal(err)
	}
}

// ask sends one request as the bearer of a role's key; role "" brings none.
func (b *adminBed) ask(t testing.TB, role access.Role, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+b.keys[role])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestEveryOperationHasARole: the one table of roles has each operation of the
// document and each route beside it, and nothing that does not exist.
func TestEveryOperationHasARole(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	want := []string{"GET /docs", "GET /v1/openapi.json", "GET /v1/openapi.yaml", "GET /metrics",
		"GET /debug/pprof/", "GET /debug/pprof/cmdline", "GET /debug/pprof/profile", "GET /debug/pprof/symbol", "GET /debug/pprof/trace"}
	for _, op := range admin.Operations(b.doc) {
		want = append(want, op.Method+" "+op.Path)
	}
	slices.Sort(want)
	have := access.Routes()
	for _, route := range want {
		if !slices.Contains(have, route) {
			t.Errorf("%s has no role", route)
		}
	}
	for _, route := range have {
		if !slices.Contains(want, route) {
			t.Errorf("%s has a role and does not exist", route)
		}
	}
	// The document and the page stand before everybody who has a key.
	b.seed(t)
	for _, path := range []string{"/docs", "/v1/openapi.json", "/v1/openapi.yaml"} {
		if status, text := b.ask(t, access.Tenant, "GET", path, ""); status != 200 || !strings.Contains(text, "/v1/carriers/{carrier}/throttle") {
			t.Errorf("%s: %d %.200s", path, status, text)
		}
	}
}

// TestRolesOfAllOperations asks each operation with each role: the guard lets in
// whom the table names, and nobody else.
func TestRolesOfAllOperations(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	for _, op := range admin.Operations(b.doc) {
		if strings.Contains(op.Path, "tail") || strings.Contains(op.Path, "trace") {
			continue // they last
		}
		path := strings.NewReplacer("{kind}", "Pool", "{name}", "p1", "{node}", "none", "{source}", "none", "{carrier}", "none", "{id}", "none", "{tenant}", "none").Replace(op.Path)
		for _, role := range access.Roles() {
			status, text := b.ask(t, role, op.Method, path, "")
			refused := status == http.StatusForbidden && strings.Contains(text, "has the role")
			if may := role.May(op.Method + " " + op.Path); refused == may {
				t.Errorf("%s %s as %s: %d %s", op.Method, path, role, status, text)
			}
		}
	}
}

// TestOperatorsTune: an operator changes limits, and neither keys nor who may
// hand mail in.
func TestOperatorsTune(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	_, hash := access.NewKey()
	for _, x := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/v1/policy/Carrier/docomo", `{"spec":{"domains":["docomo.ne.jp"],"limits":{"rate":"50/s"}}}`, 200},
		{"PUT", "/v1/policy/Pool/p1", `{"spec":{"sources":[{"name":"a1"}]}}`, 200},
		{"PUT", "/v1/policy/Tenant/shop", `{"spec":{"rate":"5/s"}}`, 200},
		{"PUT", "/v1/policy/Tenant/shop", `{"spec":{"networks":["192.0.2.0/24"]}}`, 403},
		{"PUT", "/v1/policy/Tenant/new", `{"spec":{}}`, 403},
		{"DELETE", "/v1/policy/Tenant/bank", ``, 403},
		{"PUT", "/v1/policy/Route/relay", `{"spec":{"domains":["x.jp"],"hosts":["h"],"username":"u"}}`, 200},
		{"PUT", "/v1/policy/Route/relay", `{"spec":{"domains":["x.jp"],"hosts":["h"],"username":"u","password":"mine"}}`, 403},
		{"PUT", "/v1/policy/AdminKey/mine", `{"spec":{"role":"admin","hash":"` + hash + `"}}`, 403},
		{"DELETE", "/v1/policy/AdminKey/key-admin", ``, 403},
		{"POST", "/v1/policy:apply", `{"resources":[{"kind":"AdminKey","name":"key-operator","spec":{"role":"admin","hash":"` + hash + `"}}]}`, 403},
		{"POST", "/v1/policy:rollback", `{"revision":1}`, 403},
		{"PUT", "/v1/carriers/docomo/throttle", `{"rate":"5/s","for":"2h","reason":"complaints"}`, 200},
		{"DELETE", "/v1/nodes/osaka-1", ``, 403},
	} {
		if status, text := b.ask(t, access.Operator, x.method, x.path, x.body); status != x.status {
			t.Errorf("%s %s %s: %d %s, want %d", x.method, x.path, x.body, status, text, x.status)
		}
	}
	if h, err := b.store.History(t.Context(), 1); err != nil || h[0].Author != "key-operator" {
		t.Errorf("%+v %v", h, err)
	}
}

// TestTenantsSeeTheirOwn: nothing that a tenant's key is answered tells of
// another tenant, whichever way it asks (I24).
func TestTenantsSeeTheirOwn(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	others := []string{"bank", "letters", "otp"} // of the nodes' stock
	for _, base := range []string{"/v1/", "/v1/cluster/"} {
		for _, x := range []struct {
			method, path, body string
			status             int
			want               string
		}{
			{"GET", "queues", "", 200, "docomo.ne.jp"},
			{"GET", "queues?tenant=shop", "", 200, "docomo.ne.jp"},
			{"GET", "queues?tenant=nobody", "", 403, "for the tenant shop only"},
			{"GET", "queues/why", "", 200, "reasons"},
			{"GET", "deliveries?destination=docomo.ne.jp", "", 200, "deliveries"},
			{"GET", "deliveries?destination=docomo.ne.jp&tenant=nobody", "", 403, "only"},
			{"GET", "jobs", "", 200, "news-1"},
			{"GET", "jobs/shop/news-1", "", 200, "news-1"},
			{"GET", "jobs/shop/none", "", 404, ""},
			{"PATCH", "jobs/shop/news-1", `{"state":"paused"}`, 200, "paused"},
			{"POST", "actions", `{"verb":"hold","all":true}`, 200, `"tenant":"shop"`},
			{"POST", "actions", `{"verb":"hold","scope":{"tenant":"nobody"}}`, 403, "only"},
			{"GET", "actions", "", 200, "items"},
			{"GET", "overview", "", 403, "role"}, {"GET", "lanes", "", 403, "role"}, {"GET", "trace", "", 403, "role"},
		} {
			path := base + x.path
			if base == "/v1/cluster/" && x.status == 200 && x.method != "GET" {
				path += "?" // all nodes: osaka is down
			}
			status, text := b.ask(t, access.Tenant, x.method, path, x.body)
			if status == 207 {
				status = 200
			}
			if base == "/v1/cluster/" && x.status == 404 && status == 503 {
				status = 404 // osaka is down, so nobody can say
			}
			if status != x.status || !strings.Contains(text, x.want) {
				t.Errorf("%s %s: %d %s, want %d %s", x.method, path, status, text, x.status, x.want)
			}
			for _, o := range others {
				if strings.Contains(text, o) {
					t.Errorf("%s %s tells of %s: %s", x.method, path, o, text)
				}
			}
		}
	}
}

// TestTenantCannotTellOthersFromNothing: what is another's and what is not there
// are answered alike, byte for byte.
func TestTenantCannotTellOthersFromNothing(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	b.cluster.Live("osaka-1", true) // without an address: it is asked of nobody
	status, text := b.ask(t, "", "POST", "/v1/actions", `{"verb":"hold","scope":{"tenant":"bank"},"reason":"theirs"}`)
	var held struct{ ID string }
	if err := json.Unmarshal([]byte(text), &held); err != nil || status != 200 || held.ID == "" {
		t.Fatalf("%d %s %v", status, text, err)
	}
	for _, base := range []string{"/v1/", "/v1/cluster/"} {
		for _, x := range []struct{ method, theirs, nobodys, body string }{
			{"GET", "jobs/bank/letters%2F7", "jobs/nobody/none", ""},
			{"PATCH", "jobs/bank/letters%2F7", "jobs/nobody/none", `{"state":"paused"}`},
			{"GET", "queues?tenant=bank", "queues?tenant=nobody", ""},
			{"GET", "queues/why?tenant=bank", "queues/why?tenant=nobody", ""},
			{"GET", "jobs?tenant=bank", "jobs?tenant=nobody", ""},
			{"GET", "events?tenant=bank", "events?tenant=nobody", ""},
			{"DELETE", "actions/" + held.ID, "actions/01jd3q8v5x2m9k7c4t6r0w1yzb", ""},
			{"POST", "actions", "actions", `{"verb":"cancel","scope":{"tenant":"bank"}}|{"verb":"cancel","scope":{"tenant":"nobody"}}`},
		} {
			theirBody, nobodysBody, two := strings.Cut(x.body, "|")
			if !two {
				nobodysBody = theirBody
			}
			s1, t1 := b.ask(t, access.Tenant, x.method, base+x.theirs, theirBody)
			s2, t2 := b.ask(t, access.Tenant, x.method, base+x.nobodys, nobodysBody)
			if s1 != s2 || t1 != t2 && !strings.Contains(x.theirs, "actions/") {
				t.Errorf("%s %s%s: %d %s\nbut %s: %d %s", x.method, base, x.theirs, s1, t1, x.nobodys, s2, t2)
			}
		}
	}
	if as, err := b.nodes["tokyo-1"].Actions(t.Context()); err != nil || len(as) != 1 || as[0].ID != held.ID {
		t.Errorf("the other tenant's hold is gone: %+v %v", as, err)
	}
}

// TestNoSecretIsShown: no answer holds a secret of policy (I22).
func TestNoSecretIsShown(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	for _, path := range []string{"/v1/policy", "/v1/policy/Route/relay", "/v1/policy:history", "/v1/policy:diff?to=1", "/v1/policy:diff?from=1"} {
		if status, text := b.ask(t, access.ReadOnly, "GET", path, ""); status != 200 || strings.Contains(text, "hunter2") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// TestRefusedLoginsAreAudited and are not many.
func TestRefusedLoginsAreAudited(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.keys[access.Admin] = "wrong"
	for range 100 {
		if status, _ := b.ask(t, access.Admin, "GET", "/v1/nodes", ""); status != 401 && status != 429 {
			t.Fatalf("%d", status)
		}
	}
	es := b.audit.Entries()
	if len(es) == 0 || len(es) > 12 || es[0].Action != "login" || es[0].Author != "127.0.0.1" || !strings.Contains(es[0].Result, "refused") || es[0].Scope != "GET /v1/nodes" {
		t.Errorf("%d: %+v", len(es), es)
	}
	if text := fmt.Sprint(es); strings.Contains(text, "wrong") {
		t.Errorf("what was presented is in the audit log: %s", text)
	}
}

func TestThrottleOfACarrier(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	const path = "/v1/carriers/docomo/throttle"
	for _, x := range []struct {
		method, path, body string
		header             []string
		status             int
		want               string
	}{
		{"GET", path, "", nil, 200, `"throttles":[]`},
		{"PUT", path, `{"rate":"50/s","for":"2h","reason":"complaints"}`, nil, 200, `"name":"docomo"`},
		{"GET", path, "", nil, 200, `"limits":{"rate":"50/s"},"own_limits":{"rate":"100/s"}`},
		{"PUT", path, `{"rate":"40/s"}`, nil, 200, `"action":"changed"`},
		{"PUT", path, `{"rate":"40/s"}`, nil, 200, `"action":"unchanged"`},
		{"PUT", path, `{"rate":"30/s"}`, []string{"If-Match", `"1"`}, 412, "not 1"},
		{"PUT", path, `{"rate":"30/s"}`, []string{"If-Match", `"3"`}, 200, `"action":"changed"`},
		{"PUT", path, `{"rate":"30/s"}`, []string{"If-None-Match", `*`}, 412, "exists already"},
		{"PUT", path, `{"connections":3,"pool":"p1"}`, nil, 200, `"name":"docomo.pool.p1"`},
		{"PUT", path, `{"rate":"3/s","tenant":"shop"}`, nil, 200, `"name":"docomo.tenant.shop"`},
		{"PUT", path, `{"rate":"1/s"}`, []string{"If-Match", `x`}, 400, "If-Match"},
		{"PUT", path, `{}`, nil, 422, "needs what it sets"},
		{"PUT", path, `{"rate":"fast"}`, nil, 422, "rate"},
		{"PUT", path, `{"rate":"1/s","pool":"p1","source":"a1"}`, nil, 422, "one scope"},
		{"PUT", path, `{"rate":"1/s","for":"1h","expires":"2030-01-01T00:00:00Z"}`, nil, 422, "either"},
		{"PUT", path, `{"rate":"1/s","expires":"2020-01-01T00:00:00Z"}`, nil, 422, "over already"},
		{"PUT", path, `{"rate":"1/s","for":"1ms"}`, nil, 422, "at least 1s"},
		{"PUT", path, `{"rate":"1/s","hurry":true}`, nil, 422, "hurry"},
		{"PUT", "/v1/carriers/nope/throttle", `{"rate":"1/s"}`, nil, 404, "no such carrier"},
		{"PUT", "/v1/carriers/default/throttle", `{"rate":"1/s","dry_run":true}`, nil, 200, `"dry_run":true`},
		{"GET", "/v1/carriers/default/throttle", "", nil, 200, `"throttles":[]`},
		{"DELETE", path + "?pool=p2", "", nil, 404, "no throttle on carrier docomo, pool p2"},
		{"DELETE", path + "?pool=p1&reason=over", "", nil, 200, `"action":"deleted"`},
		{"DELETE", path, "", []string{"If-Match", `"99"`}, 412, "not 99"},
		{"DELETE", path, "", nil, 200, `"action":"deleted"`},
		{"DELETE", path, "", nil, 404, "no throttle"},
		{"GET", path, "", nil, 200, `"limits":{"rate":"100/s"},"own_limits":{"rate":"100/s"}`},
	} {
		if status, text := b.ask(t, access.Operator, x.method, x.path, x.body, x.header...); status != x.status || !strings.Contains(text, x.want) {
			t.Errorf("%s %s %s: %d %s\nwant %d %s", x.method, x.path, x.body, status, text, x.status, x.want)
		}
	}
}

func TestAppliedIsWaitedFor(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	b.seed(t)
	b.cluster.Revision("tokyo-2", 0)
	if status, text := b.ask(t, access.ReadOnly, "GET", "/v1/policy:applied?wait=60", ""); status != 200 || !strings.Contains(text, `"everywhere":true`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := b.ask(t, access.ReadOnly, "GET", "/v1/policy:applied?revision=99", ""); status != 422 || !strings.Contains(text, "no revision 99") {
		t.Errorf("%d %s", status, text)
	}
	if _, err := b.store.Apply(t.Context(), store.Batch{Changes: []store.Change{{Kind: "Tenant", Name: "third", Spec: &policy.Tenant{}}}}); err != nil {
		t.Fatal(err)
	}
	b.cluster.Revision("tokyo-2", 1)
	if status, text := b.ask(t, access.ReadOnly, "GET", "/v1/policy:applied?revision=2", ""); status != 200 || !strings.Contains(text, `"everywhere":false`) || !strings.Contains(text, `"applied":1,"live":2`) {
		t.Errorf("%d %s", status, text)
	}
	answered := make(chan string)
	go func() { // waited for below
		_, text := b.ask(t, access.ReadOnly, "GET", "/v1/policy:applied?revision=2&wait=30", "")
		answered <- text
	}()
	b.cluster.Revision("tokyo-2", 0)
	if text := <-answered; !strings.Contains(text, `"everywhere":true`) {
		t.Error(text)
	}
}

func TestAdminDocument(t *testing.T) {
	b := newAdminBed(t, t.TempDir())
	text, err := json.MarshalIndent(b.doc, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"429"`, `"securitySchemes"`, "Needs the role operator"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("the document has no %s", want)
		}
	}
}
