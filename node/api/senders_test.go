package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hikyaku/controlplane/access"
	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
	"hikyaku/node/api/client"
)

// hooks are webhooks of two tenants and one of all.
type hooks struct{}

func (hooks) Webhooks() []api.Webhook {
	at := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	return []api.Webhook{
		{Name: "all", Endpoint: "https://a.test", State: "ok", Posted: 5, Requests: 2},
		{Name: "other", Tenant: "other", Endpoint: "https://b.test", State: "gone", Since: &at},
		{Name: "shop", Tenant: "shop", Endpoint: "https://c.test", State: "open", Since: &at, Behind: 7, BehindSeconds: 1.5, Failures: 3, GivenUp: 2, Lost: 1, Unreadable: 4, LastError: "HTTP 500"},
	}
}

func (hooks) TestWebhook(_ context.Context, name string) (*api.WebhookTest, error) {
	if name == "all" {
		return nil, fmt.Errorf("webhook %s: %w", name, api.ErrUnavailable)
	}
	return &api.WebhookTest{Name: name, OK: true, HTTPStatus: 204, Seconds: 0.5}, nil
}

type senders struct{}

func (senders) SigningKeys() []api.SigningKey {
	return []api.SigningKey{{Name: "k", Domain: "example.com", Selector: "s1", DNSText: "v=DKIM1; p=x"}}
}

func (senders) Blocklists() []api.Listing {
	return []api.Listing{{Source: "one", Address: "192.0.2.1", Zone: "zen.test", State: "listed", Means: []string{"SBL"}}, {Source: "one", Address: "192.0.2.1", Zone: "b.test", State: "clear"}}
}

func TestWebhooksAndSenders(t *testing.T) {
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: apitest.New(), Webhooks: hooks{}, Senders: senders{}})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c := client.New(caller{base: srv.URL})
	ctx := t.Context()
	ws, err := c.Webhooks(ctx)
	if err != nil || len(ws.Items) != 3 || ws.Items[2].Behind != 7 {
		t.Errorf("webhooks: %+v, %v", ws, err)
	}
	if p, err := c.TestWebhook(ctx, "shop"); err != nil || !p.OK || p.HTTPStatus != 204 {
		t.Errorf("ping: %+v, %v", p, err)
	}
	if _, err := c.TestWebhook(ctx, "none"); status(err) != 404 {
		t.Errorf("ping of nobody: %v", err)
	}
	if _, err := c.TestWebhook(ctx, "all"); status(err) != 503 {
		t.Errorf("ping of one that cannot: %v", err)
	}
	if ks, err := c.SigningKeys(ctx); err != nil || len(ks) != 1 || ks[0].DNSText != "v=DKIM1; p=x" {
		t.Errorf("keys: %+v, %v", ks, err)
	}
	if ls, err := c.Blocklists(ctx); err != nil || len(ls) != 2 || ls[0].State != "listed" {
		t.Errorf("blocklists: %+v, %v", ls, err)
	}
	_, _, text := get(t, srv.URL+"/metrics", nil)
	for _, want := range []string{
		`hikyaku_webhooks{state="open"} 1`, `hikyaku_webhook_behind{webhook="shop"} 7`, `hikyaku_webhook_behind_seconds{webhook="shop"} 1.5`,
		`hikyaku_webhook_posted_events_total{webhook="all"} 5`, `hikyaku_webhook_given_up_events_total{webhook="shop"} 2`, `hikyaku_webhook_lost_total{webhook="shop"} 1`, `hikyaku_webhook_unreadable_lines_total{webhook="shop"} 4`,
		`hikyaku_blocklist_checks{state="clear"} 1`, `hikyaku_blocklist_listed{source="one"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestATenantSeesItsOwnWebhooksOnly(t *testing.T) {
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: apitest.New(), Webhooks: hooks{}})
	srv := httptest.NewServer(access.Peer(mux))
	defer srv.Close()
	ask := func(method, path string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		access.Identity{Name: "k", Role: access.Tenant, Tenant: "shop"}.Pass(r.Header)
		w := httptest.NewRecorder()
		access.Peer(mux).ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	if code, text := ask("GET", "/v1/webhooks"); code != 200 || !strings.Contains(text, `"name":"shop"`) || strings.Contains(text, "other") || strings.Contains(text, `"all"`) {
		t.Errorf("list: %d %s", code, text)
	}
	if code, text := ask("POST", "/v1/webhooks/shop/test"); code != 200 {
		t.Errorf("own: %d %s", code, text)
	}
	for _, name := range []string{"other", "all", "none"} {
		if code, text := ask("POST", "/v1/webhooks/"+name+"/test"); code != 404 {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
}

func TestWithoutWebhooksThereAreNone(t *testing.T) {
	_, c := serve(t, apitest.New(), api.GuardOptions{})
	if ws, err := c.Webhooks(t.Context()); err != nil || len(ws.Items) != 0 {
		t.Errorf("%+v, %v", ws, err)
	}
	if _, err := c.TestWebhook(t.Context(), "x"); status(err) != 404 {
		t.Errorf("ping: %v", err)
	}
	if ks, err := c.SigningKeys(t.Context()); err != nil || len(ks) != 0 {
		t.Errorf("%+v, %v", ks, err)
	}
}
