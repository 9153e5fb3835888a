package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
	"hikyaku/node/api/client"
)

// caller is the client's way to a test server.
type caller struct {
	base  string
	token string
}

type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d %s", e.status, e.text) }

func (c caller) Stream(ctx context.Context, method, path string, q url.Values, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path+"?"+q.Encode(), body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		return nil, &statusError{resp.StatusCode, string(b)}
	}
	return resp.Body, nil
}

func (c caller) Do(ctx context.Context, method, path string, q url.Values, in, out any) error {
	body, err := c.Stream(ctx, method, path, q, in)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(out)
}

func serve(t testing.TB, n api.Node, guard api.GuardOptions) (*httptest.Server, *client.Client) {
	t.Helper()
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: n, Suppressions: apitest.Suppressions{}, Version: "test", Streams: 2})
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = api.NewServer(api.Guard(mux, guard))
	srv.Start()
	t.Cleanup(srv.Close)
	return srv, client.New(caller{srv.URL, guard.Token})
}

// status is the HTTP status in an error of the client.
func status(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

func TestListingsThroughTheClient(t *testing.T) {
	_, c := serve(t, apitest.New(), api.GuardOptions{})
	ctx := t.Context()
	q, err := c.Queues(ctx, api.QueueFilter{Limit: 2})
	if err != nil || len(q.Queues) != 2 || q.Total != 3 || q.Next == "" || q.Queues[0].Destination != "docomo.ne.jp" {
		t.Fatalf("queues: %+v, %v", q, err)
	}
	if last := q.Queues[0].Last; last == nil || last.Reply.Enhanced.String() != "4.7.1" || last.Reply.Phase.String() != "rcpt" {
		t.Errorf("reply does not survive: %+v", last)
	}
	q2, err := c.Queues(ctx, api.QueueFilter{Limit: 2, Page: q.Next})
	if err != nil || len(q2.Queues) != 1 || q2.Next != "" {
		t.Errorf("second page: %+v, %v", q2, err)
	}
	q3, err := c.Queues(ctx, api.QueueFilter{Scope: api.Scope{Destination: "Example.ORG.", Tenant: "shop"}, Sort: "name"})
	if err != nil || len(q3.Queues) != 1 || !q3.Queues[0].Held {
		t.Errorf("by scope: %+v, %v", q3, err)
	}
	w, err := c.Why(ctx, api.Scope{Carrier: "docomo"})
	if err != nil || len(w.Reasons) != 1 || w.Reasons[0].Limit != "carrier.per_source.rate" || w.Queued != 120000 {
		t.Errorf("why: %+v, %v", w, err)
	}
	var ids []string
	for page := ""; ; {
		d, err := c.Deliveries(ctx, api.DeliveryFilter{Scope: api.Scope{Destination: "docomo.ne.jp"}, Limit: 2, Page: page})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range d.Deliveries {
			ids = append(ids, v.ID)
		}
		if page = d.Next; page == "" {
			break
		}
	}
	if len(ids) != 5 || ids[4] != apitest.MessageID+"-4" {
		t.Errorf("deliveries over pages: %v", ids)
	}
	m, err := c.Message(ctx, strings.ToUpper(apitest.MessageID), api.MessageOptions{Content: true})
	if err != nil || !bytes.Contains(m.Raw, []byte("Subject: hello\r\n")) || m.Deliveries[1].Recipients[0].Reply.Code != 250 {
		t.Errorf("message: %+v, %v", m, err)
	}
	if m, err := c.Message(ctx, apitest.MessageID+"-0", api.MessageOptions{}); err != nil || m.Raw != nil {
		t.Errorf("message without content: %+v, %v", m, err)
	}
	o, err := c.Overview(ctx)
	if err != nil || o.Node != "tokyo-1" || o.Rates.Accepted != 4100.5 || o.Latency[0].P99 != 9*time.Millisecond {
		t.Errorf("overview: %+v, %v", o, err)
	}
	lanes, err1 := c.Lanes(ctx, api.ListFilter{})
	sites, err2 := c.Sites(ctx, api.ListFilter{})
	budgets, err3 := c.Budgets(ctx, api.ListFilter{Scope: api.Scope{Carrier: "docomo"}})
	if err := errors.Join(err1, err2, err3); err != nil || len(lanes) != 1 || len(sites) != 1 || budgets[0].Limit != "10/s" {
		t.Errorf("%v %v %v, %v", lanes, sites, budgets, err)
	}
}

func TestJobs(t *testing.T) {
	_, c := serve(t, apitest.New(), api.GuardOptions{})
	ctx := t.Context()
	l, err := c.Jobs(ctx, api.JobFilter{State: "paused"})
	if err != nil || len(l.Jobs) != 1 {
		t.Fatalf("jobs: %+v, %v", l, err)
	}
	j, err := c.Job(ctx, "bank", "letters/7") // a slash in a job's name
	if err != nil || j.Rate != "100/s" {
		t.Fatalf("job: %+v, %v", j, err)
	}
	state, rate, bad := "cancelled", "5/s", "fast"
	if j, err = c.ChangeJob(ctx, "bank", "letters/7", api.JobChange{State: &state, Rate: &rate}); err != nil || j.State != "cancelled" || j.Rate != "5/s" {
		t.Errorf("change: %+v, %v", j, err)
	}
	for _, x := range []struct {
		id     string
		change api.JobChange
		want   int
	}{
		{"letters/7", api.JobChange{State: &state}, 409},
		{"none", api.JobChange{State: &state}, 404},
		{"letters/7", api.JobChange{Rate: &bad}, 422},
		{"letters/7", api.JobChange{State: &bad}, 422},
		{"letters/7", api.JobChange{}, 422},
	} {
		if _, err := c.ChangeJob(ctx, "bank", x.id, x.change); status(err) != x.want {
			t.Errorf("change %s: %v, want %d", x.id, err, x.want)
		}
	}
}

func TestActions(t *testing.T) {
	n := apitest.New()
	_, c := serve(t, n, api.GuardOptions{})
	ctx := t.Context()
	until := apitest.Epoch.Add(time.Hour)
	r, err := c.Act(ctx, &api.ActionRequest{Verb: api.VerbHold, Scope: api.Scope{Destination: "DOCOMO.ne.jp"}, Reason: "blocked", Expires: &until})
	if err != nil || r.Affected != 120000 || r.TooLate != 4 || r.ID == "" {
		t.Fatalf("hold: %+v, %v", r, err)
	}
	if as, err := c.Actions(ctx); err != nil || len(as) != 1 || as[0].Reason != "blocked" || !as[0].Expires.Equal(until) {
		t.Errorf("actions: %+v, %v", as, err)
	}
	if _, err := c.DeleteAction(ctx, r.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteAction(ctx, r.ID); status(err) != 404 {
		t.Errorf("delete twice: %v", err)
	}
	if r, err := c.Act(ctx, &api.ActionRequest{Verb: api.VerbCancel, Message: apitest.MessageID + "-1"}); err != nil || r.Affected != 1 {
		t.Errorf("cancel of a delivery: %+v, %v", r, err)
	}
	if r, err := c.Act(ctx, &api.ActionRequest{Verb: api.VerbRetry, All: true}); err != nil || r.Affected != 120020 {
		t.Errorf("retry of all: %+v, %v", r, err)
	}
	before := len(n.Asked())
	for name, bad := range map[string]*api.ActionRequest{
		"no scope":          {Verb: api.VerbCancel},
		"unknown verb":      {Verb: "explode", All: true},
		"scope and all":     {Verb: api.VerbHold, All: true, Scope: api.Scope{Tenant: "shop"}},
		"scope and message": {Verb: api.VerbCancel, Message: apitest.MessageID, Scope: api.Scope{Tenant: "shop"}},
		"bad id":            {Verb: api.VerbCancel, Message: "x"},
		"expires of cancel": {Verb: api.VerbCancel, Scope: api.Scope{Tenant: "shop"}, Expires: &until},
	} {
		if _, err := c.Act(ctx, bad); status(err) != 422 {
			t.Errorf("%s: %v, want 422", name, err)
		}
	}
	if len(n.Asked()) != before {
		t.Error("a refused action reached the node")
	}
}

func TestErrorsOfTheNode(t *testing.T) {
	n := apitest.New()
	_, c := serve(t, n, api.GuardOptions{})
	for _, x := range []struct {
		err  error
		want int
		says string
	}{
		{fmt.Errorf("queue x: %w", api.ErrNotFound), 404, "queue x"},
		{fmt.Errorf("page: %w", api.ErrInvalid), 422, "page"},
		{api.ErrConflict, 409, ""},
		{fmt.Errorf("still counting: %w", api.ErrUnavailable), 503, "still counting"},
		{context.DeadlineExceeded, 503, "too long"},
		{errors.New("open /secret/path: denied"), 500, "internal error"},
	} {
		n.Err = x.err
		_, err := c.Queues(t.Context(), api.QueueFilter{})
		if status(err) != x.want || !strings.Contains(err.Error(), x.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: answered %v, want %d %q", x.err, err, x.want, x.says)
		}
	}
}

func get(t testing.TB, u string, change func(*http.Request)) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func TestHealth(t *testing.T) {
	n := apitest.New()
	srv, _ := serve(t, n, api.GuardOptions{})
	if code, _, _ := get(t, srv.URL+"/readyz", nil); code != 200 {
		t.Errorf("readyz = %d", code)
	}
	n.Reasons = []string{"counting queues", "events replay"}
	if code, _, body := get(t, srv.URL+"/readyz", nil); code != 503 || body != "counting queues\nevents replay\n" {
		t.Errorf("readyz = %d %q", code, body)
	}
	if code, _, _ := get(t, srv.URL+"/livez", nil); code != 200 {
		t.Errorf("livez = %d", code)
	}
	if code, _, _ := get(t, srv.URL+"/debug/pprof/", nil); code != 404 {
		t.Errorf("pprof without being enabled = %d", code)
	}
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: n, Pprof: true})
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/", nil))
	if w.Code != 200 {
		t.Errorf("pprof enabled = %d", w.Code)
	}
}

func TestMetrics(t *testing.T) {
	srv, _ := serve(t, apitest.New(), api.GuardOptions{})
	code, _, body := get(t, srv.URL+"/metrics", nil)
	if code != 200 {
		t.Fatalf("metrics = %d %s", code, body)
	}
	for _, want := range []string{
		`hikyaku_build_info{node="tokyo-1",version="test"} 1`,
		`hikyaku_queued 120020`,
		`hikyaku_queued_by_carrier{carrier="docomo"} 120000`,
		`hikyaku_queued_by_carrier{carrier="other"} 5`,
		`hikyaku_ingest_messages_total{tenant="tenant999"} 999`,
		// 0 to 899 are beyond the hundred largest: 899 * 900 / 2
		`hikyaku_ingest_messages_total{tenant="other"} 404550`,
		`hikyaku_ingest_accept_seconds_bucket{le="0.001"} 5`,
		`hikyaku_ingest_accept_seconds_bucket{le="0.01"} 8`,
		`hikyaku_ingest_accept_seconds_count 9`,
		`hikyaku_gate_closed{gate="spool"} 1`,
		`hikyaku_oldest_silent_delivery_seconds 4`,
		`hikyaku_delivery_replies_total{class="4",phase="rcpt"} 44`,
		`hikyaku_delivery_verdicts_total{carrier="docomo",category="rate"} 1e+06`,
		`hikyaku_delivery_verdicts_total{carrier="other",category="rate"} 2`,
		`hikyaku_delivery_verdicts_total{carrier="c998",category="unclassified"} 998`,
		// 0 to 499 are beyond the five hundred largest: 499 * 500 / 2
		`hikyaku_delivery_verdicts_total{carrier="other",category="unclassified"} 124750`,
		`hikyaku_delivery_stage_seconds_count{stage="data"} 3`,
		`hikyaku_events_consumer_behind{consumer="webhook"} 12`,
		`go_goroutines`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if n := strings.Count(body, "hikyaku_ingest_messages_total{"); n != 101 {
		t.Errorf("%d tenants printed, want 100 and other", n)
	}
}

func TestGuard(t *testing.T) {
	n := apitest.New()
	open, _ := serve(t, n, api.GuardOptions{Hosts: []string{"tokyo-1"}})
	locked, c := serve(t, n, api.GuardOptions{Token: "s3cret"})
	if _, err := c.Queues(t.Context(), api.QueueFilter{}); err != nil {
		t.Errorf("with the token: %v", err)
	}
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, x := range []struct {
		name   string
		url    string
		change func(*http.Request)
		want   int
	}{
		{"no token", locked.URL + "/v1/queues", nil, 401},
		{"wrong token", locked.URL + "/v1/queues", header("Authorization", "Bearer s3cres"), 401},
		{"wrong scheme", locked.URL + "/v1/queues", header("Authorization", "Basic s3cret"), 401},
		{"metrics need it too", locked.URL + "/metrics", nil, 401},
		{"unknown path needs it too", locked.URL + "/none", nil, 401},
		{"health does not", locked.URL + "/livez", nil, 200},
		{"rebound name", open.URL + "/v1/queues", host("evil.example"), 421},
		{"rebound name with port", open.URL + "/v1/queues", host("evil.example:8080"), 421},
		{"known name", open.URL + "/v1/queues", host("Tokyo-1:8080"), 200},
		{"localhost", open.URL + "/v1/queues", host("localhost:8080"), 200},
		{"address", open.URL + "/v1/queues", host("[::1]:8080"), 200},
	} {
		code, h, body := get(t, x.url, x.change)
		if code != x.want {
			t.Errorf("%s: %d %s, want %d", x.name, code, body, x.want)
		}
		if code >= 400 && h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: no problem document but %s", x.name, h.Get("Content-Type"))
		}
	}

	post := func(change func(*http.Request)) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, open.URL+"/v1/actions", strings.NewReader(`{"verb":"cancel","all":true}`))
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := post(header("Sec-Fetch-Site", "cross-site")); code != 403 {
		t.Errorf("a web page's request: %d", code)
	}
	if code := post(header("Origin", "http://evil.example")); code != 403 {
		t.Errorf("another origin's request: %d", code)
	}
	if len(n.Asked()) != 0 {
		t.Error("a web page cancelled all mail")
	}
	big := func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 2<<20))), 2<<20
	}
	if code := post(big); code != 413 {
		t.Errorf("2 MiB body: %d", code)
	}
}

func TestGuardWithoutTokenIsLoopbackOnly(t *testing.T) {
	h := api.Guard(http.NewServeMux(), api.GuardOptions{})
	for remote, want := range map[string]int{"127.0.0.1:5": 404, "[::1]:5": 404, "192.0.2.1:5": 403, "": 403} {
		r := httptest.NewRequest("GET", "http://127.0.0.1/v1/queues", nil)
		r.RemoteAddr = remote
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("client %q: %d, want %d", remote, w.Code, want)
		}
	}
	for listen, ok := range map[string]bool{"127.0.0.1:8080": true, "[::1]:80": true, "localhost:80": true, "0.0.0.0:80": false, ":80": false, "192.0.2.1:80": false, "x": false} {
		if err := api.CheckListen(listen, ""); (err == nil) != ok {
			t.Errorf("listen on %s without token: %v", listen, err)
		}
	}
	if err := api.CheckListen("0.0.0.0:8080", "s3cret"); err != nil {
		t.Errorf("with a token: %v", err)
	}
}

func TestEventStreams(t *testing.T) {
	n := apitest.New()
	_, c := serve(t, n, api.GuardOptions{})
	var types []string
	collect := func(line []byte) error {
		r, err := client.DecodeEvent(line)
		if err != nil {
			return err
		}
		types = append(types, string(r.Type))
		return nil
	}
	found, err := c.SearchEvents(t.Context(), api.EventQuery{ID: apitest.MessageID}, collect)
	if err != nil || found.Matches != 3 || !slices.Equal(types, []string{"accepted", "deferred", "delivered"}) {
		t.Errorf("search: %v %+v %v", types, found, err)
	}
	found, err = c.SearchEvents(t.Context(), api.EventQuery{Limit: 1}, collect)
	if err != nil || !found.Limited {
		t.Errorf("limited search: %+v %v", found, err)
	}
	if _, err := c.SearchEvents(t.Context(), api.EventQuery{Type: "exploded"}, collect); err == nil || !strings.Contains(err.Error(), "exploded") {
		t.Errorf("error in the stream: %v", err)
	}
	if _, err := c.SearchEvents(t.Context(), api.EventQuery{ID: "x"}, collect); status(err) != 422 {
		t.Errorf("bad id: %v", err)
	}
	types = nil
	if err := c.TailEvents(t.Context(), api.EventQuery{}, time.Second, collect); err != nil || len(types) != 3 {
		t.Errorf("tail for a second: %v, %v", types, err)
	}
	stop := errors.New("stop")
	if err := c.TailEvents(t.Context(), api.EventQuery{}, time.Minute, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped tail: %v", err)
	}
}

func TestTrace(t *testing.T) {
	n := apitest.New()
	srv, c := serve(t, n, api.GuardOptions{})
	var got []api.TraceLine
	keep := func(l *api.TraceLine) error { got = append(got, *l); return nil }
	if err := c.Trace(t.Context(), api.TraceFilter{Direction: "out"}, time.Minute, 2, keep); err != nil || len(got) != 2 || got[1].Text != "EHLO mail.shop.example" {
		t.Errorf("trace of two lines: %+v, %v", got, err)
	}
	// A third stream beside two is refused; when they end, there is room again.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var open []io.ReadCloser
	deadline := time.Now().Add(10 * time.Second)
	for len(open) < 2 {
		s, err := caller{base: srv.URL}.Stream(ctx, "GET", "/v1/trace", nil, nil)
		if err == nil {
			open = append(open, s)
		} else if status(err) != 503 || time.Now().After(deadline) { // the one before ends here before it does there
			t.Fatal(err)
		}
	}
	if err := c.Trace(t.Context(), api.TraceFilter{}, time.Second, 1, keep); status(err) != 503 {
		t.Errorf("third stream: %v", err)
	}
	for _, s := range open {
		s.Close()
	}
	deadline = time.Now().Add(10 * time.Second)
	for {
		err := c.Trace(t.Context(), api.TraceFilter{}, time.Second, 1, keep)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("streams that ended still count: %v", err)
		}
	}
	// A stream that stops without its last line was cut.
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"type":"accepted"}`) }))
	defer cut.Close()
	if _, err := client.New(caller{base: cut.URL}).SearchEvents(t.Context(), api.EventQuery{}, func([]byte) error { return nil }); !errors.Is(err, client.ErrCut) {
		t.Errorf("cut stream: %v", err)
	}
}

func TestOpenAPIDocument(t *testing.T) {
	srv, _ := serve(t, apitest.New(), api.GuardOptions{})
	code, _, body := get(t, srv.URL+api.OpenAPIPath+"-3.0.json", nil)
	if code != 200 {
		t.Fatalf("document = %d", code)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("document is not valid: %v", err)
	}
	// Every operation is there and answers something else than 404.
	seen := 0
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			seen++
			u := strings.NewReplacer("{id}", "x", "{tenant}", "x").Replace(path)
			if strings.Contains(u, "/x") || method != "GET" || strings.Contains(u, "trace") || strings.Contains(u, "tail") {
				continue
			}
			if code, _, body := get(t, srv.URL+u, nil); code != 200 && code != 422 {
				t.Errorf("%s %s: %d %s", method, u, code, body)
			}
		}
	}
	if seen < 23 {
		t.Errorf("%d operations in the document", seen)
	}
}

func FuzzQuery(f *testing.F) {
	n := apitest.New()
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: n})
	h := api.Guard(mux, api.GuardOptions{})
	paths := []string{"/v1/queues", "/v1/queues/why", "/v1/deliveries", "/v1/messages/" + apitest.MessageID, "/v1/jobs", "/v1/jobs/shop/news-1",
		"/v1/lanes", "/v1/sites", "/v1/budgets", "/v1/events", "/v1/actions", "/v1/overview"}
	for i, q := range []string{"limit=0", "limit=2&page=1", "sort=size&tenant=%00", "destination=%ff%fe", "since=2026-11-22T10:15:00Z", "since=yesterday",
		"limit=99999999999999999999", "page=-1", "unknown=1", "content=true", "limit=1;limit=2", "%zz", "id=01jd3q8v5x2m9k7c4t6r0w1yza-1"} {
		f.Add(uint8(i), q)
	}
	f.Fuzz(func(t *testing.T, which uint8, query string) {
		r := httptest.NewRequest("GET", "http://127.0.0.1"+paths[int(which)%len(paths)], nil)
		r.URL.RawQuery = query
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 || w.Code == 0 {
			t.Fatalf("%s?%s: %d %s", r.URL.Path, query, w.Code, w.Body)
		}
	})
}

func FuzzActionBody(f *testing.F) {
	n := apitest.New()
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: n})
	for _, b := range []string{`{"verb":"hold","all":true}`, `{"verb":"cancel"}`, `{"verb":"cancel","scope":{}}`, `[]`, `null`, ``, `{"verb":"cancel","scope":null,"all":false}`, `{"scope":{"tenant":1}}`} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := len(n.Asked())
		r := httptest.NewRequest("POST", "http://127.0.0.1/v1/actions", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		asked := n.Asked()
		if len(asked) > before {
			if a := asked[len(asked)-1]; a.Scope == (api.Scope{}) && a.Message == "" && !a.All {
				t.Fatalf("%q acted on everything without all", body)
			}
		}
	})
}
