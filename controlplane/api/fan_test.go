package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/api"
	"hikyaku/controlplane/api/apitest"
	"hikyaku/controlplane/client"
	"hikyaku/controlplane/policy"
	"hikyaku/controlplane/store"
)

// bed is the API over a cluster whose nodes are handlers of the test.
type bed struct {
	*httptest.Server
	cluster *apitest.Cluster
	audit   *apitest.Audit
	store   *store.File
	client  *client.Cluster
	policy  *client.Policy
}

// nodes answers for the nodes tokyo-1 and tokyo-2 by path; without an entry, 404.
type nodes map[string]func(node string, r *http.Request) (int, any)

func newBed(t testing.TB, n nodes) *bed {
	t.Helper()
	f, err := store.OpenFile(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	b := &bed{store: f, cluster: apitest.New(func() int64 { return f.Snapshot().Revision }), audit: &apitest.Audit{}}
	for _, name := range []string{"tokyo-1", "tokyo-2"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fn := n[r.Method+" "+r.URL.Path]
			if fn == nil {
				fn = func(string, *http.Request) (int, any) { return 404, map[string]any{"detail": "not found"} }
			}
			status, v := fn(name, r)
			w.WriteHeader(status)
			if text, ok := v.(string); ok {
				io.WriteString(w, text)
				return
			}
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
		}))
		t.Cleanup(s.Close)
		b.cluster.Peer(name, s.Listener.Addr().String())
	}
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Store: f, Cluster: b.cluster, Audit: b.audit, Version: "test", Peers: api.HTTPPeers{Client: http.DefaultClient, Scheme: "http"}})
	b.Server = httptest.NewServer(access.New(mux, access.Options{MaxBody: api.MaxBody, Policy: f.Snapshot}))
	t.Cleanup(b.Server.Close)
	c, err := client.New(b.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.client, b.policy = c.Cluster("ann"), c.Policy("ann")
	return b
}

// A merged listing has every row of every node once, in order, over pages of any
// size, and says who is missing on each of them.
func TestMergedPages(t *testing.T) {
	rows := map[string][]int{"tokyo-1": {90, 70, 50, 30, 30, 10}, "tokyo-2": {80, 70, 60, 5, 4, 3, 2}}
	b := newBed(t, nodes{"GET /v1/queues": func(node string, r *http.Request) (int, any) {
		from, _ := strconv.Atoi(r.URL.Query().Get("page"))
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || r.URL.Query().Get("tenant") != "shop" || r.URL.Query().Get("sort") != "size" {
			return 422, map[string]any{"detail": "bad query " + r.URL.RawQuery}
		}
		all := rows[node]
		end := min(from+limit, len(all))
		qs := []map[string]any{}
		for i := from; i < end; i++ {
			qs = append(qs, map[string]any{"destination": fmt.Sprintf("%s-%d", node, i), "queued": all[i], "a_field_of_tomorrow": true})
		}
		out := map[string]any{"queues": qs, "total": len(all), "counted": node == "tokyo-1"}
		if end < len(all) {
			out["next"] = strconv.Itoa(end)
		}
		return 200, out
	}})
	for limit := 1; limit <= 14; limit++ {
		var got []int64
		seen := map[string]bool{}
		pages := 0
		for at := (client.Where{Limit: limit}); pages == 0 || at.Page != ""; pages++ {
			l, err := b.client.Queues(t.Context(), api.MailScope{Tenant: "shop"}, "", at)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Queues) > limit || pages > 50 {
				t.Fatalf("limit %d: %d rows on page %d", limit, len(l.Queues), pages)
			}
			for _, q := range l.Queues {
				if seen[q.Destination] || !strings.HasPrefix(q.Destination, q.Node) {
					t.Errorf("limit %d: %s of %s twice, or of the wrong node", limit, q.Destination, q.Node)
				}
				seen[q.Destination] = true
				got = append(got, q.Queued)
			}
			if pages == 0 && (l.Complete || l.Answered != 2 || l.Nodes != 3 || l.Missing[0].Node != "osaka-1" || l.Total != 13 || l.Counted) {
				t.Errorf("limit %d: %+v", limit, l)
			}
			at.Page = l.Next
		}
		if len(got) != 13 || !slices.IsSortedFunc(got, func(x, y int64) int { return cmp.Compare(y, x) }) {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
}

func TestPageTokensAreChecked(t *testing.T) {
	b := newBed(t, nil)
	for _, page := range []string{"x", "AAAA", strings.Repeat("A", 16000), "S0ktLgEA"} {
		var p *client.Error
		_, err := b.client.Queues(t.Context(), api.MailScope{}, "", client.Where{Page: page})
		if !errors.As(err, &p) || p.Status != 422 {
			t.Errorf("page %.20q: %v", page, err)
		}
	}
}

func TestOrdersReachEveryNodeOrSayWhoseNot(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]string{}
	b := newBed(t, nodes{"POST /v1/actions": func(node string, r *http.Request) (int, any) {
		var o struct{ ID, Author, Verb string }
		if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
			return 400, nil
		}
		mu.Lock()
		defer mu.Unlock()
		got[node] = append(got[node], o.ID+" "+o.Verb+" "+o.Author)
		return 200, map[string]any{"affected": 5, "too_late": 1, "too_late_ids": []string{node}}
	}})
	order := &api.MailOrder{Verb: "hold", Scope: api.MailScope{Destination: "Docomo.NE.jp."}, Reason: "blocked"}
	r, err := b.client.Act(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != api.NotEverywhere || r.Affected != 10 || r.TooLate != 2 || len(r.Acknowledged) != 2 || r.Missing[0].Node != "osaka-1" || r.Scope.Destination != "docomo.ne.jp" || !r.Audited {
		t.Errorf("%+v", r)
	}
	// osaka comes back: the same order reaches it alone, under the same id.
	b.cluster.Live("osaka-1", true)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got["osaka-1"] = append(got["osaka-1"], string(body))
		io.WriteString(w, `{"affected":1}`)
	}))
	defer s.Close()
	b.cluster.Peer("osaka-1", s.Listener.Addr().String())
	order.ID, order.Nodes = r.ID, []string{"osaka-1"}
	again, err := b.client.Act(t.Context(), order)
	if err != nil || again.Status != api.Everywhere || again.ID != r.ID || again.Affected != 1 || !again.Created.Equal(r.Created) {
		t.Errorf("%+v %v", again, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got["tokyo-1"]) != 1 || !strings.HasPrefix(got["tokyo-1"][0], r.ID+" hold local client (ann)") || len(got["osaka-1"]) != 1 || !strings.Contains(got["osaka-1"][0], `"id":"`+r.ID+`"`) {
		t.Errorf("the nodes were asked %q", got)
	}
	var log []string
	for _, e := range b.audit.Entries() {
		log = append(log, e.Action+" | "+e.Scope+" | "+e.Author+" | "+e.Result)
	}
	if want := []string{
		"hold | destination docomo.ne.jp | local client (ann) | order " + r.ID,
		"hold | order " + r.ID + " | local client (ann) | not everywhere: osaka-1",
		"hold | destination docomo.ne.jp | local client (ann) | order " + r.ID,
	}; !slices.Equal(log, want) {
		t.Errorf("audit:\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

// A hold is carried out though it cannot be written down: it may be what helps.
func TestOrderWithoutAudit(t *testing.T) {
	b := newBed(t, nodes{"POST /v1/actions": func(string, *http.Request) (int, any) { return 200, map[string]any{"affected": 1} }})
	b.audit.Fail(errors.New("no quorum"))
	r, err := b.client.Act(t.Context(), &api.MailOrder{Verb: "hold", All: true})
	if err != nil || r.Audited || r.Affected != 2 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestOrdersThatMakeNoSense(t *testing.T) {
	asked := false
	b := newBed(t, nodes{"POST /v1/actions": func(string, *http.Request) (int, any) { asked = true; return 200, map[string]any{} }})
	past := time.Now().Add(-time.Hour)
	for name, o := range map[string]*api.MailOrder{
		"no scope": {Verb: "cancel"}, "scope and all": {Verb: "hold", All: true, Scope: api.MailScope{Tenant: "x"}}, "unknown verb": {Verb: "explode", All: true},
		"scope and message": {Verb: "cancel", Message: "x", All: true}, "hold of a message": {Verb: "hold", Message: "01jd3q8v5x2m9k7c4t6r0w1yza"}, "expires of cancel": {Verb: "cancel", All: true, Expires: &past},
		"hold of the past": {Verb: "hold", All: true, Expires: &past}, "cancel of a source": {Verb: "cancel", Scope: api.MailScope{Source: "a1"}}, "id": {Verb: "hold", All: true, ID: "x"},
		"id to come": {Verb: "hold", All: true, ID: "7zzzzzzzzzzzzzzzzzzzzzzzzz"},
	} {
		var e *client.Error
		if _, err := b.client.Act(t.Context(), o); !errors.As(err, &e) || e.Status != 422 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.client.Act(t.Context(), &api.MailOrder{Verb: "hold", All: true, Nodes: []string{"nagoya-1"}}); err == nil || !strings.Contains(err.Error(), `no node "nagoya-1"`) {
		t.Errorf("unknown node: %v", err)
	}
	if asked {
		t.Error("a node was asked")
	}
}

// What nodes say in one voice is the answer; a node alone is an answer that
// lacks it.
func TestNodesThatRefuseOrBreak(t *testing.T) {
	for name, x := range map[string]struct {
		one, two int
		body     any
		status   int
		missing  int // with 200
	}{
		"all refuse":    {422, 422, map[string]any{"detail": "page token"}, 422, 0},
		"one refuses":   {422, 200, map[string]any{"detail": "page token"}, 200, 2},
		"one breaks":    {500, 200, "<html>", 200, 2},
		"both break":    {500, 503, "<html>", 200, 3},
		"not JSON":      {200, 200, "<html>", 200, 3},
		"other refusal": {403, 422, map[string]any{}, 200, 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, nodes{"GET /v1/queues/why": func(node string, _ *http.Request) (int, any) {
				status := x.one
				if node == "tokyo-2" {
					status = x.two
				}
				if status == 200 && x.body != "<html>" || status == 200 && name == "one breaks" {
					return 200, map[string]any{"queued": 3, "reasons": []any{}}
				}
				return status, x.body
			}})
			w, err := b.client.Why(t.Context(), api.MailScope{}, nil)
			var e *client.Error
			switch {
			case x.status != 200:
				if !errors.As(err, &e) || e.Status != x.status {
					t.Errorf("%v", err)
				}
			case err != nil || len(w.Missing) != x.missing || w.Complete:
				t.Errorf("%+v %v", w, err)
			}
		})
	}
}

func TestMessageIsWhereverItIs(t *testing.T) {
	b := newBed(t, nodes{"GET /v1/messages/m1": func(node string, _ *http.Request) (int, any) {
		if node == "tokyo-1" {
			return 404, map[string]any{"detail": "unknown"}
		}
		return 200, map[string]any{"id": "m1", "tenant": "shop", "deliveries": []any{map[string]any{"id": "m1-0"}}}
	}})
	m, err := b.client.Message(t.Context(), "m1", client.MessageOptions{})
	if err != nil || len(m.Messages) != 1 || m.Messages[0].Node != "tokyo-2" || m.Messages[0].Deliveries[0].Node != "tokyo-2" {
		t.Errorf("%+v %v", m, err)
	}
	// Nobody has it, but osaka does not answer: nobody can say that it is not there.
	var e *client.Error
	if _, err = b.client.Message(t.Context(), "m2", client.MessageOptions{}); !errors.As(err, &e) || e.Status != 503 && e.Status != 404 {
		t.Errorf("%v", err)
	}
	if e.Status != 503 || !strings.Contains(e.Detail, "osaka-1") {
		t.Errorf("%+v", e)
	}
	if _, err = b.client.Message(t.Context(), "m2", client.MessageOptions{Nodes: []string{"tokyo-1"}}); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("%v", err)
	}
}

func TestJobsAreSummedUp(t *testing.T) {
	job := func(node string, n int) map[string]any {
		state := "active"
		if node == "tokyo-2" {
			state = "paused"
		}
		return map[string]any{"tenant": "shop", "id": fmt.Sprintf("j%02d", n), "state": state, "created": apitest.Epoch, "updated": apitest.Epoch, "accepted": 10, "queued": 3}
	}
	b := newBed(t, nodes{
		"GET /v1/jobs": func(node string, r *http.Request) (int, any) {
			from, _ := strconv.Atoi(r.URL.Query().Get("page"))
			limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
			var js []any
			i := from
			for ; i < 10 && len(js) < limit; i++ {
				if node == "tokyo-2" && i%2 == 1 {
					continue
				}
				js = append(js, job(node, i))
			}
			out := map[string]any{"jobs": js}
			if i < 10 {
				out["next"] = strconv.Itoa(i)
			}
			return 200, out
		},
		"GET /v1/jobs/shop/j00":   func(node string, _ *http.Request) (int, any) { return 200, job(node, 0) },
		"PATCH /v1/jobs/shop/j00": func(node string, _ *http.Request) (int, any) { return 200, job("tokyo-2", 0) },
	})
	for limit := 1; limit < 12; limit++ {
		var got []string
		at := client.Where{Limit: limit}
		for first := true; first || at.Page != ""; first = false {
			l, err := b.client.Jobs(t.Context(), "", "", at)
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range l.Jobs {
				got = append(got, fmt.Sprintf("%s:%s:%d", j.ID, j.State, j.Accepted))
			}
			at.Page = l.Next
		}
		want := []string{"j00:mixed:20", "j01:active:10", "j02:mixed:20", "j03:active:10", "j04:mixed:20", "j05:active:10", "j06:mixed:20", "j07:active:10", "j08:mixed:20", "j09:active:10"}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %v", limit, got)
		}
	}
	state := "paused"
	if j, err := b.client.ChangeJob(t.Context(), "shop", "j00", api.JobOrder{State: &state}, nil); err != nil || j.State != "paused" || j.Accepted != 20 || j.Complete || len(j.On) != 2 {
		t.Errorf("%+v %v", j, err)
	}
	var e *client.Error
	if _, err := b.client.Job(t.Context(), "shop", "j77", []string{"tokyo-1"}); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("%v", err)
	}
}

func TestEventsAreMergedByTime(t *testing.T) {
	line := func(node string, second int) string {
		return fmt.Sprintf(`{"time":%q,"node":%q}`+"\n", apitest.Epoch.Add(time.Duration(second)*time.Second).Format(time.RFC3339Nano), node)
	}
	b := newBed(t, nodes{"GET /v1/events": func(node string, r *http.Request) (int, any) {
		if node == "tokyo-1" {
			return 200, line(node, 0) + line(node, 3) + line(node, 4) + `{"end":true,"found":{"matches":3,"segments":2}}` + "\n"
		}
		if r.URL.Query().Get("tenant") == "cut" {
			return 200, line(node, 1)
		}
		return 200, line(node, 1) + line(node, 2) + line(node, 5) + `{"end":true,"found":{"matches":3,"segments":1}}` + "\n"
	}})
	search := func(f client.EventFilter) (string, *api.StreamEnd) {
		t.Helper()
		order := ""
		end, err := b.client.SearchEvents(t.Context(), f, func(l []byte) error {
			var e struct{ Node string }
			if err := json.Unmarshal(l, &e); err != nil {
				return err
			}
			order += e.Node[len("tokyo-"):]
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return order, end
	}
	order, end := search(client.EventFilter{})
	if order != "122112" || end.Found.Matches != 6 || end.Found.Segments != 3 || end.Complete || len(end.Missing) != 1 {
		t.Errorf("order %s, end %+v", order, end)
	}
	if order, end = search(client.EventFilter{Limit: 4}); order != "1221" || !end.Found.Limited {
		t.Errorf("limited: %s %+v", order, end)
	}
	if order, end = search(client.EventFilter{Tenant: "cut"}); order != "1211" || len(end.Missing) != 2 {
		t.Errorf("cut: %s %+v", order, end)
	}
	if order, end = search(client.EventFilter{Nodes: []string{"tokyo-1"}}); order != "111" || !end.Complete {
		t.Errorf("one node: %s %+v", order, end)
	}
}

// Who asked travels to the nodes with each question.
func TestNodesAreToldWhoAsks(t *testing.T) {
	var h http.Header
	var mu sync.Mutex
	b := newBed(t, nodes{"GET /v1/queues": func(node string, r *http.Request) (int, any) {
		mu.Lock()
		defer mu.Unlock()
		h = r.Header
		return 200, map[string]any{"queues": []any{}, "counted": true}
	}})
	key, hash := access.NewKey()
	apply(t, b.policy, api.Resource{Kind: "Tenant", Name: "shop", Spec: &policy.Tenant{}}, api.Resource{Kind: "AdminKey", Name: "shop-key", Spec: &policy.AdminKey{Role: "tenant", Tenant: "shop", Hash: hash}})
	c, err := client.New(b.URL, client.Options{Token: key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cluster("bob").Queues(t.Context(), api.MailScope{}, "", client.Where{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	r := &http.Request{Header: h, URL: &url.URL{Path: "/"}, RemoteAddr: "127.0.0.1:1"}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	if r.Header.Get("Hikyaku-As") != "shop-key" || r.Header.Get("Hikyaku-As-Role") != "tenant" || r.Header.Get("Hikyaku-As-Tenant") != "shop" || r.Header.Get(access.AuthorHeader) != "bob" {
		t.Errorf("%v", h)
	}
}

func apply(t testing.TB, p *client.Policy, rs ...api.Resource) *api.Result {
	t.Helper()
	r, err := p.Apply(context.Background(), &api.ApplyRequest{Resources: rs})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
