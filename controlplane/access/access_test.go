package access_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/access"
	"hikyaku/controlplane/policy"
)

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// door is a guard before a mux that says who was let in.
type door struct {
	*access.Guard
	now     time.Time
	set     *policy.Set
	refused []access.Refusal
}

func newDoor(t testing.TB, token string, keys map[string]*policy.AdminKey) *door {
	t.Helper()
	d := &door{now: start}
	d.setKeys(t, keys)
	mux := http.NewServeMux()
	who := func(w http.ResponseWriter, r *http.Request) {
		id := access.From(r.Context())
		fmt.Fprintf(w, "%s/%s/%s/%s", id.Name, id.Role, id.Tenant, id.Author())
	}
	for _, route := range []string{"GET /v1/queues", "GET /v1/policy", "GET /livez", "POST /v1/actions", "PUT /v1/carriers/{carrier}/throttle", "POST /v1/policy:rollback", "GET /not/in/the/table"} {
		mux.HandleFunc(route, who)
	}
	d.Guard = access.New(mux, access.Options{Token: token, Policy: func() *policy.Set { return d.set }, Now: func() time.Time { return d.now },
		Refused: func(_ context.Context, r access.Refusal) { d.refused = append(d.refused, r) }})
	return d
}

func (d *door) setKeys(t testing.TB, keys map[string]*policy.AdminKey) {
	t.Helper()
	rs := []policy.Resource{{Kind: "Tenant", Name: "shop", Spec: &policy.Tenant{}}}
	for name, k := range keys {
		rs = append(rs, policy.Resource{Kind: "AdminKey", Name: name, Spec: k})
	}
	set, problems := policy.New(rs)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	d.set = set
}

// ask sends one request and gives status, headers and body.
func (d *door) ask(method, path, from, key string, change ...func(*http.Request)) *http.Response {
	r := httptest.NewRequest(method, "http://127.0.0.1"+path, nil)
	r.RemoteAddr = from
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result()
}

func text(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func network(t testing.TB, s string) policy.Network {
	t.Helper()
	return policy.Network{Prefix: netip.MustParsePrefix(s)}
}

const far, near = "192.0.2.7:4000", "127.0.0.1:4000"

func TestWhoIsLetInAsWhat(t *testing.T) {
	text1, hash1 := access.NewKey()
	text2, hash2 := access.NewKey()
	text3, hash3 := access.NewKey()
	text4, hash4 := access.NewKey()
	text5, hash5 := access.NewKey()
	other, _ := access.NewKey()
	keys := map[string]*policy.AdminKey{
		"ops":    {Role: policy.RoleOperator, Hash: hash1},
		"shop":   {Role: policy.RoleTenant, Tenant: "shop", Hash: hash2},
		"office": {Role: policy.RoleReadOnly, Hash: hash3, Networks: []policy.Network{network(t, "198.51.100.0/24")}},
		"old":    {Role: policy.RoleAdmin, Hash: hash4, Expires: policy.At(start)},
		"off":    {Role: policy.RoleAdmin, Hash: hash5, Disabled: true},
	}
	locked, open := newDoor(t, "s3cret", keys), newDoor(t, "", keys)
	for _, x := range []struct {
		name, from, key string
		d               *door
		status          int
		want            string
	}{
		{"token", far, "s3cret", locked, 200, "admin token/admin//admin token (ann)"},
		{"nothing, with a token set", near, "", locked, 401, "needs a bearer token"},
		{"nothing, from here", near, "", open, 200, "local client/admin//local client (ann)"},
		{"nothing, from elsewhere", far, "", open, 403, "loopback clients"},
		{"key", far, text1, locked, 200, "ops/operator//ops (ann)"},
		{"key where no token is set", far, text1, open, 200, "ops/operator//ops (ann)"},
		{"wrong key from here does not fall back to nothing", near, other, open, 401, "not valid here"},
		{"tenant's key", far, text2, locked, 200, "shop/tenant/shop/shop (ann)"},
		{"key from another network", far, text3, locked, 401, "not valid here"},
		{"key from its network", "198.51.100.9:1", text3, locked, 200, "office/read-only/"},
		{"expired", far, text4, locked, 401, "not valid here"},
		{"disabled", far, text5, locked, 401, "not valid here"},
		{"unknown", far, other, locked, 401, "not valid here"},
		{"id of a key, other secret", far, text1[:len("hk_admin_")+policy.KeyIDLen] + other[len("hk_admin_")+policy.KeyIDLen:], locked, 401, "not valid here"},
		{"hash instead of the key", far, hash1, locked, 401, "not valid here"},
		{"empty", far, " ", locked, 401, "not valid here"},
		{"very long", far, "hk_admin_" + strings.Repeat("a", 10000), locked, 401, "not valid here"},
	} {
		r := x.d.ask("GET", "/v1/queues", x.from, x.key, func(r *http.Request) { r.Header.Set(access.AuthorHeader, "ann") })
		body := text(t, r)
		if r.StatusCode != x.status || !strings.Contains(body, x.want) {
			t.Errorf("%s: %d %s, want %d …%s…", x.name, r.StatusCode, body, x.status, x.want)
		}
		if r.StatusCode == 401 && (r.Header.Get("WWW-Authenticate") == "" || r.Header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s: headers %v", x.name, r.Header)
		}
		if strings.Contains(body, "expired") || strings.Contains(body, "disabled") {
			t.Errorf("%s: the answer says more than it should: %s", x.name, body)
		}
	}
	var reasons []string
	for _, r := range locked.refused {
		reasons = append(reasons, r.Reason)
		if strings.Contains(fmt.Sprint(r), text1[20:]) {
			t.Errorf("a refusal holds a key: %+v", r)
		}
	}
	for _, want := range []string{"key office may not be used from this address", "key old has expired", "key off is disabled", "no such key", "not the token, and no admin key"} {
		if !strings.Contains(strings.Join(reasons, "\n"), want) {
			t.Errorf("nobody was told %q: %q", want, reasons)
		}
	}
	// A key that is taken out of policy is out at once.
	locked.setKeys(t, nil)
	if r := locked.ask("GET", "/v1/queues", "203.0.113.1:1", text1); r.StatusCode != 401 {
		t.Errorf("a deleted key: %d", r.StatusCode)
	}
}

func TestRolesOnRoutes(t *testing.T) {
	keys, texts := map[string]*policy.AdminKey{}, map[string]string{}
	for _, role := range []string{policy.RoleAdmin, policy.RoleOperator, policy.RoleReadOnly, policy.RoleTenant} {
		k, hash := access.NewKey()
		keys[role], texts[role] = &policy.AdminKey{Role: role, Hash: hash}, k
	}
	keys[policy.RoleTenant].Tenant = "shop"
	d := newDoor(t, "", keys)
	for route, want := range map[string]string{ // admin, operator, read-only, tenant
		"GET /v1/queues":                   "yyyy",
		"GET /v1/policy":                   "yyyn",
		"POST /v1/actions":                 "yyny",
		"PUT /v1/carriers/docomo/throttle": "yynn",
		"POST /v1/policy:rollback":         "ynnn",
		"GET /not/in/the/table":            "ynnn",
		"HEAD /v1/policy":                  "yyyn",
	} {
		method, path, _ := strings.Cut(route, " ")
		got := ""
		for _, role := range access.Roles() {
			switch r := d.ask(method, path, far, texts[string(role)]); r.StatusCode {
			case 200:
				got += "y"
			case 403:
				got += "n"
			default:
				got += fmt.Sprint(r.StatusCode)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", route, got, want)
		}
	}
	// A role that this version does not know may do nothing.
	if access.Role("auditor").May("GET /v1/queues") || access.Role("").May("GET /docs") {
		t.Error("an unknown role may look")
	}
}

func TestGuessesAreSlowedDown(t *testing.T) {
	d := newDoor(t, "s3cret", nil)
	tries := func(from string, n int) (refused, limited int) {
		for range n {
			switch r := d.ask("GET", "/v1/queues", from, "guess"); r.StatusCode {
			case 401:
				refused++
			case 429:
				limited++
				if r.Header.Get("Retry-After") == "" || r.Header.Get("Retry-After") == "0" {
					t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
				}
			}
		}
		return refused, limited
	}
	if refused, limited := tries(far, 100); refused != 20 || limited != 80 {
		t.Errorf("%d refused, %d limited of 100 at once", refused, limited)
	}
	if r := d.ask("GET", "/v1/queues", far, "s3cret"); r.StatusCode != 429 {
		t.Errorf("the right token in between: %d", r.StatusCode)
	}
	if r := d.ask("GET", "/v1/queues", "192.0.2.8:4000", "s3cret"); r.StatusCode != 200 {
		t.Errorf("the neighbour: %d", r.StatusCode)
	}
	d.now = d.now.Add(time.Minute)
	if refused, limited := tries(far, 100); refused != 20 || limited != 80 {
		t.Errorf("a minute later %d refused, %d limited", refused, limited)
	}
	// The host part of IPv6 is the guesser's to choose.
	refused := 0
	for i := range 100 {
		n, _ := tries(fmt.Sprintf("[2001:db8::%x]:4000", i+1), 1)
		refused += n
	}
	if refused != 20 {
		t.Errorf("%d refused from one IPv6 network, want 20", refused)
	}
	// What nobody tried is not counted.
	for range 100 {
		if r := d.ask("GET", "/v1/queues", "192.0.2.9:1", ""); r.StatusCode != 401 {
			t.Fatalf("without a key: %d", r.StatusCode)
		}
	}
	m := d.Metrics()
	if m.Refused != 60 || m.Limited < 160 || m.Addresses == 0 {
		t.Errorf("%+v", m)
	}
	// Only a few are told one by one, and the rest is counted.
	if told := len(d.refused); told < 10 || told > 13 || m.Unaudited != m.Refused-uint64(told) {
		t.Errorf("%d refusals were told, %+v", told, m)
	}
	d.now = d.now.Add(time.Hour)
	tries("192.0.2.10:1", 1)
	if last := d.refused[len(d.refused)-1]; last.More == 0 {
		t.Errorf("%+v does not say how many were not told", last)
	}
}

// The table of addresses is bounded whatever comes.
func TestFailureTableIsBounded(t *testing.T) {
	d := newDoor(t, "s3cret", nil)
	for i := range 5000 {
		d.ask("GET", "/v1/queues", fmt.Sprintf("10.%d.%d.1:1", i/250, i%250), "guess")
	}
	if m := d.Metrics(); m.Addresses > 4096 || m.Evicted == 0 {
		t.Errorf("%+v", m)
	}
}

func TestProblemsOfTheMux(t *testing.T) {
	d := newDoor(t, "", nil)
	for _, x := range []struct {
		method, path string
		status       int
		allow        string
	}{{"GET", "/v1/none", 404, ""}, {"GET", "/v1/queues/", 404, ""}, {"DELETE", "/v1/queues", 405, "GET, HEAD"}, {"BREW", "/v1/actions", 405, "POST"}} {
		r := d.ask(x.method, x.path, near, "")
		var p struct {
			Title, Detail string
			Status        int
		}
		if err := json.Unmarshal([]byte(text(t, r)), &p); err != nil || r.StatusCode != x.status || p.Status != x.status || p.Title == "" || p.Detail == "" || r.Header.Get("Allow") != x.allow {
			t.Errorf("%s %s: %d %v %+v %v", x.method, x.path, r.StatusCode, r.Header, p, err)
		}
	}
	if r := d.ask("GET", "/livez", far, ""); r.StatusCode != 200 {
		t.Errorf("health from anywhere: %d", r.StatusCode)
	}
}

// What a control plane says of who asked counts behind Peer, and nowhere else.
func TestOnBehalf(t *testing.T) {
	mux := http.NewServeMux()
	var got access.Identity
	mux.HandleFunc("GET /v1/queues", func(_ http.ResponseWriter, r *http.Request) { got = access.From(r.Context()) })
	mux.HandleFunc("GET /v1/policy", func(http.ResponseWriter, *http.Request) {})
	peer, guard := access.Peer(mux), access.New(mux, access.Options{})
	asked := func(h http.Handler, id *access.Identity, path string) int {
		r := httptest.NewRequest("GET", "http://127.0.0.1"+path, nil)
		r.RemoteAddr = near
		if id != nil {
			id.Pass(r.Header)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	shop := &access.Identity{Name: "shop-key", Role: access.Tenant, Tenant: "shop", Claimed: "ann\r\nX: y" + strings.Repeat("z", 300)}
	if code := asked(peer, shop, "/v1/queues"); code != 200 || got.Name != "shop-key" || got.Role != access.Tenant || got.Tenant != "shop" || strings.ContainsAny(got.Claimed, "\r\n") || len(got.Claimed) > 128 {
		t.Errorf("%d %+v", code, got)
	}
	if code := asked(peer, shop, "/v1/policy"); code != 403 {
		t.Errorf("a tenant through a peer reads policy: %d", code)
	}
	if code := asked(peer, nil, "/v1/queues"); code != 200 || got.Role != access.Admin || got.Name != "peer" {
		t.Errorf("the peer itself: %d %+v", code, got)
	}
	for _, bad := range []*access.Identity{{Name: "x", Role: access.Tenant}, {Name: "x", Role: access.Admin, Tenant: "shop"}, {Name: "x", Role: "root"}, {Name: "x"}} {
		if code := asked(peer, bad, "/v1/queues"); code != 403 {
			t.Errorf("%+v: %d", bad, code)
		}
	}
	if code := asked(guard, shop, "/v1/queues"); code != 200 || got.Name != "local client" || got.Role != access.Admin {
		t.Errorf("through the guard: %d %+v", code, got)
	}
}

func TestAuthor(t *testing.T) {
	for want, i := range map[string]access.Identity{
		"unknown": {}, "ann": {Claimed: "ann"}, "ops": {Name: "ops"}, "ops (ann)": {Name: "ops", Claimed: "ann"},
	} {
		if got := i.Author(); got != want {
			t.Errorf("%+v: %q, want %q", i, got, want)
		}
	}
}
