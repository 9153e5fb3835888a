package client

import (
	"context"
	"net/http"
	"net/url"

	"hikyaku/controlplane/api"
)

// Webhooks lists webhooks and how they stand on each node.
func (c *Cluster) Webhooks(ctx context.Context, nodes []string) (*api.ClusterWebhooks, error) {
	return get[api.ClusterWebhooks](ctx, c, "/v1/cluster/webhooks", on(url.Values{}, nodes))
}

// TestWebhook posts an event of the type ping from each node.
func (c *Cluster) TestWebhook(ctx context.Context, nodes []string, name string) (*api.ClusterPings, error) {
	out := &api.ClusterPings{}
	r := request{method: http.MethodPost, path: "/v1/cluster/webhooks/" + url.PathEscape(name) + "/test", query: on(url.Values{}, nodes)}
	if err := c.do(ctx, r, out); err != nil {
		return nil, err
	}
	return out, nil
}

// SigningKeys lists the keys that sign mail, with the records to publish.
func (c *Cluster) SigningKeys(ctx context.Context, nodes []string) (*api.ClusterSigningKeys, error) {
	return get[api.ClusterSigningKeys](ctx, c, "/v1/cluster/signing-keys", on(url.Values{}, nodes))
}

// Blocklists lists what DNS blocklists say of the sources.
func (c *Cluster) Blocklists(ctx context.Context, nodes []string) (*api.ClusterListings, error) {
	return get[api.ClusterListings](ctx, c, "/v1/cluster/blocklists", on(url.Values{}, nodes))
}

// Unclassified lists replies that no rule knows, in groups.
func (c *Cluster) Unclassified(ctx context.Context, nodes []string) (*api.ClusterStrangeReplies, error) {
	return get[api.ClusterStrangeReplies](ctx, c, "/v1/cluster/replies/unclassified", on(url.Values{}, nodes))
}
