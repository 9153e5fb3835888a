package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hikyaku/controlplane/access"
)

// Webhooks is what posts events, beside the node.
type Webhooks interface {
	// Webhooks lists all of policy, by name.
	Webhooks() []Webhook
	// TestWebhook posts a ping; ErrNotFound is that there is none of the name.
	TestWebhook(ctx context.Context, name string) (*WebhookTest, error)
}

// Webhook is how one webhook stands on a node. Each node posts its own events.
type Webhook struct {
	Name          string        `json:"name"`
	Tenant        string        `json:"tenant,omitempty" doc:"whose events are posted; empty is all"`
	Endpoint      string        `json:"endpoint" doc:"scheme and host of the URL; the rest can be a secret"`
	State         string        `json:"state" enum:"ok,retrying,open,gone,disabled,broken" doc:"open: failing for long, asked now and then; gone: the endpoint answered 410; broken: the event log cannot be read"`
	Since         *time.Time    `json:"since,omitempty" doc:"of the run of failures"`
	Behind        uint64        `json:"behind" doc:"numbers of the event log not yet dealt with"`
	BehindSeconds float64       `json:"behind_seconds" doc:"age of the oldest event that waits"`
	LastSuccess   *time.Time    `json:"last_success,omitempty"`
	LastError     string        `json:"last_error,omitempty"`
	LastErrorAt   *time.Time    `json:"last_error_at,omitempty"`
	NextTry       *time.Time    `json:"next_try,omitempty"`
	Posted        uint64        `json:"posted" doc:"events, since the node started, as the next two"`
	Requests      uint64        `json:"requests" doc:"that were taken"`
	Failures      uint64        `json:"failures" doc:"requests that were not"`
	GivenUp       uint64        `json:"given_up" doc:"events that will not be posted"`
	Lost          uint64        `json:"lost" doc:"numbers of the event log that its retention removed before they were read, or that are damaged"`
	Unreadable    uint64        `json:"unreadable" doc:"lines of the event log that are not JSON and were left out, since the node started"`
	LastGivenUp   *GivenUpRange `json:"last_given_up,omitempty"`
}

// GivenUpRange is events of one run of failures that will not be posted.
type GivenUpRange struct {
	First  string    `json:"first" doc:"event id"`
	Last   string    `json:"last"`
	Events int       `json:"events"`
	From   time.Time `json:"from" doc:"time of the oldest"`
	To     time.Time `json:"to"`
	At     time.Time `json:"at"`
	Why    string    `json:"why"`
}

// WebhookList is all webhooks of a node.
type WebhookList struct {
	Items []Webhook `json:"items"`
}

// WebhookTest is what came of a ping.
type WebhookTest struct {
	Name       string  `json:"name"`
	OK         bool    `json:"ok" doc:"the endpoint took it (2xx)"`
	HTTPStatus int     `json:"http_status,omitempty"`
	Seconds    float64 `json:"seconds"`
	Error      string  `json:"error,omitempty"`
}

func (a *api) registerWebhooks(h huma.API) {
	type none struct{}
	route(h, a, get("list-webhooks", "/v1/webhooks", "List webhooks and how they stand on this node"), func(ctx context.Context, _ *none) (*WebhookList, error) {
		return &WebhookList{Items: a.ownWebhooks(ctx)}, nil
	})
	type testIn struct {
		Name string `path:"name" maxLength:"64"`
	}
	post := huma.Operation{
		OperationID: "test-webhook", Method: http.MethodPost, Path: "/v1/webhooks/{name}/test", DefaultStatus: http.StatusOK,
		Summary: "Post an event of the type ping to a webhook", Errors: []int{http.StatusNotFound},
	}
	route(h, a, post, func(ctx context.Context, in *testIn) (*WebhookTest, error) {
		if !slices.ContainsFunc(a.ownWebhooks(ctx), func(w Webhook) bool { return w.Name == in.Name }) {
			return nil, hidden("webhook")
		}
		return a.webhooks.TestWebhook(ctx, in.Name)
	})
}

// ownWebhooks are those that the asker may see.
func (a *api) ownWebhooks(ctx context.Context) []Webhook {
	out := []Webhook{}
	if a.webhooks == nil {
		return out
	}
	id := access.From(ctx)
	for _, w := range a.webhooks.Webhooks() {
		if id.Owns(w.Tenant) {
			out = append(out, w)
		}
	}
	return out
}
