package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"hikyaku/controlplane/api"
)

// Transfers lists transfers between nodes whose outcome is not known.
func (c *Cluster) Transfers(ctx context.Context, nodes []string) (*api.ClusterTransfers, error) {
	return get[api.ClusterTransfers](ctx, c, "/v1/cluster/transfers", on(url.Values{}, nodes))
}

// Reclaim takes back the deliveries of a node's transfer whose receiver is gone
// for good. If it is not, their recipients get them twice.
func (c *Cluster) Reclaim(ctx context.Context, node string, number uint64, o *api.ReclaimOrder) (*api.NodeTransfer, error) {
	out := &api.NodeTransfer{}
	path := "/v1/cluster/transfers/" + url.PathEscape(node) + "/" + strconv.FormatUint(number, 10) + "/reclaim"
	if err := c.do(ctx, request{method: http.MethodPost, path: path, in: o}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// AcceptRestored makes the policy of an etcd that was restored from an older
// backup count.
func (p *Policy) AcceptRestored(ctx context.Context, in *api.AcceptRestoredRequest) (*api.Result, error) {
	return p.result(ctx, request{method: http.MethodPost, path: "/v1/policy:accept-restored", in: in})
}
