package api_test

import (
	"errors"
	"net/http"
	"testing"

	"hikyaku/controlplane/client"
)

func TestWebhooksOfAllNodes(t *testing.T) {
	b := newBed(t, nodes{
		"GET /v1/webhooks": func(node string, _ *http.Request) (int, any) {
			return 200, map[string]any{"items": []any{map[string]any{"name": "z", "state": "ok"}, map[string]any{"name": "a", "state": "open", "behind": 3, "last_given_up": map[string]any{"first": "x-1", "events": 2}}}}
		},
		"POST /v1/webhooks/a/test": func(node string, _ *http.Request) (int, any) {
			return 200, map[string]any{"name": "a", "ok": node == "tokyo-1", "http_status": 200}
		},
		"GET /v1/signing-keys": func(node string, _ *http.Request) (int, any) {
			return 200, map[string]any{"items": []any{map[string]any{"name": "k", "domain": "example.com", "selector": "s1", "dns_txt": "p=x"}, map[string]any{"name": "file", "dns_txt": "p=" + node}}}
		},
		"GET /v1/blocklists": func(node string, _ *http.Request) (int, any) {
			return 200, map[string]any{"items": []any{map[string]any{"source": node, "zone": "b.test", "state": "clear"}, map[string]any{"source": node, "zone": "a.test", "state": "listed"}}}
		},
	})
	ctx := t.Context()
	ws, err := b.client.Webhooks(ctx, nil)
	if err != nil || len(ws.Items) != 4 || ws.Complete || ws.Items[0].Name != "a" || ws.Items[0].Node != "tokyo-1" || ws.Items[1].Node != "tokyo-2" || ws.Items[1].LastGivenUp.Events != 2 {
		t.Errorf("webhooks: %+v, %v", ws, err)
	}
	if ws, err := b.client.Webhooks(ctx, []string{"tokyo-2"}); err != nil || len(ws.Items) != 2 || !ws.Complete {
		t.Errorf("of one node: %+v, %v", ws, err)
	}
	ps, err := b.client.TestWebhook(ctx, nil, "a")
	if err != nil || len(ps.Items) != 2 || !ps.Items[0].OK || ps.Items[1].OK || ps.Items[1].Node != "tokyo-2" || ps.Answered != 2 {
		t.Errorf("pings: %+v, %v", ps, err)
	}
	var p *client.Error
	if _, err := b.client.TestWebhook(ctx, nil, "none"); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("ping of nobody: %v", err)
	}
	ks, err := b.client.SigningKeys(ctx, nil)
	if err != nil || len(ks.Items) != 3 || ks.Items[2].Name != "k" { // a key from a file can differ
		t.Errorf("keys: %+v, %v", ks, err)
	}
	ls, err := b.client.Blocklists(ctx, nil)
	if err != nil || len(ls.Items) != 4 || ls.Items[0].Zone != "a.test" || ls.Items[0].State != "listed" || ls.Items[3].Node != "tokyo-2" {
		t.Errorf("listings: %+v, %v", ls, err)
	}
}
