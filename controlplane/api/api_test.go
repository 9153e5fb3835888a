package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"hikyaku/controlplane/api"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// serve starts the API over an empty store.
func serve(t testing.TB) (*httptest.Server, *store.File, *client.Policy) {
	t.Helper()
	f, err := store.OpenFile(t.TempDir(), store.Options{Now: func() time.Time { return time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Store: f, Logger: slog.New(slog.DiscardHandler)})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	c, err := client.New(s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s, f, c.Policy("ann")
}

// ask sends a request as it is and gives status and body.
func ask(t testing.TB, s *httptest.Server, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestResourceLife(t *testing.T) {
	s, _, _ := serve(t)
	steps := []struct {
		method, path, body string
		header             []string
		status             int
		want               string
	}{
		{"GET", "/v1/policy", "", nil, 200, `{"revision":0,"resources":[]}`},
		{"PUT", "/v1/policy/Route/r", `{"spec":{"domains":["a.jp"],"hosts":["h"],"username":"u","password":"hunter2"}}`, []string{"If-None-Match", "*"}, 200, `"action":"created"`},
		{"PUT", "/v1/policy/Route/r", `{"spec":{"domains":["a.jp"]}}`, []string{"If-None-Match", "*"}, 412, "exists already"},
		{"GET", "/v1/policy/routes/r", "", nil, 200, `"password":"***"`},
		{"PUT", "/v1/policy/route/r", `{"spec":{"domains":["b.jp"],"hosts":["h"],"username":"u"},"reason":"moved"}`, []string{"If-Match", `"1"`}, 200, `{"revision":2,"effects":[{"action":"changed"`},
		{"PUT", "/v1/policy/Route/r", `{"spec":{"domains":["c.jp"]}}`, []string{"If-Match", `"1"`}, 412, "Route/r is at revision 2, not 1"},
		{"PUT", "/v1/policy/Route/r", `{"spec":{"domains":["c.jp"]}}`, []string{"If-Match", "2"}, 400, "If-Match"},
		{"DELETE", "/v1/policy/Route/r?dry_run=true", "", nil, 200, `"dry_run":true`},
		{"DELETE", "/v1/policy/Route/r", "", []string{"If-Match", `"9"`}, 412, "not 9"},
		{"DELETE", "/v1/policy/Route/r?reason=gone", "", []string{"Hikyaku-Author", "bob"}, 200, `"action":"deleted"`},
		{"DELETE", "/v1/policy/Route/r", "", nil, 404, "Route/r: not found"},
		{"GET", "/v1/policy/Route/r", "", nil, 404, "not found"},
		{"GET", "/v1/policy/Queue", "", nil, 404, "the kinds are Tenant"},
		{"GET", "/v1/policy:history?limit=1", "", nil, 200, `{"revisions":[{"revision":3,"time":"2026-11-22T08:00:00Z","author":"bob","reason":"gone","effects":[{"action":"deleted","kind":"Route","name":"r"}]}]}`},
		{"POST", "/v1/policy:rollback", `{"revision":1}`, nil, 200, `"revision":4`},
		{"POST", "/v1/policy:rollback", `{"revision":77}`, nil, 404, "revision 77"},
		{"GET", "/v1/policy?nope=1", "", nil, 422, "nope"},
	}
	for _, st := range steps {
		status, body := ask(t, s, st.method, st.path, st.body, st.header...)
		if status != st.status || !strings.Contains(body, st.want) {
			t.Errorf("%s %s: %d %s\nwant %d …%s…", st.method, st.path, status, body, st.status, st.want)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("%s %s shows the password: %s", st.method, st.path, body)
		}
	}
}

func TestBadBodies(t *testing.T) {
	s, f, _ := serve(t)
	for body, want := range map[string]string{
		``:                "request body is required",
		`[]`:              "want a mapping",
		`{"resource":[]}`: `"location":"resource"`,
		`{"resources":[{"kind":"Pol","name":"p","spec":{}}]}`:                             `did you mean \"Pool\"`,
		`{"resources":[{"kind":"Pool","name":"p","spec":{"source":[]}}]}`:                 `"location":"resources[0].spec.source"`,
		`{"resources":[{"kind":"Pool","name":"p","spec":{"sources":[{"name":"nope"}]}}]}`: `"location":"Pool/p spec.sources[0].name"`,
		`{"resources":[{"kind":"Source","name":"s","spec":{}}],"expected_revision":5}`:    "policy is at revision 0, not 5",
		`{"delete":[{"kind":"Source","name":"s"}]}`:                                       "not found",
		`{"reason":"` + strings.Repeat("x", 1001) + `"}`:                                  "at most 1000",
		`{"dry_run":"yes"}`:        "want true or false",
		strings.Repeat("[", 10000): "nested deeper",
	} {
		status, got := ask(t, s, "POST", "/v1/policy:apply", body)
		if status < 400 || status >= 500 || !strings.Contains(got, want) {
			t.Errorf("%.60s: %d %.300s\nwant %s", body, status, got, want)
		}
		var p struct{ Title, Detail string }
		if err := json.Unmarshal([]byte(got), &p); err != nil || p.Title == "" || p.Detail == "" {
			t.Errorf("%.60s: not a problem document: %s", body, got)
		}
	}
	if f.Snapshot().Revision != 0 {
		t.Error("something was applied")
	}
	if status, got := ask(t, s, "PUT", "/v1/policy/Pool/p", `{}`); status != 422 || !strings.Contains(got, "the spec is missing") {
		t.Errorf("%d %s", status, got)
	}
}

func TestClient(t *testing.T) {
	_, f, p := serve(t)
	ctx := context.Background()
	weight := &policy.Stream{Weight: 7, Expires: policy.Duration(time.Hour)}
	res, err := p.Apply(ctx, &api.ApplyRequest{Reason: "why", Resources: []api.Resource{
		{Kind: "Tenant", Name: "acme", Spec: &policy.Tenant{}},
		{Kind: "Stream", Name: "acme/bulk", Spec: weight},
		{Kind: "Route", Name: "r", Spec: &policy.Route{Domains: []string{"*"}, Hosts: []string{"h"}, Username: "u", Password: policy.NewSecret("hunter2")}},
	}})
	if err != nil || res.Revision != 1 || len(res.Effects) != 3 {
		t.Fatalf("%+v %v", res, err)
	}
	if f.Snapshot().Routes["r"].Password.Reveal() != "hunter2" {
		t.Error("the password did not arrive")
	}
	got, err := p.Get(ctx, "Stream", "acme/bulk")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(weight, got.Spec); d != "" || got.Revision != 1 {
		t.Error(d)
	}
	// What was listed can be sent back.
	list, err := p.List(ctx, "")
	if err != nil || len(list.Resources) != 3 {
		t.Fatalf("%+v %v", list, err)
	}
	res, err = p.Apply(ctx, &api.ApplyRequest{Resources: list.Resources})
	if err != nil || res.Revision != 1 {
		t.Fatalf("%+v %v", res, err)
	}
	for _, e := range res.Effects {
		if e.Action != "unchanged" {
			t.Errorf("%s/%s was %s", e.Kind, e.Name, e.Action)
		}
	}
	_, err = p.Apply(ctx, &api.ApplyRequest{Resources: []api.Resource{{Kind: "Stream", Name: "acme/bulk", Spec: &policy.Stream{Pool: "nope"}}}})
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	problems, ok := e.Policy()
	if want := (policy.Problem{Kind: "Stream", Name: "acme/bulk", Path: "spec.pool", Reason: `there is no Pool "nope"`}); !ok || len(problems) != 1 || problems[0] != want {
		t.Errorf("%v %+v", ok, problems)
	}
	h, err := p.History(ctx, 5)
	if err != nil || len(h.Revisions) != 1 || h.Revisions[0].Author != "ann" || h.Revisions[0].Reason != "why" {
		t.Errorf("%+v %v", h, err)
	}
	if _, err := p.Delete(ctx, api.Name{Kind: "Stream", Name: "acme/bulk", Revision: 1}, "", false); err != nil {
		t.Error(err)
	}
	if _, err := p.Rollback(ctx, &api.RollbackRequest{Revision: 1}); err != nil || f.Snapshot().Streams["acme/bulk"] == nil {
		t.Error(err)
	}
}

// TestOpenAPIDescribesWhatIsServed checks real answers against the document.
func TestOpenAPIDescribesWhatIsServed(t *testing.T) {
	s, _, p := serve(t)
	_, text := ask(t, s, "GET", api.OpenAPIPath+".json", "")
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	for _, kind := range policy.Kinds() {
		if doc.Components.Schemas["Policy"+kind] == nil {
			t.Errorf("there is no schema of %s", kind)
		}
	}
	jitter := 5
	rate, _ := policy.ParseRate("5/s")
	if _, err := p.Apply(context.Background(), &api.ApplyRequest{Resources: []api.Resource{
		{Kind: "Carrier", Name: "c", Spec: &policy.Carrier{MX: []string{".x.jp"}, Limits: policy.Limits{Rate: &rate}, Retry: &policy.Retry{Jitter: &jitter, Schedule: []policy.Duration{policy.Duration(time.Minute)}}}},
		{Kind: "Route", Name: "r", Spec: &policy.Route{Domains: []string{"*"}, Hosts: []string{"h"}, Username: "u", Password: policy.NewSecret("p")}},
	}}); err != nil {
		t.Fatal(err)
	}
	for path, schema := range map[string]string{"/v1/policy": "List", "/v1/policy/Carrier/c": "Resource", "/v1/policy:history": "History"} {
		_, body := ask(t, s, "GET", path, "")
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		if err := doc.Components.Schemas[schema].Value.VisitJSON(v); err != nil {
			t.Errorf("%s: %v\n%s", path, err, body)
		}
	}
}

func TestStoreFailureIsNotExplainedToClients(t *testing.T) {
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Store: brokenStore{}})
	s := httptest.NewServer(mux)
	defer s.Close()
	status, body := ask(t, s, "POST", "/v1/policy:apply", `{"resources":[]}`)
	if status != 500 || strings.Contains(body, "sda1") {
		t.Errorf("%d %s", status, body)
	}
}

type brokenStore struct{ store.Store }

func (brokenStore) Apply(context.Context, store.Batch) (*store.Result, error) {
	return nil, fmt.Errorf("write /dev/sda1: input/output error")
}
