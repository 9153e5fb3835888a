package client

import (
	"context"
	"net/http"
	"net/url"

	"hikyaku/node/api"
)

// Webhooks lists webhooks and how they stand on the node.
func (c *Client) Webhooks(ctx context.Context) (*api.WebhookList, error) {
	return get[api.WebhookList](ctx, c.c, "/v1/webhooks", nil)
}

// TestWebhook posts an event of the type ping.
func (c *Client) TestWebhook(ctx context.Context, name string) (*api.WebhookTest, error) {
	var out api.WebhookTest
	if err := c.c.Do(ctx, http.MethodPost, "/v1/webhooks/"+url.PathEscape(name)+"/test", nil, nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// SigningKeys lists the keys that sign mail, with the records to publish.
func (c *Client) SigningKeys(ctx context.Context) ([]api.SigningKey, error) {
	return items[api.SigningKey](ctx, c.c, "/v1/signing-keys", nil)
}

// Blocklists lists what DNS blocklists say of the node's sources.
func (c *Client) Blocklists(ctx context.Context) ([]api.Listing, error) {
	return items[api.Listing](ctx, c.c, "/v1/blocklists", nil)
}

// Unclassified lists replies that no rule knows, in groups.
func (c *Client) Unclassified(ctx context.Context) ([]api.StrangeReply, error) {
	return items[api.StrangeReply](ctx, c.c, "/v1/replies/unclassified", nil)
}
