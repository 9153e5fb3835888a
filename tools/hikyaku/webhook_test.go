package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hikyaku/node/api"
	"hikyaku/node/api/apitest"
)

// someHooks are webhooks in each state that is worth a look.
type someHooks struct{}

func (someHooks) Webhooks() []api.Webhook {
	ago := func(d time.Duration) *time.Time { t := time.Now().Add(-d); return &t }
	return []api.Webhook{
		{Name: "fine", Endpoint: "https://a.test", State: "ok", Posted: 12345, LastSuccess: ago(3 * time.Second)},
		{Name: "stuck", Tenant: "shop", Endpoint: "https://b.test", State: "open", Since: ago(2 * time.Hour), Behind: 900, BehindSeconds: 7201, GivenUp: 4, Lost: 2, LastError: "HTTP 500: \x1b[31mno"},
	}
}

func (someHooks) TestWebhook(_ context.Context, name string) (*api.WebhookTest, error) {
	if name == "stuck" {
		return &api.WebhookTest{Name: name, Seconds: 0.25, Error: "connection refused"}, nil
	}
	return &api.WebhookTest{Name: name, OK: true, HTTPStatus: 204, Seconds: 0.012}, nil
}

func hookNode(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	api.Register(mux, api.Options{Node: apitest.New(), Webhooks: someHooks{}})
	srv := httptest.NewServer(api.Guard(mux, api.GuardOptions{}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestWebhookCommands(t *testing.T) {
	url := hookNode(t)
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"webhook", "ls"}, 0, []string{"fine ", "12345", "open since 2h00m", "900", "4 + 2 lost", `HTTP 500: \x1b[31mno`}},
		{[]string{"webhook", "list", "--json"}, 0, []string{`"behind_seconds": 7201`}},
		{[]string{"webhook", "test", "fine"}, 0, []string{"taken", "204", "12ms"}},
		{[]string{"webhook", "test", "stuck"}, 1, []string{"not taken", "connection refused"}},
		{[]string{"webhook", "test", "none"}, 1, []string{"hikyaku webhook list"}},
		{[]string{"webhook", "test"}, 2, []string{"1 argument"}},
	} {
		var out strings.Builder
		code := run(append([]string{"--api", url}, c.args...), strings.NewReader(""), &out, &out)
		if code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.args, code, c.code)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%v lacks %q:\n%s", c.args, w, out.String())
			}
		}
	}
}

// badNews is a node with a source that is listed.
type badNews struct{ signers }

func (badNews) Blocklists() []api.Listing {
	at := time.Now().Add(-time.Hour)
	return []api.Listing{
		{Source: "one", Address: "192.0.2.1", Zone: "a.test", State: "listed", Means: []string{"SBL"}, Reason: "see https://a.test/?192.0.2.1", Checked: &at, Since: &at},
		{Source: "one", Address: "192.0.2.1", Zone: "b.test", State: "clear", Checked: &at},
	}
}

func TestBlocklistsCommand(t *testing.T) {
	for _, x := range []struct {
		senders api.Senders
		args    []string
		code    int
		want    []string
	}{
		{badNews{}, nil, 1, []string{"listed since 1h00m", "SBL", "see https://a.test", "b.test     clear"}},
		{badNews{}, []string{"--listed", "--json"}, 1, []string{`"zone": "a.test"`}},
		{signers{}, nil, 0, []string{"SOURCE"}},
	} {
		mux := http.NewServeMux()
		api.Register(mux, api.Options{Node: apitest.New(), Senders: x.senders})
		srv := httptest.NewServer(api.Guard(mux, api.GuardOptions{}))
		var out strings.Builder
		code := run(append([]string{"--api", srv.URL, "blocklists"}, x.args...), strings.NewReader(""), &out, &out)
		srv.Close()
		if code != x.code {
			t.Errorf("%v: exit code %d, want %d", x.args, code, x.code)
		}
		for _, w := range x.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%v lacks %q:\n%s", x.args, w, out.String())
			}
		}
		if len(x.args) > 0 && strings.Contains(out.String(), "b.test") {
			t.Errorf("--listed shows more:\n%s", out.String())
		}
	}
}
